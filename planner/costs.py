"""What a run cost: EC2 and its disks, at the prices of ops/prices.toml."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ops.prices import HOURS_A_MONTH, cost_usd, disk_usd_per_gib_month, hourly_price
from planner.figures import Figures, Month
from planner.model import TICK_SECONDS, Run
from planner.policies import Policy

_WEEK = 7


@dataclass(frozen=True)
class Cost:
    """US dollars."""

    run: float
    """Of the simulated days: machines, and a fleet's disks with them."""
    month: float
    lesson: float


def cost(run: Run, policy: Policy, figures: Figures, days: int) -> Cost:
    share = figures.spot.price_share if policy.spot else 1.0
    machines = run.setup.scale * share * sum(cost_usd(span.end - span.start, span.kind) for span in run.spans)
    disk_month = figures.disk_gib * disk_usd_per_gib_month()
    if policy.fleet:
        machines += disk_month * run.machine_hours / HOURS_A_MONTH
    times = months_share(days, figures.month)
    month = machines * times + (0.0 if policy.fleet else disk_month)  # a stopped machine keeps its disk
    return Cost(run=machines, month=month, lesson=month / (run.lessons * times))


def months_share(days: int, month: Month) -> float:
    """How many times the simulated days fit into a month."""
    return month.school_days / days if days < _WEEK else month.days / days


def spent_by_minute(run: Run, policy: Policy, figures: Figures) -> NDArray[np.float64]:
    """US dollars for machines up to each minute of `run.minute`."""
    minutes = len(run.minute)
    dollars_a_minute = np.zeros(minutes + 1)
    share = figures.spot.price_share if policy.spot else 1.0
    for span in run.spans:
        rate = run.setup.scale * share * hourly_price(span.kind) / 60
        dollars_a_minute[min(minutes, int(span.start / TICK_SECONDS))] += rate
        dollars_a_minute[min(minutes, int(span.end / TICK_SECONDS))] -= rate
    return np.cumsum(np.cumsum(dollars_a_minute[:minutes]))
