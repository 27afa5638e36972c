"""The revision of this checkout."""

from __future__ import annotations

import subprocess

from ops.settings import REPOSITORY


def revision() -> str:
    """The commit, twelve digits of it; with `-dirty` when the checkout differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{commit}-dirty" if git("status", "--porcelain") else commit
