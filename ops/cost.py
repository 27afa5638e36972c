"""What a lesson costs on an instance type, from the price table beside this module."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ops.errors import OpsError


def hourly_price(instance_type: str) -> float:
    """US dollars an hour, on demand. Raises OpsError for a type the table does not have."""
    prices = tomllib.loads(Path(__file__).with_name("prices.toml").read_text())["on_demand_usd_per_hour"]
    if instance_type not in prices:
        raise OpsError(f"no price for {instance_type!r} in ops/prices.toml; it has {', '.join(sorted(prices))}")
    return float(prices[instance_type])


def cost_usd(seconds: float, instance_type: str) -> float:
    """EC2 bills Linux by the second, at least a minute for each start."""
    return max(60.0, seconds) / 3600 * hourly_price(instance_type)
