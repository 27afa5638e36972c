"""Start ministack with what it lacks. Run by path: the project is not installed in the emulator's venv.

`LOCAL_CLOUD_ROOT` is the cloud's folder. An instance takes PENDING_SECONDS to start and STOPPING_SECONDS to
stop.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ministack import app

sys.path.append(str(Path(__file__).resolve().parent.parent.parent))
from local.emulator import autoscaling, cloudwatch, ec2, iam, images, ssm  # found by the line above


def main() -> None:
    folder = Path(os.environ["LOCAL_CLOUD_ROOT"])
    ec2.complete(
        folder,
        pending=float(os.environ.get("PENDING_SECONDS", "2")),
        stopping=float(os.environ.get("STOPPING_SECONDS", "2")),
    )
    images.complete()
    autoscaling.complete()
    ssm.complete(folder)
    cloudwatch.complete(folder)
    iam.complete()
    app.main()


if __name__ == "__main__":
    main()
