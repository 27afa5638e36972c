"""`python -m whisper_processor`, and the documented `python3.11 processor.py`: run the worker."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from whisper_processor.composition import run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, metavar="SAMPLE", help="transcribe it and exit, taking no lesson")
    return run(sample=parser.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
