"""Where AWS's quotas bind: the most that a run would have used, against what AWS allows."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from planner.figures import Figures
from planner.model import TICK_SECONDS, Run
from planner.policies import Policy
from planner.trace import DAY

TABLE = Path(__file__).with_name("quotas.toml")
_NEAR = 0.7
_PARAMETER_PAGES = 3
_OUTPUTS = 4
"""Files a transcript is written to."""


class Quota(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    limit: float
    unit: str
    checked: bool
    source: str
    advice: str
    burst: float = 0.0
    refill_per_second: float = 0.0


@dataclass(frozen=True)
class Use:
    quota: Quota
    used: float
    """The most, in the quota's unit."""

    @property
    def share(self) -> float:
        return self.used / self.quota.limit

    @property
    def verdict(self) -> str:
        if self.share > 1:
            return "binds"
        return "near" if self.share > _NEAR else "fine"


def read_quotas() -> dict[str, Quota]:
    return {key: Quota.model_validate(value) for key, value in tomllib.loads(TABLE.read_text()).items()}


def uses(run: Run, policy: Policy, figures: Figures, quotas: Mapping[str, Quota]) -> list[Use]:
    """The tightest first. A rate is the mean of the busiest minute."""
    scale = run.setup.scale
    vcpus = run.peak_machines * max(figures.machine_type(name).vcpus for name in policy.types)
    uploads, starts, ends = (_busiest(moments, scale) for moments in (run.uploaded, run.started, run.done))
    boots = _busiest(np.array([span.start for span in run.spans]), scale)
    used = {
        "sqs_in_flight": run.peak_in_flight,
        "sqs_retention": run.waits.max() / DAY,
        "vcpus_on_demand": 0.0 if policy.spot else vcpus,
        "vcpus_spot": vcpus if policy.spot else 0.0,
        "ec2_launch_delay": launch_delay(run, quotas["ec2_launch_delay"]),
        "ec2_create_tags": run.peak_machines / TICK_SECONDS + starts + ends,
        "lambda_ticks": uploads,
        "ec2_describe": uploads,
        "database_connections": run.peak_machines,
        "parameter_store": boots * _PARAMETER_PAGES,
        "put_metric_data": ends,
        "s3_puts": ends * _OUTPUTS,
        "subnet_addresses": run.peak_machines,
        "disk_tib": run.peak_machines * figures.disk_gib / 1024,
    }
    found = [Use(quota, float(used[key])) for key, quota in quotas.items()]
    return sorted(found, key=lambda use: -use.share)


def launch_delay(run: Run, quota: Quota) -> float:
    """The longest that a launch waits for a RunInstances token, in seconds. Each machine takes one token."""
    tokens, last, worst = quota.burst, 0.0, 0.0
    for moment in run.launches:
        tokens = min(quota.burst, tokens + (moment - last) * quota.refill_per_second) - run.setup.scale
        last = moment
        worst = max(worst, -tokens / quota.refill_per_second)
    return worst


def _busiest(moments: NDArray[np.float64], scale: int) -> float:
    """The mean rate a second in the busiest minute; each moment stands for `scale`."""
    if not len(moments):
        return 0.0
    return float(np.bincount((moments // TICK_SECONDS).astype(np.int64)).max()) * scale / TICK_SECONDS
