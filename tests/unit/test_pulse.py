"""The loop's liveness, as systemd and the instance's heartbeat see it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from contracts.heartbeat import parse_heartbeat
from whisper_processor.aws.instance import Machine
from whisper_processor.worker.drain import Drain
from whisper_processor.worker.heartbeat import Now, start_heartbeat
from whisper_processor.worker.pulse import Pulse


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        yield manager


def test_systemd_is_notified_of_readiness_and_then_fed(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    pulse = Pulse()
    pulse.ready()
    assert systemd.recv(100) == b"READY=1\n"
    assert systemd.recv(100) == b"WATCHDOG=1\n"
    pulse.beat()
    assert systemd.recv(100) == b"WATCHDOG=1\n"
    pulse.say("polling")
    assert systemd.recv(100) == b"STATUS=polling\n"


def test_systemd_is_fed_no_more_often_than_it_needs(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3600000000")
    pulse = Pulse()
    for _ in range(100):
        pulse.beat()
    systemd.setblocking(False)
    assert systemd.recv(100) == b"WATCHDOG=1\n"
    with pytest.raises(BlockingIOError):
        systemd.recv(100)


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    pulse = Pulse()
    pulse.ready()
    pulse.beat()


class Tags:
    """An EC2 client that keeps the tags it is given."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self.told = threading.Event()

    def create_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> None:  # noqa: N803
        self.values.append(Tags[0]["Value"])
        self.told.set()


def busy() -> Now:
    return Now("job 1/ü", 40)


def test_the_heartbeat_names_the_job_in_characters_a_tag_can_hold() -> None:
    tags, drain = Tags(), Drain()
    thread = start_heartbeat(busy, Machine(cast("object", tags), "i-1"), Pulse(), drain, 60)  # type: ignore[arg-type]
    assert tags.told.wait(10)
    drain.request(0)
    thread.join(10)
    moment, rest = tags.values[0].split(" ", 1)
    assert rest == "busy job_1/_ 40%"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()) < 60


def test_a_crash_loop_is_reported_in_the_heartbeats_tag() -> None:
    tags = Tags()
    Machine(cast("object", tags), "i-1").crashed()  # type: ignore[arg-type]
    told = parse_heartbeat(tags.values[0])
    assert told is not None
    assert told.crashed


def test_the_heartbeat_stops_while_the_loop_hangs() -> None:
    now = [0.0]
    pulse = Pulse(clock=lambda: now[0])
    now[0] = 1000.0
    tags, drain = Tags(), Drain()
    machine = Machine(cast("object", tags), "i-1")  # type: ignore[arg-type]
    thread = start_heartbeat(busy, machine, pulse, drain, 60, look_every=0.02)
    assert not tags.told.wait(0.5)
    pulse.beat()
    assert tags.told.wait(10), "it comes back with the loop"
    drain.request(0)
    thread.join(10)
