"""`python -m ops <verb>`: the commands behind the Makefile."""

from __future__ import annotations

import sys

from ops.cli.application import application
from ops.cli.errors import run

app = application()

if __name__ == "__main__":
    sys.exit(run(app))
