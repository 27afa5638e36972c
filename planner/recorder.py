"""What the simulation counts as it goes, and how it becomes the record of a run."""

from __future__ import annotations

import numpy as np

from planner.lesson_queue import Message
from planner.model import Run, Setup, Span
from planner.trace import Trace


class Recorder:
    """Counts are of the simulation; `finish` multiplies them to the real system's."""

    def __init__(self, trace: Trace, setup: Setup) -> None:
        count = len(trace)
        self.open = count
        """Lessons not done yet."""
        self.billed = 0
        """Machines that EC2 bills now."""
        self.busy = 0
        """Machines that transcribe now."""
        self._lessons_done = 0
        self._audio_done = 0.0
        self.run = Run(
            setup=setup,
            uploaded=trace.at,
            started=np.full(count, np.nan),
            done=np.full(count, np.nan),
            times_done=np.zeros(count, dtype=np.int64),
            audio_seconds=trace.seconds,
        )

    def audio_minutes(self, backlog: int) -> float | None:
        """The backlog's audio, from the mean of the lessons done so far. None before the first."""
        done = self._lessons_done
        return backlog * self._audio_done / done / 60 if done else None

    def machine_runs(self) -> None:
        self.billed += 1
        self.run.peak_machines = max(self.run.peak_machines, self.billed)

    def machine_ended(self, span: Span) -> None:
        self.run.spans.append(span)
        self.billed -= 1

    def transcription_begins(self, in_flight: int) -> None:
        self.run.peak_in_flight = max(self.run.peak_in_flight, in_flight)
        self.busy += 1

    def transcription_ends(self) -> None:
        self.busy -= 1

    def lesson_done(self, message: Message, started: float, now: float) -> None:
        self._lessons_done += 1
        self._audio_done += message.seconds
        self.run.started[message.lesson] = started
        self.run.done[message.lesson] = now
        self.run.times_done[message.lesson] += 1
        self.open -= 1

    def minute(self, visible: int, in_flight: int) -> None:
        self.run.minute.append((visible, in_flight, self.billed, self.busy))

    def finish(self, now: float) -> Run:
        run, scale = self.run, self.run.setup.scale
        run.end = now
        run.minute = [(v * scale, f * scale, m * scale, b * scale) for v, f, m, b in run.minute]
        run.peak_in_flight *= scale
        run.peak_machines *= scale
        run.interruptions *= scale
        run.given_back *= scale
        return run
