"""A Spot interruption in the local cloud: the notice, and two minutes later the termination."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ops.aws.connection import Connection

NOTICE_SECONDS = 120.0


def interrupt(aws: Connection, root: Path, instance_id: str, seconds: float = NOTICE_SECONDS) -> threading.Thread:
    """Serve the notice in the instance's metadata, and terminate it after `seconds`, whatever its worker does.

    Returns the thread that waits for that.
    """
    at = datetime.now(UTC) + timedelta(seconds=seconds)
    notice = {"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    (root / "instances" / instance_id / "spot-notice").write_text(json.dumps(notice))

    def take() -> None:
        time.sleep(seconds)
        aws.ec2.terminate_instances(InstanceIds=[instance_id])

    thread = threading.Thread(target=take, name="spot", daemon=True)
    thread.start()
    return thread
