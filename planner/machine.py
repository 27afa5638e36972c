"""One simulated machine: its EC2 state, the lesson it has in hand, and the heartbeat it would show."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum

import simpy

from autoscaler.tags import TrackedCondition
from contracts.heartbeat import Heartbeat
from planner.lesson_queue import Message
from planner.model import Kind, moment

_HEARTBEAT_SECONDS = 60.0

Steps = Generator[simpy.Event, object, None]


class State(StrEnum):
    """EC2's words, as `decide()` reads them."""

    STOPPED = "stopped"
    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True)
class Leave:
    """The cause of an interrupt: the worker must be gone in time, or the machine reboots."""

    drain_seconds: float
    gone_at: float = 0.0
    reboots: bool = False


class Machine:
    def __init__(self, kind: Kind, launched: float) -> None:
        self.kind = kind
        self.launched = launched
        self.state = State.PENDING
        self.leaving = False
        """It no longer counts towards the desired capacity."""
        self.billed_from: float | None = None
        self.heard_from: float | None = None
        """When its worker last began or ended a lesson, or began to poll; a heartbeat follows each minute."""
        self.message: Message | None = None
        self.prefetched: Message | None = None
        self.has_model = False
        self.wake: simpy.Event | None = None
        self.process: simpy.Process | None = None
        self.condition: TrackedCondition | None = None

    def receive(self, message: Message) -> None:
        """The queue's answer to the poll that is under way."""
        if self.wake is None:
            self.prefetched = message
        else:
            self.wake.succeed(message)

    def heartbeat(self, now: float) -> Heartbeat | None:
        if self.heard_from is None:
            return None
        last = self.heard_from + (now - self.heard_from) // _HEARTBEAT_SECONDS * _HEARTBEAT_SECONDS
        job = f"lesson-{self.message.lesson}" if self.message else None
        return Heartbeat(moment(last), job)
