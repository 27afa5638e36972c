#!/usr/bin/python3.11
"""Run the worker by hand, with the interpreter, the packages and the settings of its unit.

cd /opt/whisper && python3.11 processor.py
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

PYTHON = Path(__file__).absolute().parent / "current" / "bin" / "python"
ENVIRONMENT = Path("/etc/whisper-processor/environment")
"""The role's `processor_environment_file`."""


def main() -> None:
    with suppress(FileNotFoundError):
        for line in ENVIRONMENT.read_text().splitlines():
            name, separator, value = line.strip().partition("=")
            if separator and not name.startswith("#"):
                os.environ.setdefault(name, value)
    os.execv(PYTHON, [str(PYTHON), "-m", "whisper_processor", *sys.argv[1:]])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
