"""The queue as the simulation needs it: what is visible, what is in flight, and who polls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    lesson: int
    """Its index in the trace."""
    seconds: float
    """Of audio."""


class Poller(Protocol):
    def receive(self, message: Message) -> None: ...


class LessonQueue:
    """SQS with long polling: the oldest visible message goes first; any of those who poll may get a new one."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._visible: deque[Message] = deque()
        self._pollers: list[Poller] = []
        self._places: dict[Poller, int] = {}
        self.in_flight = 0

    @property
    def visible(self) -> int:
        return len(self._visible)

    def send(self, message: Message) -> None:
        self._offer(message, first=False)

    def take(self, poller: Poller) -> Message | None:
        """The oldest message. None when there is none; then the next one goes to the poller's `receive`."""
        if not self._visible:
            self._places[poller] = len(self._pollers)
            self._pollers.append(poller)
            return None
        self.in_flight += 1
        return self._visible.popleft()

    def leave(self, poller: Poller) -> None:
        """Stop polling; no effect on a poller that does not poll."""
        place = self._places.pop(poller, None)
        if place is None:
            return
        last = self._pollers.pop()
        if last is not poller:
            self._pollers[place] = last
            self._places[last] = place

    def give_back(self, message: Message) -> None:
        self.in_flight -= 1
        self._offer(message, first=True)

    def delete(self) -> None:
        self.in_flight -= 1

    def _offer(self, message: Message, *, first: bool) -> None:
        if self._pollers:
            poller = self._pollers[self._random.randrange(len(self._pollers))]
            self.leave(poller)
            self.in_flight += 1
            poller.receive(message)
        elif first:
            self._visible.appendleft(message)
        else:
            self._visible.append(message)
