"""Which scenarios run when: the long ones by their verbs only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.settings import REPOSITORY

CHAOS = {"chaos/test_full.py::test_storm", "chaos/test_full.py::test_hostile", "chaos/test_full.py::test_audio"}
PLAN_CHECK = {"reality/test_full.py::test_lessons_wait_as_long_as_the_simulation_says"}
LONG_CASE = {"deploys/test_deploys.py::test_a_release_on_other_packages"}
DEPLOYS = {
    f"deploys/test_deploys.py::test_{case}"
    for case in (
        "upgrade_while_lessons_are_transcribed",
        "two_deploys_at_once",
        "upgrade_while_stopped",
        "corrupted_artefact",
        "broken_release",
        "broken_release_at_a_boot",
        "power_cut_in_the_middle_of_the_flip",
        "ssm_not_ready_yet",
        "rollback",
        "settings_the_worker_cannot_run_with",
    )
}


MARKERS = ("appliance or full", "appliance and not full", "not slow")
COLLECT = """
import sys, pytest
for markers in sys.argv[1:]:
    print("#", markers, flush=True)
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "--seed", "7", "-m", markers]
    if code := pytest.main([*options, "tests/scenarios"]):
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def selected() -> dict[str, set[str]]:
    """The tests under tests/scenarios that a run with each of the markers would select."""
    command = [sys.executable, "-c", COLLECT, *MARKERS]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, set[str]] = {}
    for line in ran.stdout.splitlines():
        if line.startswith("# "):
            found[line.removeprefix("# ")] = names = set()
        elif "::" in line:
            names.add(line.removeprefix("tests/scenarios/"))
    return found


def test_the_verbs_select_the_scenarios_by_their_markers(selected: dict[str, set[str]]) -> None:
    assert selected["appliance or full"] == CHAOS | PLAN_CHECK | DEPLOYS | LONG_CASE


def test_make_test_rehearses_every_deploy_but_the_long_case(selected: dict[str, set[str]]) -> None:
    assert selected["appliance and not full"] == DEPLOYS


def test_a_run_that_does_not_name_their_markers_leaves_them_out(selected: dict[str, set[str]]) -> None:
    names = selected["not slow"]
    assert "chaos/test_short.py::test_nothing_is_lost_or_doubled_in_a_storm" in names
    assert not names & (CHAOS | PLAN_CHECK | DEPLOYS | LONG_CASE)
