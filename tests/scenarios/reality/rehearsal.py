"""Real lessons through a local cloud, one machine or a fleet, and what its logs tell of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import autoscaler.decision
from autoscaler.decision import Config
from contracts.capacity import CapacityMode
from contracts.jobs import JobStatus
from contracts.keys import Owner
from ops.aws.connection import Connection
from ops.aws.logs import LogEvent, read_events
from ops.capacity import mode
from ops.lessons import lesson
from ops.settings import OpsSettings
from testbed.media import SAMPLE, ffmpeg
from tests.scenarios.reality.comparison import Comparison, Measured, Seen, Service, compare

POLL_WAIT = 2
EMPTY_POLLS = 3
SETTINGS = {"POLL_WAIT_SECONDS": str(POLL_WAIT), "EMPTY_POLLS": str(EMPTY_POLLS)}
FLEET_SETTINGS = SETTINGS | {"WHISPER_THREADS": "1"}  # several workers share a few cores
FLEET = {
    "capacity_mode": CapacityMode.FLEET,
    "fleet_maximum": 2,
    # A short lesson or two are work for one, more for all.
    "fleet_target_wait_minutes": 1.0,
    "fleet_boot_minutes": 0.0,
    "fleet_audio_minutes_per_minute": 1.5,
    "fleet_mean_lesson_minutes": 1.0,
    "fleet_scale_out_cooldown_minutes": 0.0,
}
"""How a fleet of this size is configured."""
_OWNER = Owner(school_id=1, teacher_id=1)
_PATIENCE = 600.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Upload:
    after: float
    """Seconds after the first of its burst."""
    audio: int
    """Seconds."""


@dataclass(frozen=True)
class Size:
    calibration: Sequence[int]
    """Seconds of audio; one lesson after the other, so that none waits for another."""
    bursts: Sequence[Sequence[Upload]]
    """Each is sent when the machine has stopped after the one before,"""
    rest: float = 30.0
    """and as many seconds later, so that it has stopped in the simulation too."""


FULL = Size(
    calibration=(20, 80, 50),
    bursts=(
        (Upload(0, 60), Upload(1, 30), Upload(2, 90), Upload(3, 45), Upload(20, 60), Upload(22, 20)),
        (Upload(0, 75), Upload(4, 30), Upload(5, 60)),
    ),
)
SHORT = Size(
    calibration=(20, 50),
    bursts=(
        (Upload(0, 40), Upload(1, 20), Upload(2, 60), Upload(3, 30), Upload(12, 40), Upload(14, 20)),
        (Upload(0, 40), Upload(1, 20)),
    ),
    rest=15.0,
)


def rehearse(aws: Connection, folder: Path, size: Size, say: Say) -> Comparison:
    """Measure this cloud, send the bursts, compare. Nothing runs before and afterwards."""
    measured = measure(aws, folder, size.calibration, say)
    kind = measured.kind
    say(
        f"measured here: boot {measured.boot:.1f} s, {kind.real_time_factor:.3f} s for a second of audio,"
        f" {kind.overhead_seconds:.1f} s for a lesson, {kind.model_load_seconds:.1f} s for the model,"
        f" stop {measured.stop:.1f} s"
    )
    began = datetime.now(UTC)
    sent: list[tuple[str, float, int]] = []  # job, when, audio
    for burst in size.bursts:
        if sent:
            time.sleep(size.rest)
        say(f"{len(burst)} lessons within {burst[-1].after:g} s")
        sent += _send(aws, folder, burst)
        _wait_for(aws, [job for job, _, _ in sent])
        mode.of(aws).wait_idle(aws, 120)
    events = read_events(aws, began)
    first = sent[0][1]
    seen = [Seen(when - first, audio, _started(events, job).fields["queue_wait"]) for job, when, audio in sent]
    fleet = aws.settings.capacity_mode is CapacityMode.FLEET
    return compare(
        seen,
        len(_named(events, "polling_started")),
        measured,
        fleet_config(aws.settings) if fleet else None,
        aws.settings.fleet_maximum if fleet else 1,
    )


def fleet_config(settings: OpsSettings) -> Config:
    """The autoscaler's, as `make deploy-lambda` gives it to the function."""
    return Config(
        capacity_mode=autoscaler.decision.CapacityMode.FLEET,
        target_wait=timedelta(minutes=settings.fleet_target_wait_minutes),
        boot=timedelta(minutes=settings.fleet_boot_minutes),
        audio_minutes_per_minute=settings.fleet_audio_minutes_per_minute,
        mean_lesson_minutes=settings.fleet_mean_lesson_minutes,
        scale_out_cooldown=timedelta(minutes=settings.fleet_scale_out_cooldown_minutes),
    )


def measure(aws: Connection, folder: Path, calibration: Sequence[int], say: Say) -> Measured:
    """The figures of this cloud, from lessons that wait for nothing but the boot."""
    say(f"measuring with {len(calibration)} lessons")
    began = datetime.now(UTC)
    jobs = []
    for audio in calibration:
        jobs.append(lesson.submit(aws, recording(folder, audio), _OWNER, {}))
        _wait_for(aws, jobs)
    mode.of(aws).wait_idle(aws, 120)
    stopped = datetime.now(UTC)
    events = read_events(aws, began)
    done = {event.fields["job_id"]: event for event in _named(events, "job_completed")}
    services = [
        Service(
            audio=done[job].fields["audio_seconds"],
            work=(done[job].time - _started(events, job).time).total_seconds(),
            model_load=done[job].fields["model_load_seconds"],
        )
        for job in jobs
    ]
    asked = next(event for event in events if event.fields.get("action") in ("start", "scale_out"))
    return Measured(
        services=services,
        boot=(_named(events, "polling_started")[0].time - asked.time).total_seconds(),
        stop=max(0.0, (stopped - _named(events, "instance_stopping")[-1].time).total_seconds()),
        poll_wait=POLL_WAIT,
        empty_polls=EMPTY_POLLS,
    )


def recording(folder: Path, seconds: int) -> Path:
    """The sample lesson, over and over, to this length."""
    path = folder / f"lesson-{seconds}.flac"
    if not path.exists():
        ffmpeg("-stream_loop", "-1", "-i", str(SAMPLE), "-t", str(seconds), str(path))
    return path


def _send(aws: Connection, folder: Path, burst: Sequence[Upload]) -> list[tuple[str, float, int]]:
    files = [recording(folder, upload.audio) for upload in burst]
    began = time.monotonic()
    sent = []
    for upload, file in zip(burst, files, strict=True):
        time.sleep(max(0.0, began + upload.after - time.monotonic()))
        job = lesson.submit(aws, file, _OWNER, {})
        sent.append((job, time.time(), upload.audio))
    return sent


def _wait_for(aws: Connection, jobs: Sequence[str]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = [lesson.find_job(aws, job) for job in jobs]
        if all(job.ended for job in found):
            assert {job.status for job in found} == {JobStatus.COMPLETED}, found
            return
        assert time.monotonic() < deadline, f"not done within {_PATIENCE:.0f} s: {found}"
        time.sleep(0.5)


def _named(events: Sequence[LogEvent], name: str) -> list[LogEvent]:
    return [event for event in events if event.fields.get("event") == name]


def _started(events: Sequence[LogEvent], job: str) -> LogEvent:
    return next(event for event in _named(events, "job_started") if _of(event) == job)


def _of(event: LogEvent) -> Any:
    return event.fields.get("job_id")
