"""What a simulation is given, and the record it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from autoscaler.decision import Action, Config
from planner.figures import Polling

EPOCH = datetime(2026, 1, 5, tzinfo=UTC)
"""Midnight of a Monday; the simulation counts seconds from here."""
TICK_SECONDS = 60.0


@dataclass(frozen=True)
class Kind:
    """How fast a machine of one type is."""

    name: str
    real_time_factor: float
    overhead_seconds: float
    model_load_seconds: float

    def seconds(self, audio_seconds: float) -> float:
        return self.overhead_seconds + self.real_time_factor * audio_seconds


@dataclass(frozen=True)
class Setup:
    config: Config
    """The autoscaler's. Its capacity mode decides between one machine and a fleet."""
    kinds: tuple[Kind, ...]
    """Each new machine is one of these; with several, any."""
    polling: Polling
    boot_seconds: float
    """From the launch request to the first poll, on average."""
    pending_seconds: float
    """The part of `boot_seconds` until EC2 says `running` and bills."""
    stop_seconds: float
    boot_spread: float = 0.0
    maximum: int = 1
    """Of machines, in a fleet."""
    interruptions_per_hour: float = 0.0
    """Of one machine, by Spot."""
    notice_seconds: float = 120.0
    prefetch: bool = True
    """Whether a worker takes its next lesson while it transcribes, as ours does."""
    scale: int = 1
    """An approximation: each lesson of the trace stands for this many, and so does each machine of a fleet."""
    seed: int = 1


@dataclass(frozen=True)
class Span:
    """One machine's time that is billed, from `running` to `stopping`; seconds since the first midnight."""

    kind: str
    start: float
    end: float


@dataclass
class Run:
    """What happened. Counts are of the real system: with a scale they are multiplied."""

    setup: Setup
    uploaded: NDArray[np.float64]
    """For each lesson, as are the next two; seconds since the first midnight."""
    started: NDArray[np.float64]
    """When the transcription began that was completed."""
    done: NDArray[np.float64]
    times_done: NDArray[np.int64]
    audio_seconds: NDArray[np.float64]
    spans: list[Span] = field(default_factory=list)
    """One for each simulated machine and start."""
    minute: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Each minute: visible, in flight, machines billed, machines transcribing."""
    launches: list[float] = field(default_factory=list)
    """When each simulated machine was launched."""
    actions: dict[Action, int] = field(default_factory=dict)
    interruptions: int = 0
    given_back: int = 0
    """Lessons that a machine began and gave back."""
    peak_in_flight: int = 0
    peak_machines: int = 0
    end: float = 0.0
    """When the last lesson was done and the last machine gone."""

    @property
    def waits(self) -> NDArray[np.float64]:
        """From the upload to the start of the transcription, in seconds."""
        return self.started - self.uploaded

    @property
    def turnarounds(self) -> NDArray[np.float64]:
        """From the upload to the transcript, in seconds."""
        return self.done - self.uploaded

    @property
    def lessons(self) -> int:
        return len(self.uploaded) * self.setup.scale

    @property
    def machine_hours(self) -> float:
        return self.setup.scale * sum(span.end - span.start for span in self.spans) / 3600


def moment(seconds: float) -> datetime:
    """As a time for the autoscaler, in whole seconds."""
    return EPOCH + timedelta(seconds=int(seconds // 1))
