"""`make plan-check`: lessons through a private cloud, and through the simulation. CAPACITY_MODE says of what."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from contracts.capacity import CapacityMode
from contracts.jobs import EngineName
from ops.aws.connection import Connection
from ops.capacity import mode
from ops.settings import OpsSettings
from testbed.cloud import MODELS, private_cloud, settings_of
from testbed.system import deploy_system
from tests.scenarios.conftest import Show
from tests.scenarios.reality.rehearsal import FLEET, FLEET_SETTINGS, FULL, SETTINGS, rehearse
from whisper_processor import models


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_lessons_wait_as_long_as_the_simulation_says(tmp_path: Path, show: Show) -> None:
    began = time.monotonic()
    models.fetch("base", EngineName.FASTER_WHISPER, MODELS, None, print)
    print("a local cloud of its own, deployed as by `make up deploy`")  # noqa: T201 - progress, read while it runs
    with private_cloud(tmp_path / "cloud") as cloud:
        fleet = OpsSettings().capacity_mode is CapacityMode.FLEET
        aws = Connection(settings_of(cloud).model_copy(update=FLEET if fleet else {}))
        deploy_system(aws, FLEET_SETTINGS if fleet else SETTINGS, print)
        mode.of(aws).launch(aws, print)
        mode.of(aws).wait_idle(aws, 120)
        compared = rehearse(aws, tmp_path, FULL, print)
    problems = list(compared.problems())
    show(compared.table())
    for problem in problems:
        show(f"! {problem}")
    here, simulated = compared.means
    show(
        f"plan-check: mean wait {here:.1f} s here, {simulated:.1f} s simulated, rank correlation"
        f" {compared.rank_correlation:.2f}, {time.monotonic() - began:.0f} s, {len(problems)} problems"
    )
    assert not problems
