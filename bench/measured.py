"""`bench/measured.toml`: the committed home of the figures that planning leans on."""

from __future__ import annotations

import tomllib
from pathlib import Path
from statistics import median
from typing import Any

from bench import compare
from bench.contenders import REFERENCE, Family, parse
from bench.results import Results, Run
from contracts.jobs import EngineName
from ops.errors import OpsError

FILE = Path(__file__).with_name("measured.toml")
_HEADER = """\
# How fast the engines are: the one home of the figures that other parts plan with (what a lesson takes and costs).
# Written by `make bench RESUME=1 RECORD=1` from the machine's last measurement; docs/bench.md has its tables.
"""
_ENGINES = """
# real_time_factor: seconds of wall time for each second of audio once the model is loaded.
# overhead_seconds: wall time a lesson takes whatever its length, with what is not hidden of the model's load.
# model_load_seconds: once for each start of the worker's child process, files in the page cache.
"""


def read() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text())


def engines(results: Results) -> dict[EngineName, dict[str, float]]:
    """From the worker's runs where there are any, else from the engine's own, else from the library's."""
    found = {}
    for engine in EngineName:
        sources = [parse(f"{Family.WORKER}/{engine}").name, parse(f"{Family.OURS}/{engine}").name]
        if engine is EngineName.OPENAI_WHISPER:
            sources.append(REFERENCE)
        for name in sources:
            mine = [run for run in results.runs if run.contender == name and not run.invented]
            if mine:
                found[engine] = _figures(mine)
                break
    return found


def _figures(runs: list[Run]) -> dict[str, float]:
    by_recording: dict[str, list[Run]] = {}
    for run in runs:
        by_recording.setdefault(run.recording, []).append(run)
    points = [(each[0].audio_seconds, median(run.wall_seconds for run in each)) for each in by_recording.values()]
    slope, intercept = compare.line(points)
    return {
        "real_time_factor": round(slope, 4),
        "overhead_seconds": round(intercept, 1),
        "model_load_seconds": round(median(run.load_seconds or 0.0 for run in runs), 2),
    }


def write(results: Results, command: str, appliance: str) -> None:
    """Replace the file; `appliance` is the text of its own table, which a rehearsal measures and not this."""
    figures = engines(results)
    if not figures:
        raise OpsError("no engine was measured on speech: nothing to record")
    machine = results.machine
    lines = [
        _HEADER,
        "[machine]",
        f'cpu = "{machine.cpu}, {machine.instructions}"',
        f"cores = {machine.cores}",
        f"date = {machine.started:%Y-%m-%d}",
        f'command = "{command}"',
        _ENGINES.rstrip("\n"),
    ]
    for engine, values in figures.items():
        lines += [f"[engines.{engine}]", *(f"{name} = {value}" for name, value in values.items()), ""]
    FILE.write_text("\n".join([*lines, appliance]))


def appliance_text() -> str:
    """The comment and the table of the appliance, as they stand in the file."""
    text = FILE.read_text()
    start = text.index("[appliance]")
    return text[text.rindex("\n\n", 0, start) + 2 :]
