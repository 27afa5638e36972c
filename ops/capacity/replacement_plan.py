"""What an image replacement does next: a pure function of the instances there are.

Its only memory is a tag on each instance. So a replacement that was interrupted, wherever it was, goes on with the
next `make replace`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ops.errors import OpsError


class Part(StrEnum):
    """The values of the tag. The autoscaler and the other verbs ignore an instance that carries one."""

    TRIAL = "trial"
    """New, and not yet known to work."""
    LEAVING = "leaving"
    """Replaced; it finishes what it has in hand."""


@dataclass(frozen=True)
class Model:
    """What an appliance is made of."""

    image_id: str
    instance_type: str

    def __str__(self) -> str:
        return f"{self.image_id} on {self.instance_type}"


@dataclass(frozen=True)
class Member:
    """An instance with the processor's role."""

    id: str
    model: Model
    launched: datetime
    part: str | None = None
    """None: it carries only the role tag. The newest such instance is in charge."""


@dataclass(frozen=True)
class Drop:
    """Terminate trials that are no longer wanted, or that another one duplicates."""

    members: Sequence[Member]


@dataclass(frozen=True)
class Launch:
    """Launch a new one, on trial."""


@dataclass(frozen=True)
class Prove:
    """Wait until the new one works, then let it take over from `old`."""

    new: Member
    old: Sequence[Member]


@dataclass(frozen=True)
class Retire:
    """Wait until they have nothing in hand, then terminate them; `current` is in charge."""

    members: Sequence[Member]
    current: Member


@dataclass(frozen=True)
class Done:
    current: Member


Step = Drop | Launch | Prove | Retire | Done


def next_step(members: Sequence[Member], wanted: Model) -> Step:
    """The next step of a replacement by `wanted`. Raises OpsError when there is no appliance."""
    newest_first = sorted(members, key=lambda member: (member.launched, member.id), reverse=True)
    trials = [member for member in newest_first if member.part == Part.TRIAL]
    fitting = [member for member in trials if member.model == wanted]
    plain = [member for member in newest_first if member.part is None]
    unwanted = [member for member in trials if member not in fitting[:1]]
    if unwanted:
        return Drop(unwanted)
    if fitting:
        return Prove(fitting[0], plain)
    if not plain:
        raise OpsError("there is no appliance to replace: run `make launch`")
    current = next((member for member in plain if member.model == wanted), None)
    if current is None:
        return Launch()
    # An interrupted hand-over leaves one without a tag and with another image beside it.
    stale = [m for m in newest_first if m.part is not None or m.model != wanted]
    return Retire(stale, current) if stale else Done(current)
