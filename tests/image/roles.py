"""What the roles say: the expectations of these tests have no other home."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[2] / "ansible" / "roles"
_REFERENCE = re.compile(r"\{\{ (\w+) \}\}")


@cache
def defaults() -> dict[str, Any]:
    """All roles' defaults, with references to each other filled in; what the build host gives stays open."""
    found: dict[str, Any] = {}
    for path in sorted(ROLES.glob("*/defaults/main.yml")):
        found |= yaml.safe_load(path.read_text())

    def fill(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        filled = _REFERENCE.sub(lambda match: str(found.get(match[1], match[0])), value)
        return filled if filled == value else fill(filled)

    return {name: fill(value) for name, value in found.items()}


def text(name: str) -> str:
    return str(defaults()[name])


def items(name: str) -> list[str]:
    values = [str(value) for value in defaults()[name]]
    return [_REFERENCE.sub(lambda match: text(match[1]), value) for value in values]
