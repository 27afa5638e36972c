"""The simulated worker: polls, prefetches, transcribes, and gives back what it cannot finish."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import simpy

from planner.lesson_queue import LessonQueue, Message
from planner.machine import Leave, Machine, Steps
from planner.model import Setup
from planner.recorder import Recorder


class Worker:
    """The behaviour of every machine's worker. The machine keeps the state."""

    def __init__(self, env: simpy.Environment, setup: Setup, queue: LessonQueue, recorder: Recorder) -> None:
        self._env = env
        self._setup = setup
        self._queue = queue
        self._recorder = recorder

    def work(self, machine: Machine) -> Steps:
        """Until the queue has been empty for as many polls as the worker allows. Raises Interrupt."""
        polling = self._setup.polling
        under_way = 0.0
        """What is left of the poll that the prefetch began."""
        while True:
            message, machine.prefetched = machine.prefetched, None
            if message is None:
                message = self._queue.take(machine)
            if message is None:
                yield from self._poll(machine, under_way + polling.empty_polls * polling.wait_seconds)
                message, machine.prefetched = machine.prefetched, None
                if message is None:
                    return
            seconds = yield from self._transcribe(machine, message)
            polled = seconds % polling.wait_seconds if polling.wait_seconds else 0.0
            under_way = polling.wait_seconds - polled if self._setup.prefetch else 0.0

    def _poll(self, machine: Machine, seconds: float) -> Steps:
        """Wait at most this long for the queue's answer; it is then in `prefetched`."""
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
            assert answer is None or isinstance(answer, Message)  # noqa: S101
            machine.prefetched = answer
        except simpy.Interrupt:
            if not wake.triggered:
                self._queue.leave(machine)
                wake.succeed(None)  # the timer then does nothing
            elif isinstance(wake.value, Message):
                self._queue.give_back(wake.value)  # it came in the same moment
            raise
        finally:
            machine.wake = None

    def _transcribe(self, machine: Machine, message: Message) -> Generator[simpy.Event, object, float]:
        """Returns the seconds it took. Raises Interrupt after giving back, or finishing, what is in hand."""
        env, kind = self._env, machine.kind
        seconds = kind.seconds(message.seconds) + (0.0 if machine.has_model else kind.model_load_seconds)
        machine.message, machine.heard_from = message, env.now
        if self._setup.prefetch:
            machine.prefetched = self._queue.take(machine)
        self._recorder.transcription_begins(self._queue.in_flight)
        started = env.now
        try:
            try:
                yield env.timeout(seconds)
            except simpy.Interrupt as interrupt:
                self._give_back_prefetched(machine)
                left = started + seconds - env.now
                leave = cast(Leave, interrupt.cause)
                if left > leave.drain_seconds:
                    self._recorder.run.given_back += 1
                    self._queue.give_back(message)
                    raise
                yield env.timeout(left)
                self._done(message, started)
                raise
            self._done(message, started)
            machine.has_model = True
        finally:
            self._queue.leave(machine)
            self._recorder.transcription_ends()
            machine.message, machine.heard_from = None, env.now
        return seconds

    def _give_back_prefetched(self, machine: Machine) -> None:
        self._queue.leave(machine)
        message, machine.prefetched = machine.prefetched, None
        if message is not None:
            self._queue.give_back(message)

    def _done(self, message: Message, started: float) -> None:
        self._queue.delete()
        self._recorder.lesson_done(message, started, self._env.now)
