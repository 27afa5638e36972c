"""A plan as a table on a terminal, an HTML page that opens offline, PNG plots, and JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.table import Table

from planner.answers import Answer
from planner.charts import as_png, as_svg, cost_chart, policy_chart, wait_chart
from planner.figures import Figures
from planner.plan import Plan, in_words

_TEMPLATE = "report.html"
_TITLES = (
    *("policy", "machines", "engine", "at most", "peak", "machine h", "$ a month", "¢ a lesson"),
    *("p50 wait", "p95 wait", "p95 transcript", "target"),
)
_WORDS = 3
"""The first columns that hold words; the others hold numbers."""


@dataclass(frozen=True)
class _Row:
    """Of a table on the page."""

    cells: Sequence[str]
    style: str = ""
    """The row's CSS class."""


def policy_table(plan: Plan) -> Table:
    """Narrow enough for 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption = "most and hours: machines; ¢: a lesson; p50 and p95: waits in minutes"
    table.caption_justify = "left"
    table.add_column("policy", no_wrap=True)
    for title in ("most", "hours", "$/month", "¢", "p50", "p95"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    chosen = plan.recommended[0] if plan.recommended else None
    for answer in plan.answers:
        table.add_row(
            answer.policy.name,
            f"{answer.maximum:,}" if answer.policy.fleet else "-",
            _short(answer.run.machine_hours, 1),
            _short(answer.cost.month, 2),
            f"{100 * answer.cost.lesson:.2f}",
            _short(answer.p50_wait / 60, 1),
            _short(answer.p95_wait / 60, 1),
            "kept" if answer.keeps_target else "missed",
            style="bold" if answer is chosen else None,
        )
    for refusal in plan.refusals:
        table.add_row(refusal.policy.name, *"------", "cannot", style="dim")
    return table


def _short(number: float, decimals: int) -> str:
    return f"{number:,.{0 if number >= 1000 else decimals}f}"


def write(plan: Plan, folder: Path) -> Path:
    """Fill `folder`; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):  # of a plan that had other policies
        old.unlink()
    comparison, days = _figures(plan)
    for name, figure in {**comparison, **days}.items():
        (folder / f"{name}.png").write_bytes(as_png(figure))
    (folder / "plan.json").write_text(json.dumps(as_json(plan), indent=2) + "\n")
    page = folder / "report.html"
    page.write_text(_page(plan, list(comparison.values()), list(days.values())))
    return page


def as_json(plan: Plan) -> dict[str, object]:
    return {
        "title": plan.title,
        "lessons": len(plan.trace),
        "days": plan.trace.days,
        "target_seconds": plan.target.total_seconds(),
        "seed": plan.seed,
        "scale": plan.scale,
        "planning_seconds": round(plan.seconds, 1),
        "recommended": plan.recommended[0].policy.name if plan.recommended else None,
        "policies": [
            {
                "name": answer.policy.name,
                "types": answer.policy.types,
                "engine": answer.policy.engine,
                "spot": answer.policy.spot,
                "maximum": answer.maximum,
                "peak_machines": answer.run.peak_machines,
                "machine_hours": round(answer.run.machine_hours, 2),
                "usd_a_month": round(answer.cost.month, 2),
                "usd_a_lesson": round(answer.cost.lesson, 5),
                "p50_wait_seconds": round(answer.p50_wait, 1),
                "p95_wait_seconds": round(answer.p95_wait, 1),
                "p95_transcript_seconds": round(answer.p95_transcript, 1),
                "keeps_target": answer.keeps_target,
                "interruptions": answer.run.interruptions,
                "lessons_given_back": answer.run.given_back,
            }
            for answer in plan.answers
        ],
        "not_simulated": {refusal.policy.name: refusal.reason for refusal in plan.refusals},
        "quotas": [
            {"name": use.quota.name, "used": use.used, "limit": use.quota.limit, "verdict": use.verdict}
            for use in plan.uses
        ],
    }


