"""Which versions of the autoscaler are kept, rolled back to, and taken for sound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.autoscaler.release import choose, is_tick, superfluous
from ops.errors import OpsError

NUMBERS = st.sets(st.integers(1, 60), min_size=1)


def test_a_rollback_goes_to_the_version_before_the_live_one() -> None:
    assert choose([1, 3, 4, 7], 4, "") == 3


def test_a_rollback_can_name_its_version_also_a_newer_one() -> None:
    assert choose([1, 3, 4, 7], 4, "7") == 7


@pytest.mark.parametrize("wanted", ["5", "0", "-1", "live", "²", "3 "])
def test_a_rollback_to_what_is_not_there_is_refused_and_told_what_is(wanted: str) -> None:
    with pytest.raises(OpsError, match="there are 1, 3"):
        choose([3, 1], 3, wanted)


def test_a_rollback_with_nothing_before_is_refused() -> None:
    with pytest.raises(OpsError, match="no version before 3"):
        choose([3, 4], 3, "")


@given(NUMBERS, st.data(), st.integers(1, 8))
def test_the_newest_the_live_and_the_one_before_it_are_never_pruned(
    known: set[int], data: st.DataObject, kept: int
) -> None:
    live = data.draw(st.sampled_from(sorted(known)))
    left = known - set(superfluous(known, live, kept))
    assert live in left
    assert set(sorted(known)[-kept:]) <= left
    assert len(left) <= kept + 2
    if min(known) < live:
        assert choose(left, live, "") == choose(known, live, "")


@pytest.mark.parametrize(
    ("answer", "sound"),
    [
        ({"action": "none", "reason": "stopped, and nothing to do", "outcome": "dry-run"}, True),
        ({"action": "start", "reason": "stopped with backlog 1", "outcome": "done"}, False),
        ({"action": "none", "reason": "", "outcome": "dry-run"}, False),
        ({"reason": "because", "outcome": "dry-run"}, False),
        ({}, False),
        (None, False),
        ("ok", False),
    ],
)
def test_only_a_decision_with_its_reason_and_without_a_deed_is_a_tick(answer: object, *, sound: bool) -> None:
    assert is_tick(answer) is sound
