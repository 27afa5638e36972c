"""The simulation: machines, queue and clock are made up, what to do is asked of the autoscaler's own `decide()`.

One process for the uploads, one for the one-minute rule, one for each machine's life. What a machine does between
events (heartbeats, progress, lease extensions) is computed when somebody looks, not simulated.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import cast

import numpy as np
import simpy
from numpy.typing import NDArray

from autoscaler.decision import Action, Config, Decision, Group, Instance, Snapshot, decide
from autoscaler.tags import TrackedCondition
from contracts.capacity import CapacityMode
from contracts.heartbeat import Heartbeat
from ops.errors import OpsError
from planner.figures import Polling
from planner.lesson_queue import LessonQueue, Letter
from planner.trace import DAY, Trace

EPOCH = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday's midnight; the simulation counts seconds from here."""
TICK_SECONDS = 60.0
_HEARTBEAT_SECONDS = 60.0
_SPOT_CHECK_SECONDS = 5.0
_SPOT_GOODBYE_SECONDS = 10.0
_LONGEST_DELAY = 14 * DAY
"""So long SQS keeps a message."""

_Steps = Generator[simpy.Event, object, None]


@dataclass(frozen=True)
class Kind:
    """What a machine of some type makes of a lesson."""

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
    """From being asked for to the first poll, on average."""
    pending_seconds: float
    """Of these, until EC2 says `running` and bills."""
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
    """Approximation: each lesson of the trace stands for so many, and so does each machine of a fleet."""
    seed: int = 1


@dataclass(frozen=True)
class Span:
    """One machine's time that is billed, from `running` to `stopping`; seconds since the first midnight."""

    kind: str
    start: float
    end: float


@dataclass
class Run:
    """What happened. Counts are of the real system: where one stood for many, they are multiplied."""

    setup: Setup
    uploaded: NDArray[np.float64]
    """For each lesson, as are the next two; seconds since the first midnight."""
    started: NDArray[np.float64]
    """When the transcription began that came to its end."""
    done: NDArray[np.float64]
    times_done: NDArray[np.int64]
    audio_seconds: NDArray[np.float64]
    spans: list[Span] = field(default_factory=list)
    """One for each simulated machine and start."""
    minute: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Each minute: visible, in flight, machines billed, machines transcribing."""
    launches: list[float] = field(default_factory=list)
    """When each simulated machine was asked for."""
    actions: dict[Action, int] = field(default_factory=dict)
    interruptions: int = 0
    given_back: int = 0
    """Lessons that had been begun and were not finished there."""
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


class _State(StrEnum):
    """EC2's words, as `decide()` reads them."""

    STOPPED = "stopped"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True)
class _Leave:
    """Why a machine's process is interrupted: its worker must be gone, or its machine boots anew."""

    drain_seconds: float
    gone_at: float = 0.0
    reboots: bool = False


class _Machine:
    def __init__(self, kind: Kind, launched: float) -> None:
        self.kind = kind
        self.launched = launched
        self.state = _State.PENDING
        self.leaving = False
        """It is no longer counted on."""
        self.billed_from: float | None = None
        self.heard_from: float | None = None
        """When its worker last began or ended a lesson, or began to poll; it is heard of each minute after."""
        self.letter: Letter | None = None
        self.prefetched: Letter | None = None
        self.has_model = False
        self.wake: simpy.Event | None = None
        self.process: simpy.Process | None = None
        self.condition: TrackedCondition | None = None

    def receive(self, letter: Letter) -> None:
        """The queue's answer to the poll that is under way."""
        if self.wake is None:
            self.prefetched = letter
        else:
            self.wake.succeed(letter)

    def heartbeat(self, now: float) -> Heartbeat | None:
        if self.heard_from is None:
            return None
        last = self.heard_from + (now - self.heard_from) // _HEARTBEAT_SECONDS * _HEARTBEAT_SECONDS
        job = f"lesson-{self.letter.lesson}" if self.letter else None
        return Heartbeat(_moment(last), job)


