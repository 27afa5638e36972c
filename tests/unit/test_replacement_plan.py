"""What an image replacement does next, from any state an interruption, a person or a second one may leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.capacity.replacement_plan import Done, Drop, Launch, Member, Model, Part, Prove, Retire, next_step
from ops.errors import OpsError

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
OLD, NEW = Model("ami-old", "c7i.large"), Model("ami-new", "c7i.large")


def member(name: str, model: Model = OLD, part: str | None = None, minutes: int = 60) -> Member:
    return Member(name, model, NOW - timedelta(minutes=minutes), part)


def test_the_newest_image_already_in_charge_is_nothing_to_do() -> None:
    current = member("i-1", NEW)
    assert next_step([current], NEW) == Done(current)


def test_another_image_in_charge_asks_for_a_launch() -> None:
    assert next_step([member("i-1")], NEW) == Launch()


def test_another_type_in_charge_asks_for_a_launch_too() -> None:
    assert next_step([member("i-1", replace(NEW, instance_type="c7i.xlarge"))], NEW) == Launch()


def test_a_trial_goes_on_beside_the_old_one() -> None:
    old, new = member("i-1"), member("i-2", NEW, Part.TRIAL)
    assert next_step([old, new], NEW) == Prove(new, [old])


def test_a_trial_of_an_image_that_is_no_longer_the_newest_is_dropped() -> None:
    left = member("i-2", Model("ami-middle", "c7i.large"), Part.TRIAL)
    assert next_step([member("i-1"), left], NEW) == Drop([left])


def test_of_two_trials_the_newer_goes_on() -> None:
    older, newer = member("i-2", NEW, Part.TRIAL, 5), member("i-3", NEW, Part.TRIAL, 1)
    assert next_step([member("i-1"), older, newer], NEW) == Drop([older])


def test_a_relieved_one_is_retired() -> None:
    old, new = member("i-1", part=Part.LEAVING), member("i-2", NEW)
    assert next_step([old, new], NEW) == Retire([old], new)


def test_a_hand_over_cut_off_in_its_middle_ends_with_the_old_one_retired() -> None:
    old, new = member("i-1"), member("i-2", NEW, minutes=1)
    assert next_step([old, new], NEW) == Retire([old], new)


def test_a_second_appliance_of_the_same_image_is_not_the_roll_outs() -> None:
    first, second = member("i-1", NEW), member("i-2", NEW, minutes=1)
    assert next_step([first, second], NEW) == Done(second)


@pytest.mark.parametrize("members", [[], [member("i-1", NEW, Part.LEAVING)]])
def test_without_an_appliance_there_is_nothing_to_replace(members: list[Member]) -> None:
    with pytest.raises(OpsError, match="make launch"):
        next_step(members, NEW)


parts = st.sampled_from([None, None, Part.TRIAL, Part.LEAVING])
models = st.sampled_from([OLD, NEW, Model("ami-third", "c7i.large")])
states = st.lists(st.tuples(models, parts, st.integers(0, 99)), max_size=6).map(
    lambda rows: [member(f"i-{n}", model, part, minutes) for n, (model, part, minutes) in enumerate(rows)]
)


@given(states, st.lists(st.integers(0, 1), max_size=30))
def test_from_any_state_and_with_any_interruption_one_new_appliance_is_left_in_charge(
    members: list[Member], cuts: list[int]
) -> None:
    """Each step is carried out write by write; a cut leaves the rest of its writes undone."""
    there = {m.id: m for m in members}
    in_charge = any(m.part is None for m in members)
    cut = iter(cuts)
    for count in range(60):
        try:
            step = next_step(list(there.values()), NEW)
        except OpsError:
            assert not in_charge
            return
        writes: list[tuple[str, Member | None]]
        match step:
            case Done():
                break
            case Drop(unwanted):
                writes = [(m.id, None) for m in unwanted]
            case Launch():
                writes = [(f"i-new{count}", member(f"i-new{count}", NEW, Part.TRIAL, 0))]
            case Prove(new, old):
                writes = [(new.id, replace(new, part=None))]
                writes += [(m.id, replace(m, part=Part.LEAVING)) for m in old]
            case Retire(leaving, _):
                writes = [
                    write for m in leaving for write in ((m.id, replace(m, part=Part.LEAVING)), (m.id, None))
                ]
        for name, value in writes:
            there.pop(name, None) if value is None else there.__setitem__(name, value)
            if in_charge:
                assert any(m.part is None for m in there.values()), "nobody is in charge"
            if next(cut, 0):
                break
    else:
        pytest.fail("it does not come to an end")
    assert [m for m in there.values() if m.part is not None or m.model != NEW] == []
    assert there
