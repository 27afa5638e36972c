"""The price table, `prices.toml`: instance types, their processors, and disks."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Any

from ops.errors import OpsError
from ops.settings import REPOSITORY

HOURS_A_MONTH = 730


def hourly_price(instance_type: str) -> float:
    """US dollars an hour, on demand. Raises OpsError for a type the table does not have."""
    prices = _prices()["on_demand_usd_per_hour"]
    if instance_type not in prices:
        raise OpsError(f"no price for {instance_type!r} in ops/prices.toml; it has {', '.join(sorted(prices))}")
    return float(prices[instance_type])


def cost_usd(seconds: float, instance_type: str) -> float:
    """EC2 bills Linux by the second, at least a minute for each start."""
    return max(60.0, seconds) / 3600 * hourly_price(instance_type)


def vcpus(instance_type: str) -> int:
    """As EC2 counts them against its quotas. Raises OpsError for a type the table does not have."""
    return int(_processor(instance_type)["vcpus"])


def instructions(instance_type: str) -> str:
    """What its processor offers, in the table's words. Raises OpsError for a type the table does not have."""
    return str(_processor(instance_type)["instructions"])


def _processor(instance_type: str) -> dict[str, Any]:
    processors: dict[str, dict[str, Any]] = _prices()["processors"]
    if instance_type not in processors:
        raise OpsError(
            f"no processor of {instance_type!r} in ops/prices.toml; it has {', '.join(sorted(processors))}"
        )
    return processors[instance_type]


def disk_usd_per_gib_month() -> float:
    return float(_prices()["gp3_usd_per_gib_month"])


@cache
def _prices() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "ops" / "prices.toml").read_text())
