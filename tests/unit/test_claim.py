"""What a worker may do with the job of a message it received."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from whisper_processor.database.jobs import JobRow, Outcome, decide_claim

SENT = datetime(2026, 1, 1, 12, tzinfo=UTC)
EARLIER, LATER = datetime(2026, 1, 1, 11), datetime(2026, 1, 1, 13)  # noqa: DTZ001 - as the column is


def row(
    status: str,
    attempts: int = 1,
    worker: str | None = "other",
    held_seconds: int | None = None,
    ended_at: datetime | None = None,
) -> JobRow:
    return JobRow("job", status, attempts, 1, 2, worker, held_seconds, ended_at, None)


@pytest.mark.parametrize(
    ("found", "outcome", "attempt"),
    [
        (row("queued", attempts=0, worker=None), Outcome.CLAIMED, 1),
        (row("queued", attempts=2), Outcome.CLAIMED, 3),
        (row("queued", attempts=3), Outcome.EXHAUSTED, 3),
        (row("completed"), Outcome.ALREADY_COMPLETED, 1),
        (row("processing", held_seconds=60), Outcome.HELD, 1),
        (row("processing", worker="me", held_seconds=60), Outcome.CLAIMED, 2),
        (row("processing", worker=None, held_seconds=60), Outcome.CLAIMED, 2),
        (row("processing", held_seconds=0), Outcome.CLAIMED, 2),
        (row("processing", held_seconds=None), Outcome.CLAIMED, 2),
        (row("processing", attempts=3, held_seconds=-5), Outcome.EXHAUSTED, 3),
        (row("failed", attempts=3, ended_at=LATER), Outcome.ALREADY_FAILED, 3),
        (row("failed", attempts=3, ended_at=EARLIER), Outcome.CLAIMED, 1),
        (row("failed", attempts=3, ended_at=None), Outcome.CLAIMED, 1),
    ],
    ids=[
        "a new job",
        "the last attempt",
        "no attempt is left",
        "completed",
        "another worker holds it",
        "this worker holds it",
        "nobody holds it",
        "the lease has just expired",
        "there was no lease",
        "the lease and the attempts are used up",
        "failed after the message was sent",
        "failed before the message was sent",
        "failed at an unknown time",
    ],
)
def test_the_row_decides_what_a_worker_may_do(found: JobRow, outcome: Outcome, attempt: int) -> None:
    claim = decide_claim(found, "me", sent_at=SENT, max_attempts=3)
    assert (claim.outcome, claim.attempt) == (outcome, attempt)
