"""What a lesson costs on each type of the price table, as far as what was measured here says anything about it.

A type with as many cores and the same vector instructions is taken to be as fast as this machine. A type with less
(AVX2 alone) is priced by runs that were held to AVX2, if there are any. Nothing is scaled by clock rates or core
counts: what was not measured has no figure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ops.settings import REPOSITORY

LESSON_SECONDS = 45 * 60


class Instructions(StrEnum):
    """What Whisper's matrix products can use, from the least to the most of x86; arm64 apart."""

    AVX2 = "avx2"
    AVX512 = "avx512"
    VNNI = "avx512-vnni"
    BF16 = "avx512-bf16"
    """With VNNI; what OpenVINO's encoder is fastest with short of AMX."""
    AMX = "amx"
    ARM64 = "arm64"


class InstanceType(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    usd_per_hour: float
    vcpus: int
    instructions: Instructions


def instance_types(table: Path = REPOSITORY / "ops" / "prices.toml") -> list[InstanceType]:
    """The price table's types that say what processor they have, cheapest first."""
    document = tomllib.loads(table.read_text())
    prices = document["on_demand_usd_per_hour"]
    types = [
        InstanceType(name=name, usd_per_hour=prices[name], **processor)
        for name, processor in document["processors"].items()
    ]
    return sorted(types, key=lambda each: (each.usd_per_hour, each.name))


def lesson_usd(real_time_factor: float, overhead_seconds: float, usd_per_hour: float) -> float:
    """Dollars for 45 minutes of audio: (overhead + factor x audio) seconds, EC2 billing by the second.

    Starting and stopping the instance is not in it, nor the minute each start is billed at least.
    """
    return (overhead_seconds + real_time_factor * LESSON_SECONDS) / 3600 * usd_per_hour


def factor_on(
    instance: InstanceType, measured: Mapping[Instructions, float], cores: int
) -> tuple[float, Instructions] | None:
    """The measured real-time factor that says most about a type, and with which instructions it was measured.

    `measured` is by the instructions the runs could use, on `cores` cores. A processor that can do more is given
    the figure of one that can do less, which it should better. None when nothing that was measured applies.
    """
    if instance.vcpus != cores:
        return None
    order = list(Instructions)
    if instance.instructions is Instructions.ARM64:
        able = [Instructions.ARM64]
    else:
        able = order[: order.index(instance.instructions) + 1]
    for instructions in reversed(able):
        if instructions in measured:
            return measured[instructions], instructions
    return None
