"""The operator's verbs, the same for one appliance and for a fleet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from contracts.capacity import CapacityMode
from ops.aws.connection import Connection
from ops.capacity import appliance, fleet, launch, replacement

Say = Callable[[str], None]


@dataclass(frozen=True)
class Capacity:
    start: Callable[[Connection, timedelta, Say], None]
    stop: Callable[[Connection, timedelta, Say], None]
    hold: Callable[[Connection, timedelta, Say], None]
    resume: Callable[[Connection, Say], None]
    launch: Callable[[Connection, Say], str]
    replace: Callable[[Connection, Say, timedelta], None]
    """Bring the newest image in; the time is how long to wait for a lesson in hand."""
    wait_idle: Callable[[Connection, float], None]
    """Wait until nothing runs that costs by the second. Raises OpsError after so many seconds."""
    idle: str
    """What idle means, for the screen."""


_MODES = {
    CapacityMode.INSTANCE: Capacity(
        start=appliance.start,
        stop=appliance.stop,
        hold=appliance.hold,
        resume=appliance.resume,
        launch=launch.launch,
        replace=lambda aws, say, work: replacement.replace(
            aws, say, replacement.Patience(work=work.total_seconds())
        ),
        wait_idle=lambda aws, seconds: appliance.wait_for(aws, "stopped", seconds),
        idle="instance stopped: idle, it costs its disk and nothing else",
    ),
    CapacityMode.FLEET: Capacity(
        start=fleet.start,
        stop=fleet.stop,
        hold=fleet.hold,
        resume=fleet.resume,
        launch=fleet.launch,
        replace=fleet.replace,
        wait_idle=lambda aws, seconds: fleet.wait_for(aws, fleet.is_empty, seconds, "an empty fleet"),
        idle="fleet at 0: idle, it costs nothing",
    ),
}


def of(aws: Connection) -> Capacity:
    """The verbs for CAPACITY_MODE."""
    return _MODES[aws.settings.capacity_mode]
