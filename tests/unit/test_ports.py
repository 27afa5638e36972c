"""A port drawn for a server belongs to the process that drew it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from local.errors import LocalError
from local.platform import ports
from ops.settings import REPOSITORY

DRAW = "from local.platform.ports import free_port; print(*[free_port() for _ in range(300)], flush=True); input()"


def test_processes_never_draw_the_same_port() -> None:
    drawing = [
        subprocess.Popen(
            [sys.executable, "-c", DRAW], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    drawn: list[str] = []
    try:
        for process in drawing:
            assert process.stdout is not None
            drawn += process.stdout.readline().split()
    finally:
        for process in drawing:
            process.communicate("\n", timeout=30)
    assert len(set(drawn)) == len(drawn) == 900


def test_a_process_never_draws_a_port_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free_port()
    monkeypatch.setattr(ports, "_RANGE", range(port, port + 1))
    with pytest.raises(LocalError, match="no port"):
        ports.free_port()


def test_a_port_that_something_listens_on_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(ports, "_RANGE", range(taken, taken + 1))
        with pytest.raises(LocalError, match="no port"):
            ports.free_port()
