"""The policies that are compared, and the simulation's setup for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from autoscaler.decision import Config
from contracts.capacity import CapacityMode
from planner.figures import AUTO, Figures
from planner.model import Kind, Setup

_OTHER_TYPE = "c7a.large"
_MINUTE = timedelta(minutes=1)
_MEAN_LESSON_SECONDS = 45 * 60.0


@dataclass(frozen=True)
class Policy:
    name: str
    mode: CapacityMode
    types: tuple[str, ...]
    """Instance types; a fleet's machine may be any of them."""
    engine: str = AUTO
    spot: bool = False

    @property
    def fleet(self) -> bool:
        return self.mode is CapacityMode.FLEET

    @property
    def machines(self) -> str:
        """Its machines, in words."""
        return self.types[0] if len(self.types) == 1 else f"any of {', '.join(self.types)}"


def policies(instance_type: str, fleet_types: tuple[str, ...]) -> Iterator[Policy]:
    """From the simplest to run to the least simple, for the settings INSTANCE_TYPE and FLEET_INSTANCE_TYPES."""
    bigger = instance_type.replace(".large", ".xlarge")
    for name in dict.fromkeys((instance_type, bigger)):
        yield Policy(f"one machine, {name}", CapacityMode.INSTANCE, (name,))
    for name in dict.fromkeys((instance_type, _OTHER_TYPE, bigger)):
        yield Policy(f"fleet on demand, {name}", CapacityMode.FLEET, (name,))
    # A single type is less simple to run: when Spot runs out of it, somebody has to choose another.
    yield Policy(f"fleet Spot, {len(fleet_types)} types", CapacityMode.FLEET, fleet_types, spot=True)
    yield Policy(f"fleet Spot, {instance_type}", CapacityMode.FLEET, (instance_type,), spot=True)


def spot_with(engine: str, fleet_types: tuple[str, ...]) -> Policy:
    return Policy(f"fleet Spot, {engine}", CapacityMode.FLEET, fleet_types, engine, spot=True)


def settings_of(policy: Policy, prepared: Setup) -> dict[str, str]:
    """What to set in `.env` for it."""
    engine = {} if policy.engine == AUTO else {"WHISPER_ENGINE": policy.engine}
    if not policy.fleet:
        return {"CAPACITY_MODE": "instance", "INSTANCE_TYPE": policy.types[0], **engine}
    config = prepared.config
    return {
        "CAPACITY_MODE": "fleet",
        "FLEET_MAXIMUM": str(prepared.maximum),
        "FLEET_INSTANCE_TYPES": ",".join(policy.types),
        "FLEET_ON_DEMAND_PERCENT": "0" if policy.spot else "100",
        "FLEET_TARGET_WAIT_MINUTES": f"{config.target_wait / _MINUTE:g}",
        "FLEET_BOOT_MINUTES": f"{config.boot / _MINUTE:.2g}",
        "FLEET_AUDIO_MINUTES_PER_MINUTE": f"{config.audio_minutes_per_minute:.3g}",
        **engine,
    }


def setup(
    policy: Policy, figures: Figures, *, target: timedelta, maximum: int, seed: int, scale: int = 1
) -> Setup:
    """Raises OpsError for a type or an engine without figures."""
    kinds = tuple(_kind(name, policy.engine, figures) for name in policy.types)
    lesson = sum(kind.seconds(_MEAN_LESSON_SECONDS) for kind in kinds) / len(kinds)
    boot = figures.boot_seconds(new=policy.fleet)
    spot = figures.spot
    interruptions = spot.interruptions_per_hour if len(kinds) == 1 else spot.interruptions_per_hour_several
    return Setup(
        config=Config(
            capacity_mode=policy.mode,
            target_wait=target,
            boot=timedelta(seconds=boot),
            audio_minutes_per_minute=_MEAN_LESSON_SECONDS / lesson,
            mean_lesson_minutes=_MEAN_LESSON_SECONDS / 60,
        ),
        kinds=kinds,
        polling=figures.polling,
        boot_seconds=boot,
        pending_seconds=min(boot, figures.ec2.pending_seconds),
        stop_seconds=figures.ec2.stop_seconds,
        boot_spread=figures.ec2.boot_spread,
        maximum=maximum,
        interruptions_per_hour=interruptions if policy.spot else 0.0,
        notice_seconds=spot.notice_seconds,
        scale=scale,
        seed=seed,
    )


def _kind(instance_type: str, engine_name: str, figures: Figures) -> Kind:
    speed = figures.machine_type(instance_type).speed
    engine = figures.engine(engine_name, instance_type)
    return Kind(
        name=instance_type,
        real_time_factor=engine.real_time_factor / speed,
        overhead_seconds=engine.overhead_seconds,
        model_load_seconds=engine.model_load_seconds,
    )
