"""One plan: the uploads, every policy's answer to them, the quotas, and which policy it recommends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from planner.answers import Answer, Refusal, answer, recommend
from planner.figures import Figures
from planner.policies import Policy, policies, settings_of, spot_with
from planner.quotas import Use, read_quotas, uses
from planner.trace import Trace

MEASURABLE_ENGINES = ("faster-whisper", "openai-whisper")
"""Those besides the default one."""


@dataclass(frozen=True)
class Plan:
    title: str
    trace: Trace
    figures: Figures
    target: timedelta
    seed: int
    answers: list[Answer]
    refusals: list[Refusal]
    recommended: tuple[Answer, str] | None
    unknown_types: list[str]
    """Types of FLEET_INSTANCE_TYPES left out, because there are no figures for them."""
    uses: list[Use]
    """Of the recommended policy, or of the largest fleet when none keeps the target."""
    seconds: float
    """How long planning took."""

    @property
    def shown(self) -> Answer | None:
        """The policy whose quotas are shown."""
        if self.recommended:
            return self.recommended[0]
        return max(self.answers, key=lambda each: each.run.peak_machines, default=None)

    @property
    def scale(self) -> int:
        return max((each.run.setup.scale for each in self.answers), default=1)


def make_plan(
    title: str,
    trace: Trace,
    figures: Figures,
    *,
    instance_type: str,
    fleet_types: Sequence[str],
    target: timedelta,
    seed: int,
    exact: bool,
    maximum: int | None,
    tell: Callable[[str], None],
    done: Callable[[Answer | Refusal, float], None],
) -> Plan:
    """`tell` is called with what is being simulated, `done` with each result and its seconds. Raises OpsError."""
    began = time.monotonic()
    answers: list[Answer] = []
    refusals: list[Refusal] = []
    known = figures.known(fleet_types) or (instance_type,)
    for policy in _chosen(instance_type, known, figures):
        started = time.monotonic()
        tell(policy.name)
        found = answer(policy, trace, figures, target=target, seed=seed, exact=exact, maximum=maximum, tell=tell)
        if isinstance(found, Answer):
            answers.append(found)
        else:
            refusals.append(found)
        done(found, time.monotonic() - started)
    recommended = recommend(answers)
    unknown = [name for name in fleet_types if name not in known]
    plan = Plan(title, trace, figures, target, seed, answers, refusals, recommended, unknown, [], 0.0)
    quotas = uses(plan.shown.run, plan.shown.policy, figures, read_quotas()) if plan.shown else []
    return replace(plan, uses=quotas, seconds=time.monotonic() - began)


def unmeasured(figures: Figures) -> list[str]:
    return [name for name in MEASURABLE_ENGINES if name not in figures.engines]


def in_words(plan: Plan) -> Iterator[str]:
    """The plan in sentences."""
    minutes = plan.target.total_seconds() / 60
    if plan.recommended is None:
        yield f"No policy keeps p95 of the waits under {minutes:g} min."
    else:
        chosen, why = plan.recommended
        size = f" with at most {chosen.maximum:,} machines" if chosen.policy.fleet else ""
        yield (
            f"Recommended: {chosen.policy.name}{size} ({chosen.policy.machines}, engine {chosen.policy.engine}),"
            f" ${chosen.cost.month:,.2f} a month, {100 * chosen.cost.lesson:.2f} US cents a lesson,"
            f" p95 wait {chosen.p95_wait / 60:.1f} min: {why}."
        )
        settings = settings_of(chosen.policy, replace(chosen.run.setup, maximum=chosen.maximum))
        yield "In .env: " + " ".join(f"{name}={value}" for name, value in settings.items())
    late = [each for each in plan.answers if not each.keeps_target and each.policy.fleet]
    for each in late:
        yield (
            f"{each.policy.name}: p95 is {each.p95_wait / 60:.1f} min however many machines it may use: a new"
            f" machine's boot and the wait the autoscaler aims at are part of it."
        )
    binding = [use for use in plan.uses if use.verdict == "binds"]
    if binding and plan.shown:
        yield f"Quotas that {plan.shown.policy.name} meets; the figures hold once they are raised or avoided:"
    for use in binding:
        used = f"{use.used:,.0f} of {use.quota.limit:,g} {use.quota.unit}"
        yield f"- {use.quota.name}: {used}: {use.quota.advice}."
    if plan.scale > 1:
        yield (
            f"Approximation: in a fleet one lesson and one machine stood for {plan.scale}, and maxima are"
            f" multiples of it; EXACT=1 simulates each."
        )
    if plan.unknown_types:
        yield f"Without price or speed, so left out of the fleet: {', '.join(plan.unknown_types)}."
    for name in unmeasured(plan.figures):
        yield f"The engine {name} has not been measured and is left out: `make bench`."


def _chosen(instance_type: str, fleet_types: tuple[str, ...], figures: Figures) -> Iterator[Policy]:
    yield from policies(instance_type, fleet_types)
    yield from (spot_with(engine, fleet_types) for engine in MEASURABLE_ENGINES if engine in figures.engines)
