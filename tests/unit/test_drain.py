"""Draining: who can request it, and what still fits before the deadline."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.hold import Hold
from contracts.names import DRAIN_HOOK_SECONDS
from local.machines.imds import Identity, MetadataServer
from whisper_processor.aws.instance import Metadata
from whisper_processor.errors import Drained
from whisper_processor.worker.drain import (
    Drain,
    drain_on_notices,
    drain_on_signals,
    remaining_seconds,
    until_deadline,
)
from whisper_processor.worker.pulse import Pulse


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def imds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A metadata service; a call of the value makes it announce an interruption."""
    notice = tmp_path / "spot-notice"
    server = MetadataServer(Identity("i-1", "c7i.large", "ami-1", "eu-west-1"), dict, notice)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint)
    yield lambda: (notice.write_text('{"action": "stop"}'), None)[1]
    server.close()


def test_the_worker_sees_a_hold_in_the_instances_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags: dict[str, str] = {}
    identity = Identity("i-1", "c7i.large", "ami-1", "eu-west-1")
    server = MetadataServer(identity, dict, tmp_path / "notice", lambda: tags)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint)
    try:
        assert Metadata().hold() is None
        tags["classreflect:hold"] = "by=anna;until=2026-03-02T08:00:00Z"
        assert Metadata().hold() == Hold(by="anna", until=datetime(2026, 3, 2, 8, tzinfo=UTC))
    finally:
        server.close()
    unread = Metadata().hold()
    assert unread is not None, "no metadata service"
    assert unread.active_at(datetime.now(UTC)), "a hold that cannot be read may be one"


def test_user_data_is_served_where_the_instance_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = Identity("i-1", "c7i.large", "ami-1", "eu-west-1")
    server = MetadataServer(identity, dict, tmp_path / "notice", user_data=lambda: "#!/bin/sh\necho ü\n")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint)
    try:
        assert (Metadata().user_data or b"").decode() == "#!/bin/sh\necho ü\n"
    finally:
        server.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_worker_to_leave(number: signal.Signals, handlers: None) -> None:
    drain = Drain()
    drain_on_signals(drain, 60)
    os.kill(os.getpid(), number)
    assert drain.wait(10)
    assert drain.fits(50)
    assert not drain.fits(70)


def test_a_spot_notice_asks_the_worker_to_leave_before_the_two_minutes_are_over(imds: Callable[[], None]) -> None:
    drain, metadata = Drain(), Metadata()
    drain_on_notices(metadata, drain, every=0.05)
    assert not drain.wait(0.3), "no notice has been given"
    imds()
    assert drain.wait(10)
    assert drain.fits(90)
    assert not drain.fits(120)


def test_a_fleet_that_terminates_its_machine_gives_the_worker_the_hooks_time_and_spot_gives_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice, state, told = tmp_path / "spot-notice", ["InService"], []
    identity = Identity("i-1", "c7i.large", "ami-1", "eu-west-1")
    server = MetadataServer(identity, dict, notice, lifecycle=lambda: state[0])
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint)
    try:
        drain, metadata = Drain(), Metadata()
        drain_on_notices(metadata, drain, every=0.05, on_spot=lambda: told.append("spot"))
        assert not drain.wait(0.3), "the group keeps the machine"
        assert not metadata.retiring()
        state[0] = "Terminated"
        assert drain.wait(10)
        assert metadata.retiring()
        assert drain.fits(DRAIN_HOOK_SECONDS - 30)
        assert not drain.fits(DRAIN_HOOK_SECONDS)
        notice.write_text("{}")
        deadline = time.monotonic() + 10
        while not told and time.monotonic() < deadline:
            time.sleep(0.05)
        assert told == ["spot"]
        assert not drain.fits(120)
    finally:
        server.close()


def test_a_second_request_never_extends_the_deadline() -> None:
    now = [0.0]
    drain = Drain(clock=lambda: now[0])
    drain.request(10)
    now[0] = 5.0
    drain.request(10)
    assert drain.fits(5)
    assert not drain.fits(6)
    drain.request(2)
    assert not drain.fits(3), "but it may leave less"


def test_everything_fits_without_a_request() -> None:
    assert Drain().fits(1e9)


def test_results_are_written_until_the_deadline_has_passed() -> None:
    now = [0.0]
    drain = Drain(clock=lambda: now[0])
    tick = until_deadline(drain, Pulse())
    tick()
    drain.request(10)
    now[0] = 9.0
    tick()
    now[0] = 11.0
    with pytest.raises(Drained):
        tick()


def test_what_is_left_of_a_job_is_estimated_from_what_is_done() -> None:
    assert remaining_seconds(elapsed=10, fraction=0.25) == pytest.approx(30)
    assert remaining_seconds(elapsed=10, fraction=0) == float("inf")