class Simulation:
    def __init__(self, trace: Trace, setup: Setup) -> None:
        """Raises ValueError when one machine is to stand for many."""
        self._fleet = setup.config.capacity_mode is CapacityMode.FLEET
        if setup.scale != 1 and not self._fleet:
            raise ValueError("one machine cannot stand for many")
        self._trace = trace.thinned(setup.scale)
        self._setup = setup
        self._env = simpy.Environment()
        # A stream of its own for each question, so that another maximum does not change the weather.
        self._boots, self._spot, self._types = (Random(f"{setup.seed} {use}") for use in ("boot", "spot", "type"))  # noqa: S311
        self._queue = LessonQueue(Random(f"{setup.seed} poll"))  # noqa: S311
        self._machines: list[_Machine] = []
        self._desired = 0
        self._last_scale_out: datetime | None = None
        self._billed = self._busy = self._lessons_done = 0
        self._audio_done = 0.0
        self._maximum = max(1, setup.maximum // setup.scale)
        count = len(self._trace)
        self._open = count
        self._finished = self._env.event()
        self._run = Run(
            setup=setup,
            uploaded=self._trace.at,
            started=np.full(count, np.nan),
            done=np.full(count, np.nan),
            times_done=np.zeros(count, dtype=np.int64),
            audio_seconds=self._trace.seconds,
        )

    def run(self) -> Run:
        """Raises OpsError when lessons still wait after two weeks."""
        self._env.process(self._uploads())
        self._env.process(self._rule())
        self._env.run(until=self._finished)
        run, scale = self._run, self._setup.scale
        run.end = self._env.now
        run.minute = [(v * scale, f * scale, m * scale, b * scale) for v, f, m, b in run.minute]
        run.peak_in_flight *= scale
        run.peak_machines *= scale
        run.interruptions *= scale
        run.given_back *= scale
        return run

    # --- What comes from outside ---------------------------------------------------------------------------------

    def _uploads(self) -> _Steps:
        for lesson, (at, seconds) in enumerate(
            zip(self._trace.at.tolist(), self._trace.seconds.tolist(), strict=True)
        ):
            if at > self._env.now:
                yield self._env.timeout(at - self._env.now)
            self._queue.send(Letter(lesson, seconds))
            self._tick(upload=True)

    def _rule(self) -> _Steps:
        while True:
            self._tick(upload=False)
            self._run.minute.append((self._queue.visible, self._queue.in_flight, self._billed, self._busy))
            if not self._open and not any(m.state is not _State.STOPPED for m in self._machines):
                break
            if self._env.now > self._trace.days * DAY + _LONGEST_DELAY:
                raise OpsError(
                    f"{self._open * self._setup.scale} lessons still wait two weeks after the last upload"
                )
            yield self._env.timeout(TICK_SECONDS)
        self._finished.succeed()

    # --- The autoscaler ------------------------------------------------------------------------------------------

    def _tick(self, *, upload: bool) -> None:
        decision = decide(self._snapshot(upload=upload), self._setup.config)
        self._run.actions[decision.action] = self._run.actions.get(decision.action, 0) + 1
        if self._fleet:
            if decision.desired is not None:
                self._scale_out(decision.desired)
        elif self._machines:
            self._machines[0].condition = decision.condition
            self._act(self._machines[0], decision)

    def _snapshot(self, *, upload: bool) -> Snapshot:
        visible, in_flight = (count * self._setup.scale for count in (self._queue.visible, self._queue.in_flight))
        return Snapshot(
            now=_moment(self._env.now),
            instance=None if self._fleet else self._instance(),
            visible=visible,
            in_flight=in_flight,
            upload_event=upload,
            group=self._group() if self._fleet else None,
            audio_minutes=self._audio_minutes(visible + in_flight),
        )

    def _audio_minutes(self, backlog: int) -> float | None:
        """A queue cannot be looked into: the lessons done so far tell how long those are that wait."""
        done = self._lessons_done
        return backlog * self._audio_done / done / 60 if done else None

    def _instance(self) -> Instance:
        if not self._machines:  # launched once, long ago
            machine = _Machine(self._setup.kinds[0], -DAY)
            machine.state = _State.STOPPED
            self._machines.append(machine)
        machine = self._machines[0]
        return Instance(
            id="i-1",
            state=machine.state,
            launch_time=_moment(machine.launched),
            heartbeat=machine.heartbeat(self._env.now),
            condition=machine.condition,
        )

    def _group(self) -> Group:
        scale = self._setup.scale
        return Group(
            name="fleet",
            desired=self._desired * scale,
            maximum=self._maximum * scale,
            in_service=self._billed * scale,
            pending=max(0, self._desired - self._billed) * scale,
            last_scale_out=self._last_scale_out,
        )

    def _act(self, machine: _Machine, decision: Decision) -> None:
        match decision.action:
            case Action.START:
                machine.launched = self._env.now
                self._start(machine)
            case Action.STOP:
                self._interrupt(machine, _Leave(self._setup.polling.drain_seconds))
            case Action.RESTART:
                self._interrupt(machine, _Leave(self._setup.polling.drain_seconds, reboots=True))
            case Action.FORCE_STOP if machine.process is not None:
                machine.process.interrupt()
            case _:
                pass

    def _scale_out(self, desired: int) -> None:
        self._desired = min(self._maximum, -(-desired // self._setup.scale))
        self._last_scale_out = _moment(self._env.now)
        self._launch_missing()

    def _launch_missing(self) -> None:
        """The group's own work: as many machines as are desired."""
        here = sum(not machine.leaving for machine in self._machines)
        for _ in range(self._desired - here):
            machine = _Machine(self._types.choice(self._setup.kinds), self._env.now)
            self._machines.append(machine)
            self._start(machine)

    # --- A machine's life ----------------------------------------------------------------------------------------

    def _start(self, machine: _Machine) -> None:
        machine.state, machine.leaving, machine.has_model = _State.PENDING, False, False
        self._run.launches.append(self._env.now)
        machine.process = self._env.process(self._life(machine))

    def _interrupt(self, machine: _Machine, leave: _Leave) -> None:
        if machine.process is not None and machine.state is _State.RUNNING and not machine.leaving:
            machine.leaving = not leave.reboots
            machine.process.interrupt(leave)

    def _life(self, machine: _Machine) -> _Steps:
        setup, env = self._setup, self._env
        yield env.timeout(setup.pending_seconds)
        machine.state, machine.billed_from = _State.RUNNING, env.now
        self._billed += 1
        self._run.peak_machines = max(self._run.peak_machines, self._billed)
        if setup.interruptions_per_hour:
            env.process(self._spot_market(machine))
        leave: _Leave | None = None
        while leave is None or leave.reboots:
            leave = None
            try:
                yield env.timeout(self._boot_seconds())
                machine.heard_from = env.now
                yield from self._work(machine)
                break
            except simpy.Interrupt as interrupt:
                leave = interrupt.cause
                machine.has_model = False
        if self._fleet and not machine.leaving:
            self._desired -= 1  # it takes its place in the group with it
        machine.leaving = True
        if leave is not None and leave.gone_at > env.now:
            yield env.timeout(leave.gone_at - env.now)
        self._gone(machine)
        with suppress(simpy.Interrupt):  # a forced stop
            yield env.timeout(setup.stop_seconds)
        machine.state = _State.STOPPED
        if self._fleet:
            self._machines.remove(machine)

    def _boot_seconds(self) -> float:
        setup = self._setup
        spread = self._boots.uniform(1 - setup.boot_spread, 1 + setup.boot_spread)
        return max(0.0, setup.boot_seconds * spread - setup.pending_seconds)

    def _gone(self, machine: _Machine) -> None:
        assert machine.billed_from is not None  # noqa: S101 - it was running
        self._run.spans.append(Span(machine.kind.name, machine.billed_from, self._env.now))
        self._billed -= 1
        machine.state, machine.billed_from, machine.heard_from = _State.STOPPING, None, None

    def _spot_market(self, machine: _Machine) -> _Steps:
        yield self._env.timeout(self._spot.expovariate(self._setup.interruptions_per_hour / 3600))
        if machine.state is not _State.RUNNING or machine.leaving:
            return
        gone_at = self._env.now + self._setup.notice_seconds
        yield self._env.timeout(self._spot.uniform(0, _SPOT_CHECK_SECONDS))
        if machine.state is not _State.RUNNING or machine.leaving:
            return
        self._run.interruptions += 1
        drain = max(0.0, gone_at - self._env.now - _SPOT_GOODBYE_SECONDS)
        self._interrupt(machine, _Leave(drain, gone_at))
        if self._fleet:
            self._launch_missing()

    # --- The worker ----------------------------------------------------------------------------------------------

    def _work(self, machine: _Machine) -> _Steps:
        """Until the queue has been empty for as many polls as the worker allows. Raises Interrupt."""
        polling = self._setup.polling
        under_way = 0.0
        """Of the poll that the prefetch left behind."""
        while True:
            letter, machine.prefetched = machine.prefetched, None
            if letter is None:
                letter = self._queue.take(machine)
            if letter is None:
                yield from self._poll(machine, under_way + polling.empty_polls * polling.wait_seconds)
                letter, machine.prefetched = machine.prefetched, None
                if letter is None:
                    return
            seconds = yield from self._transcribe(machine, letter)
            polled = seconds % polling.wait_seconds if polling.wait_seconds else 0.0
            under_way = polling.wait_seconds - polled if self._setup.prefetch else 0.0

    def _poll(self, machine: _Machine, seconds: float) -> _Steps:
        """Wait for the queue's answer at most so long; it is then in `prefetched`."""
        wake = machine.wake = self._env.event()

        def nothing_came(_timer: simpy.Event) -> None:
            if not wake.triggered:
                self._queue.leave(machine)
                wake.succeed(None)

        timer = self._env.timeout(seconds)
        assert timer.callbacks is not None  # noqa: S101 - it has not happened yet
        timer.callbacks.append(nothing_came)
        try:
            answer = yield wake
            assert answer is None or isinstance(answer, Letter)  # noqa: S101
            machine.prefetched = answer
        except simpy.Interrupt:
            if not wake.triggered:
                self._queue.leave(machine)
                wake.succeed(None)  # its timer is of no use any more
            elif isinstance(wake.value, Letter):
                self._queue.give_back(wake.value)  # it came in the same moment
            raise
        finally:
            machine.wake = None

    def _transcribe(self, machine: _Machine, letter: Letter) -> Generator[simpy.Event, object, float]:
        """Returns the seconds it took. Raises Interrupt after giving back, or finishing, what is in hand."""
        env, kind = self._env, machine.kind
        seconds = kind.seconds(letter.seconds) + (0.0 if machine.has_model else kind.model_load_seconds)
        machine.letter, machine.heard_from = letter, env.now
        if self._setup.prefetch:
            machine.prefetched = self._queue.take(machine)
        self._run.peak_in_flight = max(self._run.peak_in_flight, self._queue.in_flight)
        self._busy += 1
        started = env.now
        try:
            try:
                yield env.timeout(seconds)
            except simpy.Interrupt as interrupt:
                self._give_back_prefetched(machine)
                left = started + seconds - env.now
                leave = cast(_Leave, interrupt.cause)
                if left > leave.drain_seconds:
                    self._run.given_back += 1
                    self._queue.give_back(letter)
                    raise
                yield env.timeout(left)
                self._done(letter, started)
                raise
            self._done(letter, started)
            machine.has_model = True
        finally:
            self._queue.leave(machine)
            self._busy -= 1
            machine.letter, machine.heard_from = None, env.now
        return seconds

    def _give_back_prefetched(self, machine: _Machine) -> None:
        self._queue.leave(machine)
        letter, machine.prefetched = machine.prefetched, None
        if letter is not None:
            self._queue.give_back(letter)

    def _done(self, letter: Letter, started: float) -> None:
        self._queue.delete()
        self._lessons_done += 1
        self._audio_done += letter.seconds
        self._run.started[letter.lesson] = started
        self._run.done[letter.lesson] = self._env.now
        self._run.times_done[letter.lesson] += 1
        self._open -= 1


def _moment(seconds: float) -> datetime:
    """As the autoscaler sees time: in whole seconds."""
    return EPOCH + timedelta(seconds=int(seconds // 1))
