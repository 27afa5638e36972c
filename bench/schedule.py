"""In which order the runs are made: interleaved, so that a slow minute of the machine falls on all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

_SHORT_SECONDS = 20 * 60
_REPEATS_SHORT, _REPEATS_LONG = 3, 2


def interleaved(contenders: Sequence[T], repeats: int, seed: str) -> Iterator[tuple[int, T]]:
    """Each contender once in each repeat, as pairs of repeat (from 0) and contender.

    The order is shuffled by `seed` and moves on by one with each repeat, so that over as many repeats as there
    are contenders each of them has run in each place.
    """
    order = list(contenders)
    Random(seed).shuffle(order)  # noqa: S311 - not for secrets
    for repeat in range(repeats):
        start = repeat % len(order) if order else 0
        for contender in order[start:] + order[:start]:
            yield repeat, contender


def repeats_for(audio_seconds: float, asked: int | None) -> int:
    """How often a recording is transcribed: as asked, else less often where one run is long enough in itself."""
    if asked is not None:
        return asked
    return _REPEATS_SHORT if audio_seconds <= _SHORT_SECONDS else _REPEATS_LONG
