"""The plot of a measurement: for each recording how fast everybody was, and how much memory they took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.contenders import parse
from bench.report import label
from bench.results import Results, Run, multiple

_OURS, _THEIRS, _MEMORY = "#0b6e75", "#9aa5b1", "#cfd6dc"


def draw(results: Results, target: Path) -> bool:
    """Write a PNG; False when there was no speech to be fast with."""
    names = [name for name in results.recordings(speech=True) if multiple(name) is None]
    if not names:
        return False
    figure = Figure(figsize=(12, 1 + 2.6 * len(names)), layout="constrained")
    for row, name in zip(figure.subplots(len(names), 2, squeeze=False), names, strict=True):
        runs: dict[str, list[Run]] = {}
        for run in results.runs:
            if run.recording == name:
                runs.setdefault(run.contender, []).append(run)
        _draw(row[0], row[1], name, sorted(runs.values(), key=lambda mine: -median(r.wall_seconds for r in mine)))
    machine = results.machine
    figure.suptitle(f"{machine.cpu}, {machine.cores} cores, {machine.started:%Y-%m-%d}", fontsize=10)
    figure.savefig(target, dpi=120)
    return True


def _draw(speed: Axes, memory: Axes, name: str, groups: Sequence[Sequence[Run]]) -> None:
    places = range(len(groups))
    contenders = [mine[0].contender for mine in groups]
    audio = groups[0][0].audio_seconds
    middles = [audio / median(run.wall_seconds for run in mine) for mine in groups]
    speed.barh(places, middles, color=[_OURS if parse(each).is_ours else _THEIRS for each in contenders])
    for place, mine in zip(places, groups, strict=True):
        speed.plot([audio / run.wall_seconds for run in mine], [place] * len(mine), "k|", markersize=9)
    speed.set_yticks(places, [label(each) for each in contenders])
    speed.set_title(f"{name}, {audio:.0f} s: times real time (ticks: single runs)", fontsize=9, loc="left")
    memory.barh(places, [max(run.peak_rss_bytes for run in mine) / 1e6 for mine in groups], color=_MEMORY)
    memory.set_yticks([])
    memory.set_title("peak RSS, MB", fontsize=9, loc="left")
    for axis in (speed, memory):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
