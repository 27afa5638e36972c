"""The fleet's numbers are said in `.env.example`, which the code's defaults follow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dotenv import dotenv_values

from autoscaler.decision import Config
from ops.settings import REPOSITORY, OpsSettings


def test_the_operators_defaults_are_the_examples() -> None:
    example = dotenv_values(REPOSITORY / ".env.example")
    for name in OpsSettings.model_fields:
        if name.startswith(("fleet_", "capacity_")):
            given: dict[str, Any] = {name: example[name.upper()], "_env_file": None}
            stated = OpsSettings(**given)
            assert getattr(stated, name) == OpsSettings.model_fields[name].default, name


def test_the_decisions_defaults_are_the_operators() -> None:
    settings, config = OpsSettings(_env_file=None), Config()
    assert timedelta(minutes=settings.fleet_target_wait_minutes) == config.target_wait
    assert timedelta(minutes=settings.fleet_boot_minutes) == config.boot
    assert timedelta(minutes=settings.fleet_scale_out_cooldown_minutes) == config.scale_out_cooldown
    assert settings.fleet_audio_minutes_per_minute == config.audio_minutes_per_minute
    assert settings.fleet_mean_lesson_minutes == config.mean_lesson_minutes
    assert settings.capacity_mode.value == config.capacity_mode.value
