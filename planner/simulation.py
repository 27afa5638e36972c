"""The simulation: machines, queue and clock are simulated; the autoscaler's own `decide()` says what to do.

One process for the uploads, one for the one-minute rule, one for each machine's life. What a machine does between
events (heartbeats, progress, lease extensions) is computed when somebody looks, not simulated.
"""

from __future__ import annotations

from random import Random

import simpy

from autoscaler.decision import Snapshot, decide
from contracts.capacity import CapacityMode
from ops.errors import OpsError
from planner.capacity import Capacity
from planner.lesson_queue import LessonQueue, Message
from planner.machine import Steps
from planner.model import TICK_SECONDS, Run, Setup, moment
from planner.recorder import Recorder
from planner.trace import DAY, Trace
from planner.worker import Worker

_LONGEST_DELAY = 14 * DAY
"""How long SQS keeps a message."""


class Simulation:
    def __init__(self, trace: Trace, setup: Setup) -> None:
        """Raises ValueError when one machine is to stand for many."""
        if setup.scale != 1 and setup.config.capacity_mode is not CapacityMode.FLEET:
            raise ValueError("one machine cannot stand for many")
        self._trace = trace.thinned(setup.scale)
        self._setup = setup
        self._env = simpy.Environment()
        self._queue = LessonQueue(Random(f"{setup.seed} poll"))  # noqa: S311
        self._recorder = Recorder(self._trace, setup)
        worker = Worker(self._env, setup, self._queue, self._recorder)
        self._capacity = Capacity(self._env, setup, worker, self._recorder)
        self._finished = self._env.event()

    def run(self) -> Run:
        """Raises OpsError when lessons still wait after two weeks."""
        self._env.process(self._uploads())
        self._env.process(self._rule())
        self._env.run(until=self._finished)
        return self._recorder.finish(self._env.now)

    def _uploads(self) -> Steps:
        for lesson, (at, seconds) in enumerate(
            zip(self._trace.at.tolist(), self._trace.seconds.tolist(), strict=True)
        ):
            if at > self._env.now:
                yield self._env.timeout(at - self._env.now)
            self._queue.send(Message(lesson, seconds))
            self._tick(upload=True)

    def _rule(self) -> Steps:
        while True:
            self._tick(upload=False)
            self._recorder.minute(self._queue.visible, self._queue.in_flight)
            if not self._recorder.open and self._capacity.all_stopped():
                break
            if self._env.now > self._trace.days * DAY + _LONGEST_DELAY:
                raise OpsError(
                    f"{self._recorder.open * self._setup.scale} lessons still wait two weeks after the last upload"
                )
            yield self._env.timeout(TICK_SECONDS)
        self._finished.succeed()

    def _tick(self, *, upload: bool) -> None:
        decision = decide(self._snapshot(upload=upload), self._setup.config)
        actions = self._recorder.run.actions
        actions[decision.action] = actions.get(decision.action, 0) + 1
        self._capacity.act(decision)

    def _snapshot(self, *, upload: bool) -> Snapshot:
        visible, in_flight = (count * self._setup.scale for count in (self._queue.visible, self._queue.in_flight))
        return Snapshot(
            now=moment(self._env.now),
            instance=self._capacity.instance(),
            visible=visible,
            in_flight=in_flight,
            upload_event=upload,
            group=self._capacity.group(),
            audio_minutes=self._recorder.audio_minutes(visible + in_flight),
        )
