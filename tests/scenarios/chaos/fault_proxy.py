"""Start microburst with a fix: as released it drops Content-Length from every answer, as no AWS service does.

Without it S3's HEAD tells no size, and a body that ends early cannot be told from a short one. Runs in the venv of
`requirements/chaos.in`, so it imports nothing of the project.
"""

from __future__ import annotations

import sys

from microburst import cli, forward

if __name__ == "__main__":
    forward.HOP_BY_HOP = forward.HOP_BY_HOP - {"content-length"}
    sys.exit(cli.main())
