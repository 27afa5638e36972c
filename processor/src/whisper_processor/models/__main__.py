"""`python -m whisper_processor.models fetch base --models-dir DIR`: run by the image's roles."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from contracts.jobs import EngineName
from whisper_processor.models.catalogue import ModelError, installed
from whisper_processor.models.fetch import fetch


def main() -> int:
    parser = argparse.ArgumentParser(prog="whisper-models", description="Fetch and verify Whisper models.")
    parser.add_argument("verb", choices=["fetch", "list"])
    parser.add_argument("name", nargs="?", default="base")
    parser.add_argument("--engine", type=EngineName, choices=list(EngineName), default=EngineName.FASTER_WHISPER)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--from", dest="source", type=Path, help="a directory to take the files from first")
    options = parser.parse_args()
    if options.verb == "list":
        sys.stdout.writelines(f"{name}\n" for name in installed(options.models_dir, options.engine))
        return 0
    try:
        fetch(options.name, options.engine, options.models_dir, options.source, print)
    except ModelError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
