"""Which scenarios run when: the long ones by their verbs only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.settings import REPOSITORY


def collected(*arguments: str) -> set[str]:
    """Names of the tests that a run would select."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode in {0, 5}, ran.stdout + ran.stderr
    return {line.split("::")[-1] for line in ran.stdout.splitlines() if "::" in line}


@pytest.mark.parametrize(
    ("arguments", "tests"),
    [
        (["tests/scenarios/chaos", "-m", "full", "--seed", "7"], {"test_storm", "test_hostile", "test_audio"}),
        (["tests/scenarios/chaos", "-m", "full", "-k", "storm"], {"test_storm"}),
        (["tests/scenarios/reality", "-m", "full"], {"test_lessons_wait_as_long_as_the_simulation_says"}),
        (
            ["tests/scenarios/deploys", "-m", "appliance or full", "-k", "power_cut"],
            {"test_power_cut_in_the_middle_of_the_flip"},
        ),
    ],
)
def test_a_verb_selects_its_scenarios(arguments: list[str], tests: set[str]) -> None:
    assert collected(*arguments) == tests


def test_the_ordinary_run_leaves_out_what_belongs_to_a_verb() -> None:
    names = collected("tests/scenarios", "-m", "not slow")
    assert "test_nothing_is_lost_or_doubled_in_a_storm" in names
    assert not names & {
        "test_storm",
        "test_two_deploys_at_once",
        "test_lessons_wait_as_long_as_the_simulation_says",
    }


def test_the_rehearsal_of_make_test_leaves_out_the_long_case() -> None:
    full = collected("tests/scenarios/deploys", "-m", "appliance or full")
    short = collected("tests/scenarios/deploys", "-m", "appliance and not full")
    assert full - short == {"test_a_release_on_other_packages"}
    assert len(short) == 10
