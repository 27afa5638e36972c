"""The planner's simulation against a real run: `make plan-check` in a shorter form."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.aws.connection import Connection
from ops.capacity import appliance
from ops.releases.settings import write_settings
from testbed.cloud import quiet
from testbed.system import SHORT_POLLS
from tests.scenarios.reality.rehearsal import SETTINGS, SHORT, rehearse

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)
def test_lessons_wait_as_long_as_the_simulation_says(deployed: Connection, tmp_path: Path) -> None:
    appliance.wait_for(deployed, "stopped", 120)
    write_settings(deployed, SETTINGS, quiet)
    try:
        compared = rehearse(deployed, tmp_path, SHORT, quiet)
    finally:
        write_settings(deployed, SHORT_POLLS, quiet)
    assert not list(compared.problems()), compared
