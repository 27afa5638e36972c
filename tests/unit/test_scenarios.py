"""Which scenarios run when: the long ones by their verbs only."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.settings import REPOSITORY

CHAOS = {"chaos/test_full.py::test_storm", "chaos/test_full.py::test_hostile", "chaos/test_full.py::test_audio"}
PLAN_CHECK = {"reality/test_full.py::test_lessons_wait_as_long_as_the_simulation_says"}
IMAGE = {
    "image/test_image.py::test_a_second_run_of_the_roles_changes_nothing",
    "image/test_image.py::test_a_booted_copy_passes_the_appliances_tests",
}
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


BY_MARKERS, MAKE_TEST, PLAIN = "-m 'appliance or full'", "--appliance", ""
COLLECT = """
import shlex, sys, pytest
for options in sys.argv[1:]:
    print("#", options, flush=True)
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", "--seed", "7", *shlex.split(options)]
    if code := pytest.main([*arguments, "tests/scenarios"]):
        sys.exit(code)
"""


@pytest.fixture(scope="module")
def selected() -> dict[str, set[str]]:
    """The tests under tests/scenarios that a run with each of these options would select."""
    command = [sys.executable, "-c", COLLECT, BY_MARKERS, MAKE_TEST, PLAIN]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, set[str]] = {}
    for line in ran.stdout.splitlines():
        if line.startswith("#"):
            found[line.removeprefix("#").strip()] = names = set()
        elif "::" in line:
            names.add(line.removeprefix("tests/scenarios/"))
    return found


def test_the_verbs_select_the_scenarios_by_their_markers(selected: dict[str, set[str]]) -> None:
    assert selected[BY_MARKERS] == CHAOS | PLAN_CHECK | DEPLOYS | LONG_CASE | IMAGE


def test_make_test_tests_the_image_and_rehearses_every_deploy_but_the_long_case(
    selected: dict[str, set[str]],
) -> None:
    assert selected[MAKE_TEST] - selected[PLAIN] == DEPLOYS | IMAGE
    recipe = (REPOSITORY / "Makefile").read_text().partition("\ntest: ")[2].partition("\n\n")[0]
    assert f"pytest {MAKE_TEST} " in recipe


def test_a_run_that_does_not_name_their_markers_leaves_them_out(selected: dict[str, set[str]]) -> None:
    names = selected[PLAIN]
    assert "chaos/test_short.py::test_nothing_is_lost_or_doubled_in_a_storm" in names
    assert not names & (CHAOS | PLAN_CHECK | DEPLOYS | LONG_CASE | IMAGE)
