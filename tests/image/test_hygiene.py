"""What the finished image holds before any machine boots from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.roles import defaults, items, text

pytestmark = pytest.mark.booted


def inside(disk: Path, path: str) -> Path:
    return disk / path.lstrip("/")


def test_the_machine_id_is_empty(disk: Path) -> None:
    """With one in it, all machines would be the same to DHCP and to the journal."""
    assert inside(disk, text("cleanup_machine_id")).read_bytes() == b""


@pytest.mark.parametrize("path", items("cleanup_removed"))
def test_it_is_removed(disk: Path, path: str) -> None:
    assert not inside(disk, path).exists()


@pytest.mark.parametrize("rule", defaults()["cleanup_files"], ids=lambda rule: rule["folder"])
def test_no_such_file_is_left(disk: Path, rule: dict[str, list[str]]) -> None:
    """Logs that a shutdown itself writes are small: the record of it."""
    folder = inside(disk, str(rule["folder"]))
    left = [p for pattern in rule["patterns"] for p in folder.rglob(pattern) if p.is_file() and not p.is_symlink()]
    written_at_shutdown = {"wtmp", "lastlog"}
    assert [p for p in left if p.name not in written_at_shutdown] == []


@pytest.mark.parametrize("path", items("cleanup_pip_caches"))
def test_there_is_no_pip_cache(disk: Path, path: str) -> None:
    folder = inside(disk, path)
    assert not folder.exists() or not list(folder.rglob("pip/http*"))


def test_no_wheels_are_left(disk: Path) -> None:
    assert list(inside(disk, "/opt/whisper").rglob("*.whl")) == []
    assert list(inside(disk, "/tmp").iterdir()) == []
