"""The set-up: what an interruption leaves is not trusted, and uv gets pip's package sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools import bootstrap
from tools.bootstrap import BootstrapError, Part, Uv, install_environments


@dataclass(frozen=True)
class FakeUv(Uv):
    """Creates empty environments and installs nothing."""

    program: Path = Path("uv")
    sources: Mapping[str, str] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def run(self, what: str, *arguments: str | Path, **variables: str) -> None:
        self.ran.append(what)
        if arguments[0] == "venv":
            python = Path(arguments[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> FakeUv:
    uv = FakeUv()
    monkeypatch.setattr(bootstrap, "prepare_uv", lambda: uv)
    return uv


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    lock = tmp_path / "tool.lock"
    lock.write_text("tool==1\n")
    return lock


def part(lock: Path, name: str = "tool") -> Part:
    return Part(name, [lock], lambda uv, _folder: uv.run(f"install {name}", "pip"))


def broken(lock: Path) -> Part:
    def install(_uv: Uv, _folder: Path) -> None:
        raise BootstrapError("the index does not answer")

    return Part("tool", [lock], install)


def test_the_second_run_does_nothing(uv: FakeUv, lock: Path, tmp_path: Path) -> None:
    for _ in range(2):
        install_environments({tmp_path / "venv": [part(lock)]})
    assert uv.ran == ["environment venv", "install tool"]


def test_a_changed_lock_is_installed_into_the_same_environment(uv: FakeUv, lock: Path, tmp_path: Path) -> None:
    install_environments({tmp_path / "venv": [part(lock)]})
    lock.write_text("tool==2\n")
    install_environments({tmp_path / "venv": [part(lock)]})
    assert uv.ran == ["environment venv", "install tool", "install tool"]


def test_a_further_part_leaves_the_first_alone(uv: FakeUv, lock: Path, tmp_path: Path) -> None:
    install_environments({tmp_path / "venv": [part(lock)]})
    install_environments({tmp_path / "venv": [part(lock), part(lock, "more")]})
    assert uv.ran == ["environment venv", "install tool", "install more"]


def test_an_interrupted_environment_is_created_anew(uv: FakeUv, lock: Path, tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="does not answer"):
        install_environments({tmp_path / "venv": [broken(lock)]})
    install_environments({tmp_path / "venv": [part(lock)]})
    assert uv.ran == ["environment venv", "environment venv", "install tool"]


def test_one_failure_does_not_stop_the_other_environments(uv: FakeUv, lock: Path, tmp_path: Path) -> None:
    with pytest.raises(BootstrapError):
        install_environments({tmp_path / "one": [broken(lock)], tmp_path / "two": [part(lock)]})
    assert "install tool" in uv.ran


def test_uv_reads_the_package_sources_of_pip() -> None:
    listed = "\n".join(
        [
            ":env:.find-links='/wheels/a /wheels/b'",
            ":env:.index-url='https://mirror.example/simple'",
            "global.cert='/etc/ca.pem'",
            "global.constraint='/etc/constraints.txt'",
            "global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'",
            "global.index-url='https://overridden.example/simple'",
            "install.no-index='false'",
        ]
    )
    variables = bootstrap._uv_variables(listed)
    assert variables["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert variables["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert variables["UV_FIND_LINKS"] == "/wheels/a,/wheels/b"
    assert variables["UV_OFFLINE"] == "false"
    assert variables["SSL_CERT_FILE"] == "/etc/ca.pem"
    assert "/etc/constraints.txt" not in variables.values()
