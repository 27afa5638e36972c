"""How a delivery ends: decided from the claim, or from the error that the job met."""

from __future__ import annotations

import pytest

from contracts.keys import Owner
from whisper_processor.aws.metrics import FailureKind
from whisper_processor.database.jobs import Claim, Outcome
from whisper_processor.errors import Drained, LeaseLost, PermanentError, TransientError
from whisper_processor.worker.endings import (
    AlreadyFailed,
    Completed,
    Ending,
    Failed,
    GivenBack,
    LeftAlone,
    Retried,
    Tries,
    deadline_seconds,
    ending_of_claim,
    ending_of_error,
)


def claim(outcome: Outcome, attempt: int = 1, held_seconds: int = 0, reason: str = "") -> Claim:
    return Claim(outcome, "job", Owner(school_id=1, teacher_id=2), attempt, held_seconds, reason)


def tries(delivery: int = 1, most_deliveries: int | None = None) -> Tries:
    return Tries(delivery, most_attempts=3, most_deliveries=most_deliveries)


@pytest.mark.parametrize(
    ("taken", "delivery", "ending"),
    [
        (claim(Outcome.CLAIMED), 1, None),
        (claim(Outcome.ALREADY_COMPLETED), 1, Completed(before=True)),
        (claim(Outcome.ALREADY_FAILED, reason="no sound"), 1, AlreadyFailed("no sound")),
        (claim(Outcome.HELD, held_seconds=60), 1, LeftAlone(60)),
        (claim(Outcome.HELD, held_seconds=60), 4, LeftAlone(240)),
        (claim(Outcome.HELD, held_seconds=600), 4, LeftAlone(900)),
        (
            claim(Outcome.EXHAUSTED, attempt=3),
            1,
            Failed("The transcription was tried 3 times without success.", FailureKind.TRANSIENT),
        ),
    ],
    ids=["claimed", "completed", "failed", "held", "held, again", "held, at most 15 minutes", "exhausted"],
)
def test_a_claim_decides_how_the_delivery_ends(taken: Claim, delivery: int, ending: Ending | None) -> None:
    assert ending_of_claim(taken, tries(delivery)) == ending


CLAIMED = claim(Outcome.CLAIMED)
AWAY = TransientError("S3 is away")


def given_up(times: int) -> Failed:
    text = f"The transcription was tried {times} times without success; the last time: S3 is away"
    return Failed(text, FailureKind.TRANSIENT)


@pytest.mark.parametrize(
    ("error", "taken", "tried", "ending"),
    [
        (PermanentError("no sound"), CLAIMED, tries(), Failed("no sound", FailureKind.PERMANENT)),
        (PermanentError("no owner"), None, tries(), Failed("no owner", FailureKind.PERMANENT)),
        (Drained(), CLAIMED, tries(9, 9), GivenBack()),
        (LeaseLost(), CLAIMED, tries(9, 9), LeftAlone(None)),
        (AWAY, CLAIMED, tries(2), Retried("S3 is away", 1)),
        (AWAY, claim(Outcome.CLAIMED, attempt=3), tries(1), given_up(3)),
        (AWAY, None, tries(50), Retried("S3 is away", 50)),
        (AWAY, CLAIMED, tries(2, 3), Retried("S3 is away", 1)),
        (AWAY, CLAIMED, tries(3, 3), given_up(1)),
        (AWAY, None, tries(3, 3), given_up(3)),
    ],
    ids=[
        "permanent",
        "permanent, no claim",
        "drained",
        "lease lost",
        "transient",
        "transient, the last attempt",
        "transient, no claim",
        "transient, a delivery is left",
        "transient, the last delivery",
        "transient, the last delivery, no claim",
    ],
)
def test_an_error_decides_how_the_delivery_ends(
    error: PermanentError | TransientError | Drained | LeaseLost, taken: Claim | None, tried: Tries, ending: Ending
) -> None:
    assert ending_of_error(error, taken, tried) == ending


def test_a_long_recording_has_a_long_deadline_and_a_short_one_the_minimum() -> None:
    assert deadline_seconds(3600, factor=2, minimum=300) == 7200
    assert deadline_seconds(10, factor=2, minimum=300) == 300
