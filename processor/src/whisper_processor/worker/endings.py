"""How a delivery ends, decided without touching the queue or the database.

A delivery ends in one of five ways: completed, failed, retried later, given back (the worker must leave), or left
alone (another worker has the job). The job may also have ended before this delivery.
"""

from __future__ import annotations

from dataclasses import dataclass

from whisper_processor.aws.metrics import FailureKind
from whisper_processor.database.jobs import Claim, Outcome
from whisper_processor.errors import Drained, LeaseLost, PermanentError, TransientError

_LONGEST_DELAY_SECONDS = 900


@dataclass(frozen=True)
class Completed:
    """The message is deleted."""

    before: bool = False
    """An earlier delivery completed the job."""


@dataclass(frozen=True)
class Failed:
    """The job is set to `failed`, and then the message is moved to the dead-letter queue."""

    reason: str
    kind: FailureKind


@dataclass(frozen=True)
class AlreadyFailed:
    """The message is moved to the dead-letter queue."""

    reason: str


@dataclass(frozen=True)
class Retried:
    """The job is queued again and its message comes back after a delay. The attempt counts."""

    reason: str
    attempt: int


@dataclass(frozen=True)
class GivenBack:
    """The job is queued again and its message comes back at once. The attempt does not count."""


@dataclass(frozen=True)
class LeftAlone:
    """Another worker has the job."""

    retry_in: int | None
    """When the message comes back; None when it is not this worker's any more."""


Ending = Completed | Failed | AlreadyFailed | Retried | GivenBack | LeftAlone


@dataclass(frozen=True)
class Tries:
    """How often a job was tried, and how often it may be."""

    delivery: int
    """Which delivery of the message this is, from 1."""
    most_attempts: int
    most_deliveries: int | None
    """After so many deliveries SQS itself moves the message to the dead-letter queue; None when it never does."""


def ending_of_claim(claim: Claim, tries: Tries) -> Ending | None:
    """How a delivery ends whose job could not be claimed; None for a claimed job."""
    match claim.outcome:
        case Outcome.CLAIMED:
            return None
        case Outcome.ALREADY_COMPLETED:
            return Completed(before=True)
        case Outcome.ALREADY_FAILED:
            return AlreadyFailed(claim.reason)
        case Outcome.HELD:
            # Longer each time: a message that waits for a long lesson must not use up its deliveries.
            return LeftAlone(min(claim.held_seconds * tries.delivery, _LONGEST_DELAY_SECONDS))
        case Outcome.EXHAUSTED:
            # No attempt was recorded as failed, so the worker died in each of them.
            text = f"The transcription was tried {claim.attempt} times without success."
            return Failed(text, FailureKind.TRANSIENT)


def ending_of_error(
    error: PermanentError | TransientError | Drained | LeaseLost, claim: Claim | None, tries: Tries
) -> Ending:
    """How a delivery ends that met an error; `claim` is None when the job was not claimed yet."""
    match error:
        case PermanentError():
            return Failed(str(error), FailureKind.PERMANENT)
        case Drained():
            return GivenBack()
        case LeaseLost():
            return LeftAlone(None)
    tried = claim.attempt if claim else tries.delivery
    used_up = claim is not None and claim.attempt >= tries.most_attempts
    taken_away = tries.most_deliveries is not None and tries.delivery >= tries.most_deliveries
    if used_up or taken_away:
        text = f"The transcription was tried {tried} times without success; the last time: {error}"
        return Failed(text, FailureKind.TRANSIENT)
    return Retried(str(error), tried)


def deadline_seconds(audio_seconds: float, *, factor: float, minimum: float) -> float:
    """How long the transcription of a recording may take."""
    return max(minimum, audio_seconds * factor)