def _figures(plan: Plan) -> tuple[dict[str, Figure], dict[str, Figure]]:
    if not plan.answers:
        return {}, {}
    days = {
        "".join(char if char.isalnum() else "-" for char in answer.policy.name).replace("--", "-"): policy_chart(
            answer, plan.figures
        )
        for answer in plan.answers
    }
    return {"waits": wait_chart(plan.answers), "costs": cost_chart(plan.answers)}, days


def _row(answer: Answer) -> Sequence[str]:
    fleet = answer.policy.fleet
    return (
        answer.policy.name,
        ", ".join(answer.policy.types),
        answer.policy.engine,
        f"{answer.maximum:,}" if fleet else "-",
        f"{answer.run.peak_machines:,}",
        f"{answer.run.machine_hours:,.1f}",
        f"{answer.cost.month:,.2f}",
        f"{100 * answer.cost.lesson:.2f}",
        _minutes(answer.p50_wait),
        _minutes(answer.p95_wait),
        _minutes(answer.p95_transcript),
        "kept" if answer.keeps_target else "missed",
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _page(plan: Plan, comparison: Sequence[Figure], days: Sequence[Figure]) -> str:
    chosen = plan.recommended[0] if plan.recommended else None
    audio = plan.trace.seconds.sum() / 3600
    shown = plan.shown
    page: str = (
        _templates()
        .get_template(_TEMPLATE)
        .render(
            title=plan.title,
            summary=(
                f"{len(plan.trace):,} lessons in {plan.trace.days} day(s), {audio:,.0f} hours of audio; target:"
                f" p95 of the waits under {plan.target.total_seconds() / 60:g} min; seed {plan.seed}."
            ),
            answers=list(in_words(plan)),
            policy_titles=_TITLES,
            policy_words=_WORDS,
            policies=[
                *(_Row(_row(answer), "chosen" if answer is chosen else "") for answer in plan.answers),
                *(_Row((r.policy.name, r.policy.machines, r.policy.engine, r.reason)) for r in plan.refusals),
            ],
            comparison=[as_svg(figure) for figure in comparison],
            charts=[as_svg(figure) for figure in days],
            quotas_of=f"Of “{shown.policy.name}”, at its busiest minute." if shown else "Nothing was simulated.",
            quotas=plan.uses,
            figure_titles=("figure", "value", "from"),
            figures=[_Row(row) for row in _basis(plan.figures)],
        )
    )
    return page


def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _basis(figures: Figures) -> Iterable[Sequence[str]]:
    for name, engine in figures.engines.items():
        words = (
            f"{engine.real_time_factor:g} s for a second of audio, {engine.overhead_seconds:g} s for a lesson,"
            f" {engine.model_load_seconds:g} s to load the model"
        )
        yield f"engine {name}", words, "measured: bench/measured.toml"
    start = figures.appliance.start_to_first_poll_seconds
    yield "the appliance's own start", f"{start:g} s", "measured: bench/measured.toml"
    assumed = "assumed: planner/assumptions.toml"
    yield "a stopped machine, until its first poll", f"{figures.boot_seconds(new=False):g} s on average", assumed
    yield "a new machine, until its first poll", f"{figures.boot_seconds(new=True):g} s on average", assumed
    spot = figures.spot
    yield "Spot's price", f"{100 * spot.price_share:g} % of the price on demand", assumed
    yield (
        "Spot takes a machine",
        f"{spot.interruptions_per_hour:g} times an hour; if it may choose {spot.interruptions_per_hour_several:g}",
        assumed,
    )
    for name, speed in figures.speed.items():
        yield name, f"{speed:g} times as fast as the machine that was measured", assumed
    yield "month", f"{figures.month.days:g} days, {figures.month.school_days:g} of them school days", assumed
    yield (
        "prices on demand",
        "US dollars an hour",
        "ops/prices.toml, noted from memory: compare with AWS's list",
    )
