"""What needs an operator, decided from what was read: a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from contracts.capacity import CapacityMode
from ops.observability.alarms import Alarm
from ops.observability.decisions import LOOK_BACK, LastDecision
from ops.observability.machines import Appliance, FleetNow
from ops.observability.queues import Queue

_OLD = timedelta(hours=1)


def find_problems(
    mode: CapacityMode,
    machines: Sequence[Appliance],
    fleet: FleetNow | None,
    queue: Queue,
    decision: LastDecision | None,
    alarms: Sequence[Alarm],
    *,
    just_deployed: bool,
    unreadable: Sequence[str] = (),
) -> list[str]:
    """Each with the command that helps. `machines` are the newest first; `unreadable` says what gave no answer."""
    capacity = _of_fleet(fleet, machines) if mode is CapacityMode.FLEET else _of_appliance(machines)
    return [
        *capacity,
        *_of_queue(queue),
        *_of_autoscaler(decision, just_deployed=just_deployed),
        *unreadable,
        *(f"alarm {alarm.name}: {alarm.advice}" for alarm in alarms if alarm.fires),
    ]


def _of_appliance(machines: Sequence[Appliance]) -> Iterator[str]:
    if not machines:
        yield "there is no appliance: run `make launch`"
    elif (worker := machines[0].worker) and worker.crashed:
        yield "the worker crashed in a loop: see `make logs MINUTES=60`, then `make start`"
    elif worker and worker.silent:
        yield "the worker is silent: run `make doctor`"


def _of_fleet(group: FleetNow | None, machines: Sequence[Appliance]) -> Iterator[str]:
    if group is None:
        yield "there is no fleet: run `make deploy-infra deploy-lambda`"
        return
    for machine in machines:
        if machine.worker and machine.worker.crashed:
            yield f"the worker on {machine.instance_id} crashed in a loop: see `make logs MINUTES=60`"
        elif machine.worker and machine.worker.silent:
            yield f"the worker on {machine.instance_id} is silent: see `make logs`, then `make stop resume`"


def _of_queue(queue: Queue) -> Iterator[str]:
    if queue.dead:
        yield f"{queue.dead} messages lie in the dead-letter queue: see `make dlq`"
    if (queue.oldest_seconds or 0) > _OLD.total_seconds():
        yield "a lesson has waited for more than an hour: see `make logs`"


def _of_autoscaler(decision: LastDecision | None, *, just_deployed: bool) -> Iterator[str]:
    if decision is None and not just_deployed:
        yield f"the autoscaler has not run in {LOOK_BACK.seconds // 60} minutes: run `make doctor`"
