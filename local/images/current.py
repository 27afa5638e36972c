"""The image that `make image` baked last on this machine, and the id under which the local cloud offers it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ops.settings import REPOSITORY

WORK = REPOSITORY / ".local" / "image"
_RECORD = WORK / "current.json"
_PLACEHOLDER = "ami-0123456789abcdef0"
"""A machine that is a process has no image."""


@dataclass(frozen=True)
class Baked:
    """What `make image` made."""

    image_id: str
    root: Path
    inputs: str
    seconds: float


def current_baked() -> Baked | None:
    """What `make image` made last on this machine."""
    try:
        found = json.loads(_RECORD.read_text())
    except FileNotFoundError:
        return None
    baked = Baked(found["image_id"], Path(found["root"]), found["inputs"], found["seconds"])
    return baked if baked.root.is_dir() else None


def keep_as_current(baked: Baked) -> None:
    record = {
        "image_id": baked.image_id,
        "root": str(baked.root),
        "inputs": baked.inputs,
        "seconds": round(baked.seconds, 1),
    }
    unfinished = _RECORD.with_name("current.json.new")
    unfinished.write_text(json.dumps(record, indent=2) + "\n")
    unfinished.replace(_RECORD)


def offered_image_id() -> str:
    """The image that the local cloud's instances are launched from."""
    baked = current_baked()
    return baked.image_id if baked else _PLACEHOLDER
