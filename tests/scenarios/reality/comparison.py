"""What was seen, what is simulated from the same figures, and whether the two agree. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from autoscaler.decision import Config
from planner.figures import Polling
from planner.model import Kind, Setup
from planner.simulation import Simulation
from planner.trace import DAY, Trace

FACTOR = 2.0
SLACK_SECONDS = 10.0
"""Means may differ by so much: the machine that is looked at is shared, and speeds up and slows down."""
RANK = 0.7
_START = DAY / 2
"""The simulated noon is when the first lesson was sent."""


@dataclass(frozen=True)
class Service:
    """One lesson as the worker took it: seconds of audio, seconds of work, seconds of these to load the model."""

    audio: float
    work: float
    model_load: float


@dataclass(frozen=True)
class Measured:
    """Of this cloud, on lessons before those that are compared. Seconds."""

    services: Sequence[Service]
    boot: float
    """From the upload that started the machine to its first poll."""
    stop: float
    """From the worker's last word to `stopped`."""
    poll_wait: float
    empty_polls: int

    @property
    def kind(self) -> Kind:
        """A straight line through the lessons; through the origin where noise hides what each takes."""
        audio = np.array([each.audio for each in self.services])
        work = np.array([each.work - each.model_load for each in self.services])
        slope, overhead = np.polyfit(audio, work, 1) if len(audio) > 1 else (0.0, 0.0)
        if slope <= 0 or overhead < 0:
            slope, overhead = work.sum() / audio.sum(), 0.0
        load = max(each.model_load for each in self.services)
        return Kind("this machine", float(slope), float(overhead), float(load))


@dataclass(frozen=True)
class Seen:
    """One lesson: when it was sent, after the first one; how long it waited. Seconds."""

    sent: float
    audio: float
    wait: float


@dataclass(frozen=True)
class Comparison:
    seen: Sequence[Seen]
    simulated: Sequence[float]
    """Waits of the same lessons."""
    starts_seen: int
    starts_simulated: int
    starts_may_differ: int = 0
    """In a fleet a lesson more or less in the queue at a tick is a machine more or less."""

    @property
    def means(self) -> tuple[float, float]:
        return float(np.mean([each.wait for each in self.seen])), float(np.mean(self.simulated))

    @property
    def rank_correlation(self) -> float:
        """Spearman's: 1 when the lessons that waited longest here are those that did in the simulation."""
        here, simulated = (
            np.argsort(np.argsort(waits)) for waits in ([each.wait for each in self.seen], self.simulated)
        )
        return float(np.corrcoef(here, simulated)[0, 1])

    def problems(self) -> Iterator[str]:
        here, simulated = self.means
        if not simulated / FACTOR - SLACK_SECONDS <= here <= simulated * FACTOR + SLACK_SECONDS:
            yield f"lessons waited {here:.1f} s on average, and {simulated:.1f} s in the simulation"
        if self.rank_correlation < RANK:
            yield f"other lessons waited long: rank correlation {self.rank_correlation:.2f}, below {RANK}"
        if abs(self.starts_seen - self.starts_simulated) > self.starts_may_differ:
            yield f"{self.starts_seen} starts, and {self.starts_simulated} in the simulation"

    def table(self) -> Table:
        table = Table("lesson", "sent s", "audio s", "waited s", "simulated s", box=None)
        for number, (seen, simulated) in enumerate(zip(self.seen, self.simulated, strict=True), start=1):
            table.add_row(
                str(number), f"{seen.sent:.1f}", f"{seen.audio:.0f}", f"{seen.wait:.1f}", f"{simulated:.1f}"
            )
        here, mean = self.means
        table.add_row("mean", "", "", f"{here:.1f}", f"{mean:.1f}")
        return table


def compare(
    seen: Sequence[Seen], starts: int, measured: Measured, config: Config | None = None, maximum: int = 1
) -> Comparison:
    """Simulate the lessons that were seen, in order of sending, with what was measured.

    `config` is the autoscaler's; by default for one machine. `maximum` is of a fleet.
    """
    trace = Trace(np.array([_START + each.sent for each in seen]), np.array([each.audio for each in seen]), days=1)
    run = Simulation(trace, _setup(measured, config or Config(), maximum)).run()
    return Comparison(seen, run.waits.tolist(), starts, len(run.launches), starts_may_differ=2 * (maximum > 1))


def _setup(measured: Measured, config: Config, maximum: int) -> Setup:
    return Setup(
        config=config,
        maximum=maximum,
        kinds=(measured.kind,),
        polling=Polling(measured.poll_wait, measured.empty_polls, drain_seconds=90.0),
        boot_seconds=measured.boot,
        pending_seconds=min(1.0, measured.boot),
        stop_seconds=measured.stop,
    )
