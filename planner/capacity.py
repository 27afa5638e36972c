"""The simulated EC2: one machine or an Auto Scaling group, with boots, stops and Spot interruptions."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from random import Random

import simpy

from autoscaler.decision import Action, Decision, Group, Instance
from contracts.capacity import CapacityMode
from planner.machine import Leave, Machine, State, Steps
from planner.model import Setup, Span, moment
from planner.recorder import Recorder
from planner.trace import DAY
from planner.worker import Worker

_SPOT_CHECK_SECONDS = 5.0
_SPOT_GOODBYE_SECONDS = 10.0


class Capacity:
    def __init__(self, env: simpy.Environment, setup: Setup, worker: Worker, recorder: Recorder) -> None:
        self._env = env
        self._setup = setup
        self._worker = worker
        self._recorder = recorder
        self._fleet = setup.config.capacity_mode is CapacityMode.FLEET
        # Separate random streams, so that another maximum does not change boots and interruptions.
        self._boots, self._spot, self._types = (Random(f"{setup.seed} {use}") for use in ("boot", "spot", "type"))  # noqa: S311
        self._machines: list[Machine] = []
        self._maximum = max(1, setup.maximum // setup.scale)
        self._desired = 0
        self._last_scale_out: datetime | None = None

    def all_stopped(self) -> bool:
        return all(machine.state is State.STOPPED for machine in self._machines)

    # --- What the autoscaler sees --------------------------------------------------------------------------------

    def instance(self) -> Instance | None:
        """None for a fleet."""
        if self._fleet:
            return None
        if not self._machines:  # launched once, long ago
            machine = Machine(self._setup.kinds[0], -DAY)
            machine.state = State.STOPPED
            self._machines.append(machine)
        machine = self._machines[0]
        return Instance(
            id="i-1",
            state=machine.state,
            launch_time=moment(machine.launched),
            heartbeat=machine.heartbeat(self._env.now),
            condition=machine.condition,
        )

    def group(self) -> Group | None:
        """None for one machine."""
        if not self._fleet:
            return None
        scale, billed = self._setup.scale, self._recorder.billed
        return Group(
            name="fleet",
            desired=self._desired * scale,
            maximum=self._maximum * scale,
            in_service=billed * scale,
            pending=max(0, self._desired - billed) * scale,
            last_scale_out=self._last_scale_out,
        )

    # --- What the autoscaler does --------------------------------------------------------------------------------

    def act(self, decision: Decision) -> None:
        if self._fleet:
            if decision.desired is not None:
                self._scale_out(decision.desired)
            return
        machine = self._machines[0]
        machine.condition = decision.condition
        match decision.action:
            case Action.START:
                machine.launched = self._env.now
                self._start(machine)
            case Action.STOP:
                self._interrupt(machine, Leave(self._setup.polling.drain_seconds))
            case Action.RESTART:
                self._interrupt(machine, Leave(self._setup.polling.drain_seconds, reboots=True))
            case Action.FORCE_STOP if machine.process is not None:
                machine.process.interrupt()
            case _:
                pass

    def _scale_out(self, desired: int) -> None:
        self._desired = min(self._maximum, -(-desired // self._setup.scale))
        self._last_scale_out = moment(self._env.now)
        self._launch_missing()

    def _launch_missing(self) -> None:
        """The group's own work: as many machines as are desired."""
        here = sum(not machine.leaving for machine in self._machines)
        for _ in range(self._desired - here):
            machine = Machine(self._types.choice(self._setup.kinds), self._env.now)
            self._machines.append(machine)
            self._start(machine)

    # --- A machine's life ----------------------------------------------------------------------------------------

    def _start(self, machine: Machine) -> None:
        machine.state, machine.leaving, machine.has_model = State.PENDING, False, False
        self._recorder.run.launches.append(self._env.now)
        machine.process = self._env.process(self._life(machine))

    def _interrupt(self, machine: Machine, leave: Leave) -> None:
        if machine.process is not None and machine.state is State.RUNNING and not machine.leaving:
            machine.leaving = not leave.reboots
            machine.process.interrupt(leave)

    def _life(self, machine: Machine) -> Steps:
        setup, env = self._setup, self._env
        yield env.timeout(setup.pending_seconds)
        machine.state, machine.billed_from = State.RUNNING, env.now
        self._recorder.machine_runs()
        if setup.interruptions_per_hour:
            env.process(self._spot_market(machine))
        leave: Leave | None = None
        while leave is None or leave.reboots:
            leave = None
            try:
                yield env.timeout(self._boot_seconds())
                machine.heard_from = env.now
                yield from self._worker.work(machine)
                break
            except simpy.Interrupt as interrupt:
                leave = interrupt.cause
                machine.has_model = False
        if self._fleet and not machine.leaving:
            self._desired -= 1  # the worker ends its machine and lowers the desired capacity with it
        machine.leaving = True
        if leave is not None and leave.gone_at > env.now:
            yield env.timeout(leave.gone_at - env.now)
        self._gone(machine)
        with suppress(simpy.Interrupt):  # a forced stop
            yield env.timeout(setup.stop_seconds)
        machine.state = State.STOPPED
        if self._fleet:
            self._machines.remove(machine)

    def _boot_seconds(self) -> float:
        setup = self._setup
        spread = self._boots.uniform(1 - setup.boot_spread, 1 + setup.boot_spread)
        return max(0.0, setup.boot_seconds * spread - setup.pending_seconds)

    def _gone(self, machine: Machine) -> None:
        assert machine.billed_from is not None  # noqa: S101 - it was running
        self._recorder.machine_ended(Span(machine.kind.name, machine.billed_from, self._env.now))
        machine.state, machine.billed_from, machine.heard_from = State.STOPPING, None, None

    def _spot_market(self, machine: Machine) -> Steps:
        yield self._env.timeout(self._spot.expovariate(self._setup.interruptions_per_hour / 3600))
        if machine.state is not State.RUNNING or machine.leaving:
            return
        gone_at = self._env.now + self._setup.notice_seconds
        yield self._env.timeout(self._spot.uniform(0, _SPOT_CHECK_SECONDS))
        if machine.state is not State.RUNNING or machine.leaving:
            return
        self._recorder.run.interruptions += 1
        drain = max(0.0, gone_at - self._env.now - _SPOT_GOODBYE_SECONDS)
        self._interrupt(machine, Leave(drain, gone_at))
        if self._fleet:
            self._launch_missing()
