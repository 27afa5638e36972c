"""Compile requirements/*.in to the locks: `make lock`. Like the set-up, it needs the standard library only."""

from __future__ import annotations

import sys

from tools.bootstrap import REQUIREMENTS, BootstrapError, prepare_uv

# In this order: image.lock constrains updater.in, and project.lock what is installed beside it.
LOCKS = ("uv", "processor", "project", "emulator", "chaos", "awscli", "image", "updater", "bench")
BESIDE_PROJECT = ("torch-needs", "planner", "openai-whisper")
# Extra indexes and local wheels may hold only some files of a version, and the lock needs the hash of every one.
MAIN_INDEX_ONLY = {"UV_INDEX": "", "UV_FIND_LINKS": ""}


def main() -> None:
    try:
        uv = prepare_uv()
        for name in (*LOCKS, *BESIDE_PROJECT):
            arguments = ["--python", sys.executable, "--generate-hashes", "--custom-compile-command", "make lock"]
            if name in BESIDE_PROJECT:
                arguments += ["-c", "project.lock"]
            if (REQUIREMENTS / f"{name}.excludes").exists():
                arguments += ["--excludes", f"{name}.excludes"]
            arguments += ["-o", f"{name}.lock", f"{name}.in"]
            uv.run(f"{name}.lock", "pip", "compile", "--directory", REQUIREMENTS, *arguments, **MAIN_INDEX_ONLY)
    except BootstrapError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
