"""What to do about releases: the decisions, and what they guarantee for every state of a machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from whisper_processor.releases import Release, StoredFile, Wanted, release_name
from whisper_processor.update.plan import (
    Disk,
    Failure,
    Step,
    next_step,
    releases_to_prune,
    runtimes_to_prune,
    sound_release,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHAS = {name: f"{number:064x}"[::-1] for number, name in enumerate("abcdef", 1)}
NAMES = {key: release_name("1.0", sha) for key, sha in SHAS.items()}
names = st.sampled_from(sorted(NAMES.values()))
runtimes_of = st.sampled_from("uvwxyz")


def request(key: str, at: datetime = NOW) -> Wanted:
    release = Release(
        name=NAMES[key],
        version="1.0",
        archive=StoredFile(key="scripts/x", sha256=SHAS[key]),
        wheelhouse=StoredFile(key="scripts/y", sha256="0" * 64),
    )
    return Wanted(release=release, set_by="anna", set_at=at)


def disk(current: str | None, proven: str | None, previous: str | None = None, complete: str = "ab") -> Disk:
    def name(key: str | None) -> str | None:
        return NAMES[key] if key else None

    return Disk(frozenset(NAMES[c] for c in complete), name(current), name(proven), name(previous))


@st.composite
def disks(draw: st.DrawFn) -> Disk:
    link = st.none() | names
    return Disk(draw(st.frozensets(names)), draw(link), draw(link), draw(link))


def test_the_release_that_runs_is_left_alone() -> None:
    assert next_step(disk("a", "a"), request("a"), None)[0] is Step.NOTHING


def test_without_a_request_nothing_is_done() -> None:
    assert next_step(disk("a", "a"), None, None)[0] is Step.NOTHING


def test_another_release_is_installed() -> None:
    step, reason = next_step(disk("a", "a"), request("b"), None)
    assert step is Step.INSTALL
    assert "anna" in reason


def test_a_request_that_failed_is_not_tried_at_every_boot() -> None:
    failure = Failure(NAMES["b"], NOW)
    assert next_step(disk("a", "a"), request("b"), failure)[0] is Step.SKIP


def test_the_same_request_made_again_is_tried_again() -> None:
    failure = Failure(NAMES["b"], NOW)
    assert next_step(disk("a", "a"), request("b", NOW + timedelta(seconds=1)), failure)[0] is Step.INSTALL


def test_another_request_than_the_failed_one_is_tried() -> None:
    assert next_step(disk("a", "a"), request("c"), Failure(NAMES["b"], NOW))[0] is Step.INSTALL


def test_an_interrupted_switch_is_rolled_back_to_what_passed_its_check() -> None:
    assert sound_release(disk("b", "a")) == NAMES["a"]


def test_a_link_to_half_a_release_is_not_trusted() -> None:
    assert sound_release(disk("c", "c", "a")) == NAMES["a"]
    assert sound_release(disk("a", None)) == NAMES["a"]
    assert sound_release(disk("c", "d", "e")) is None


@given(disks())
def test_the_release_rolled_back_to_is_always_complete(found: Disk) -> None:
    sound = sound_release(found)
    assert sound is None or sound in found.complete
    if found.proven in found.complete:
        assert sound == found.proven


@given(
    disks(), st.none() | st.sampled_from("abcdef"), st.none() | st.tuples(st.sampled_from("abcdef"), st.booleans())
)
def test_only_a_request_for_another_release_leads_to_an_installation(
    found: Disk, wanted: str | None, failed: tuple[str, bool] | None
) -> None:
    failure = Failure(NAMES[failed[0]], NOW if failed[1] else NOW - timedelta(days=1)) if failed else None
    step, reason = next_step(found, request(wanted) if wanted else None, failure)
    assert reason
    if step is Step.INSTALL:
        assert wanted is not None
        assert found.current != NAMES[wanted]


@given(st.permutations(sorted(NAMES.values())), disks(), st.none() | names, st.integers(0, 6))
def test_what_is_in_use_or_wanted_is_never_pruned(
    order: list[str], found: Disk, wanted: str | None, kept: int
) -> None:
    gone = releases_to_prune(order, found, wanted, kept)
    assert not {found.current, found.proven, found.previous, wanted} & set(gone)
    spare = [
        name for name in order if name in found.complete - {found.current, found.proven, found.previous, wanted}
    ]
    assert set(spare[:kept]).isdisjoint(gone)
    assert set(spare[kept:]) <= set(gone)


@given(st.permutations(sorted(NAMES.values())), disks(), st.none() | names, st.integers(0, 6))
def test_incomplete_releases_are_removed_unless_they_are_wanted(
    order: list[str], found: Disk, wanted: str | None, kept: int
) -> None:
    gone = set(releases_to_prune(order, found, wanted, kept))
    used = {found.current, found.proven, found.previous, wanted}
    assert set(order) - found.complete - used <= gone


@given(st.sets(st.sampled_from("uvwxyz")), st.dictionaries(names, st.none() | st.sampled_from("uvwxyz")))
def test_a_runtime_is_removed_exactly_when_no_release_uses_it(
    runtimes: set[str], referred: dict[str, str | None]
) -> None:
    gone = runtimes_to_prune(runtimes, referred)
    assert set(gone) == {runtime for runtime in runtimes if runtime not in referred.values()}
