"""The answer for each policy: waits, cost, and the smallest fleet that keeps the target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from planner.costs import Cost, cost
from planner.figures import Figures
from planner.model import Run, Setup
from planner.policies import Policy, setup
from planner.simulation import Simulation
from planner.trace import DAY, Trace

EXACT_LESSONS = 20_000
"""A larger trace is thinned: one lesson, and one machine of a fleet, then stands for several."""
_SIMPLER_IS_WORTH = 0.1
_SIMPLER_IS_WORTH_USD = 5.0


@dataclass(frozen=True)
class Answer:
    policy: Policy
    maximum: int
    """The fleet's smallest maximum that keeps the target, else what it uses without a limit. 1 for one machine."""
    run: Run
    cost: Cost
    p50_wait: float
    """Seconds, like the next three."""
    p95_wait: float
    p95_transcript: float
    target: float

    @property
    def keeps_target(self) -> bool:
        return self.p95_wait <= self.target


@dataclass(frozen=True)
class Refusal:
    """A policy that was not simulated, and why."""

    policy: Policy
    reason: str


def answer(
    policy: Policy,
    trace: Trace,
    figures: Figures,
    *,
    target: timedelta,
    seed: int = 1,
    exact: bool = False,
    maximum: int | None = None,
    tell: Callable[[str], None] = lambda _text: None,
) -> Answer | Refusal:
    """Simulate a fleet with the given maximum, or with the smallest that keeps p95 of the waits under `target`.

    `tell` hears what is simulated at the moment. Raises OpsError for a type or an engine the figures do not have.
    """

    def prepared(most: int) -> Setup:
        scale = 1 if exact or not policy.fleet else scale_for(len(trace))
        return setup(policy, figures, target=target, maximum=most, seed=seed, scale=scale)

    busy = machines_busy(trace, prepared(1))
    if not policy.fleet:
        if busy > 1:
            hours = busy * 24
            return Refusal(policy, f"falls behind: a day brings it {hours:,.0f} hours of work")
        return _judge(policy, 1, trace, figures, prepared(1), target)
    if maximum is not None:
        if maximum < busy:
            return Refusal(policy, f"falls behind with {maximum}: the mean day keeps {busy:,.1f} machines busy")
        return _judge(policy, maximum, trace, figures, prepared(maximum), target)
    return _smallest(policy, trace, figures, prepared, target, busy, tell)


def scale_for(lessons: int) -> int:
    return max(1, math.ceil(lessons / EXACT_LESSONS))


def machines_busy(trace: Trace, prepared: Setup) -> float:
    """How many machines the trace keeps busy on average, day and night."""
    kinds = prepared.kinds
    a_second = sum(kind.real_time_factor for kind in kinds) / len(kinds)
    a_lesson = sum(kind.overhead_seconds for kind in kinds) / len(kinds)
    return float(a_second * trace.seconds.sum() + a_lesson * len(trace)) / (trace.days * DAY)


def _smallest(
    policy: Policy,
    trace: Trace,
    figures: Figures,
    prepared: Callable[[int], Setup],
    target: timedelta,
    busy: float,
    tell: Callable[[str], None],
) -> Answer:
    """Bisect between the least that the work needs and what a fleet without a limit uses."""

    def at(maximum: int) -> Answer:
        tell(f"{policy.name}: at most {maximum:,} machines")
        return _judge(policy, maximum, trace, figures, prepared(maximum), target)

    step = prepared(1).scale
    best = at(step * len(trace))
    most = math.ceil(best.run.peak_machines / step)
    if not best.keeps_target:
        return _with_maximum(best, most * step)
    low, high = max(1, math.ceil(busy / step)) - 1, most  # `high` keeps the target, `low` is not tried
    best = _with_maximum(best, most * step)
    while high - low > 1:
        middle = (low + high) // 2
        tried = at(middle * step)
        if tried.keeps_target:
            high, best = middle, tried
        else:
            low = middle
    return best


def _with_maximum(found: Answer, maximum: int) -> Answer:
    return Answer(
        found.policy,
        maximum,
        found.run,
        found.cost,
        found.p50_wait,
        found.p95_wait,
        found.p95_transcript,
        found.target,
    )


def _judge(
    policy: Policy, maximum: int, trace: Trace, figures: Figures, prepared: Setup, target: timedelta
) -> Answer:
    run = Simulation(trace, prepared).run()
    p50, p95 = np.percentile(run.waits, [50, 95])
    return Answer(
        policy=policy,
        maximum=maximum,
        run=run,
        cost=cost(run, policy, figures, trace.days),
        p50_wait=float(p50),
        p95_wait=float(p95),
        p95_transcript=float(np.percentile(run.turnarounds, 95)),
        target=target.total_seconds(),
    )


def recommend(found: list[Answer]) -> tuple[Answer, str] | None:
    """The cheapest that keeps the target, unless a simpler one (earlier in the list) costs about as much.

    None when no policy keeps it.
    """
    kept = [each for each in found if each.keeps_target]
    if not kept:
        return None
    cheapest = min(kept, key=lambda each: each.cost.month)
    limit = cheapest.cost.month + max(_SIMPLER_IS_WORTH_USD, _SIMPLER_IS_WORTH * cheapest.cost.month)
    chosen = next(each for each in kept if each.cost.month <= limit)
    if chosen is cheapest:
        why = f"the cheapest of the {len(kept)} that keep p95 under the target"
    else:
        saving = chosen.cost.month - cheapest.cost.month
        why = f"${saving:,.2f} a month more than {cheapest.policy.name}, and simpler to run"
    return chosen, why
