"""The machines behind the local EC2 instances, one module for each kind."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from local.errors import LocalError

if TYPE_CHECKING:
    from local.machines.base import Boot


class MachineKind(StrEnum):
    """`LOCAL_MACHINE`: what an instance is made of."""

    PROCESS = "process"
    """The processor of this checkout as a process. docs/architecture.md lists its limits."""
    NSPAWN = "nspawn"
    """A booted image."""


def backend(kind: MachineKind) -> Boot:
    """What boots machines of that kind. Raises LocalError for a kind that cannot run here."""
    if kind is MachineKind.NSPAWN:
        from local.machines.container import obstacle  # noqa: PLC0415

        reason = obstacle()
        if reason:
            raise LocalError(f"LOCAL_MACHINE=nspawn cannot run here: {reason}")
        from local.machines.nspawn import NspawnMachine  # noqa: PLC0415 - only the chosen kind is loaded

        return NspawnMachine
    from local.machines.process import ProcessMachine  # noqa: PLC0415 - only the chosen kind is loaded

    return ProcessMachine
