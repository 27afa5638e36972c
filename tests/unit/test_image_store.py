"""Which images may go: never one that is needed, never the way back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ops.images.registry import Image, superfluous

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def image(days: int, *references: str) -> Image:
    return Image(f"ami-{days}", "", NOW - timedelta(days=days), "0.1", "abc", [f"snap-{days}"], references)


def test_the_newest_and_the_one_before_it_stay_though_nothing_refers_to_them() -> None:
    images = [image(days) for days in (3, 0, 2, 1)]
    assert [each.id for each in superfluous(images)] == ["ami-2", "ami-3"]


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), unique_by=lambda row: row[0], max_size=8))
def test_what_something_refers_to_stays_and_all_else_but_two_goes(rows: list[tuple[int, bool]]) -> None:
    images = [image(days, *(["i-1"] if needed else [])) for days, needed in rows]
    going = superfluous(images)
    assert not any(each.references for each in going)
    oldest_kept = sorted(rows)[:2]
    assert {each.id for each in going} == {f"ami-{days}" for days, needed in rows if not needed} - {
        f"ami-{days}" for days, _ in oldest_kept
    }
