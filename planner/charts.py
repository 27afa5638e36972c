"""The plots, drawn without a display."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from planner.answers import Answer
from planner.costs import spent_by_minute
from planner.figures import Figures

_INK = "#24323f"
_COLOURS = ("#0b6e75", "#d1495b", "#edae49", "#66a182", "#2e4057", "#8d6a9f", "#9c6b30", "#5b8e7d", "#c97b84")
_MOST_POINTS = 600
_STYLE = Path(__file__).with_name("plots.mplstyle")


def policy_chart(answer: Answer, figures: Figures) -> Figure:
    """Queue, machines and cost over the simulated days."""
    with style.context(_STYLE):
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        queue, machines, money = figure.subplots(3, 1, sharex=True)
        step = math.ceil(len(answer.run.minute) / _MOST_POINTS)
        visible, in_flight, billed, busy = _peaks(np.array(answer.run.minute), step).T
        spent = spent_by_minute(answer.run, answer.policy, figures)[::step]
        hours = np.arange(len(visible)) * step / 60
        queue.fill_between(hours, visible + in_flight, color=_COLOURS[1], alpha=0.25, label="in hand", linewidth=0)
        queue.fill_between(hours, visible, color=_COLOURS[1], label="waiting", linewidth=0)
        queue.set(ylabel="lessons", title=f"{answer.policy.name} ({answer.policy.machines})")
        machines.fill_between(hours, billed, color=_COLOURS[0], alpha=0.3, label="paid for", linewidth=0)
        machines.fill_between(hours, busy, color=_COLOURS[0], label="transcribing", linewidth=0)
        machines.set(ylabel="machines")
        money.plot(hours, spent, color=_COLOURS[4])
        money.set(ylabel="US dollars so far", xlabel="hours since the first midnight")
        for axes in (queue, machines, money):
            axes.set_ylim(bottom=0, top=1.2 * axes.get_ylim()[1])  # room for the legend
        for axes in (queue, machines):
            axes.legend(loc="upper left", ncols=2)
        money.set_xlim(0, hours[-1])
        _mark_days(money, hours[-1])
        return figure


def wait_chart(answers: Sequence[Answer]) -> Figure:
    """The share of lessons whose transcription has begun, by minutes waited."""
    with style.context(_STYLE):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        shares = np.linspace(0, 100, 501)
        for colour, answer in zip(_cycle(len(answers)), answers, strict=True):
            minutes = np.percentile(answer.run.waits, shares) / 60
            axes.plot(np.maximum(minutes, 0.1), shares, color=colour, label=answer.policy.name)
        target = answers[0].target / 60
        axes.axvline(target, color=_INK, linestyle="--", linewidth=1)
        axes.axhline(95, color=_INK, linestyle=":", linewidth=1)
        axes.annotate(f"target {target:g} min", (target, 2), xytext=(4, 0), textcoords="offset points")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="minutes waited", ylabel="% of lessons", title="Waiting time", ylim=(0, 101))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def cost_chart(answers: Sequence[Answer]) -> Figure:
    """Cost of a month and p95 of the waits, policy by policy."""
    with style.context(_STYLE):
        figure = Figure(figsize=(9, 0.9 + 0.45 * len(answers)), layout="constrained")
        money, waits = figure.subplots(1, 2, sharey=True)
        names = [answer.policy.name for answer in answers]
        colours = _cycle(len(answers))
        bars = money.barh(names, [answer.cost.month for answer in answers], color=colours)
        money.bar_label(bars, [f"${answer.cost.month:,.0f}" for answer in answers], padding=3)
        money.set(title="US dollars a month")
        minutes = [answer.p95_wait / 60 for answer in answers]
        bars = waits.barh(names, minutes, color=colours)
        waits.bar_label(bars, [f"{each:,.1f}" for each in minutes], padding=3)
        waits.axvline(answers[0].target / 60, color=_INK, linestyle="--", linewidth=1)
        waits.set(title="p95 of the waits, minutes", xscale="symlog")
        for axes in (money, waits):
            axes.margins(x=0.18)
            axes.grid(visible=False, axis="y")
        waits.xaxis.set_major_formatter("{x:g}")
        money.invert_yaxis()
        return figure


def as_png(figure: Figure) -> bytes:
    file = io.BytesIO()
    with style.context(_STYLE):
        figure.savefig(file, format="png", dpi=130)
    return file.getvalue()


def as_svg(figure: Figure) -> str:
    """SVG for an HTML page, without the XML declaration."""
    file = io.StringIO()
    with style.context(_STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _peaks(rows: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Each column's maximum over every `step` rows."""
    return np.maximum.reduceat(rows, np.arange(0, len(rows), step))


def _cycle(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]


def _mark_days(axes: Axes, hours: float) -> None:
    axes.set_xticks(np.arange(0, hours + 1, 24 if hours > 60 else 2 if hours > 12 else 1))
