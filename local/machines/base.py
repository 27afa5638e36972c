"""What the supervisor needs of a machine, whatever it is made of."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from local.machines.imds import Identity, MetadataServer


@dataclass(frozen=True)
class Blueprint:
    """What EC2 knows of the instance to boot, and what surrounds it."""

    identity: Identity
    credentials: Callable[[], dict[str, str]]
    """The instance role's, in the metadata service's format. Called each time they are wanted."""
    tags: Callable[[], dict[str, str]]
    """The instance's, as EC2 has them now."""
    user_data: Callable[[], str | None]
    """What the instance was launched with. None: nothing."""
    lifecycle: Callable[[], str | None]
    """The lifecycle state its Auto Scaling group wants, in the metadata service's words. None outside a group."""
    folder: Path
    """This instance's own, kept while it is stopped, as its disk is."""
    log: Callable[[str], None]
    """Takes the processor's output line by line to CloudWatch Logs."""
    models_dir: Path

    def serve_metadata(self, spot_notice: Path, listener: socket.socket | None = None) -> MetadataServer:
        """The instance's metadata service (see MetadataServer)."""
        return MetadataServer(
            self.identity, self.credentials, spot_notice, self.tags, self.user_data, self.lifecycle, listener
        )


@dataclass(frozen=True)
class Execution:
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Shell:
    """How to open an interactive shell in a machine, from this host."""

    argv: Sequence[str]
    cwd: str
    env: dict[str, str] = field(default_factory=dict)
    """The whole environment of the shell."""


class Machine(Protocol):
    """One booted instance. It boots when it is made (see `Boot`), and is used from several threads."""

    def halt(self) -> None:
        """Shut down cleanly: SIGTERM to the service, SIGKILL to what does not end. Safe to repeat."""

    def powered_off(self) -> bool:
        """Whether it shut itself down from inside. EC2 is then told to stop the instance."""

    def execute(self, script: str, timeout: float) -> Execution:
        """Run a shell script on the machine, as SSM does. The exit code after `timeout` seconds is 124."""

    def shell(self) -> Shell:
        """What `make session` starts."""


Boot = Callable[[Blueprint], Machine]
