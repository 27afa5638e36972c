"""What was measured, saved after every run, so that a run that was cut off can go on."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bench.cost import Instructions
from ops.errors import OpsError
from ops.settings import REPOSITORY

LONG_ENOUGH_SECONDS = 280.0
"""Shorter audio says nothing of how long a lesson takes."""


class Run(BaseModel):
    """One transcription of one recording."""

    model_config = ConfigDict(frozen=True)

    recording: str
    contender: str
    repeat: int
    audio_seconds: float
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    load_seconds: float | None
    first_result_seconds: float | None
    first_poll_seconds: float | None = None
    """Of the worker: from the start of its process to its first poll."""
    word_error_rate: float | None
    characters: int
    invented: bool
    """Whether the recording has no speech, so that every character is one too many."""


class Jobs(BaseModel):
    """Many short lessons through one worker, one after the other."""

    model_config = ConfigDict(frozen=True)

    contender: str
    recording: str
    resident_bytes: tuple[int, ...]
    """Of the worker and its child, after each job."""
    seconds: tuple[float, ...]
    """From the job before it, or from the first message, to the row's `completed`."""


class Ticks(BaseModel):
    """The autoscaler's function."""

    model_config = ConfigDict(frozen=True)

    archive_bytes: int
    cold_seconds: tuple[float, ...]
    """Of invocations that had to start a process for the function, as the caller sees them."""
    warm_seconds: tuple[float, ...]
    calls: dict[str, tuple[str, ...]]
    """The AWS calls of a tick, by the state it met."""


class Machine(BaseModel):
    model_config = ConfigDict(frozen=True)

    cpu: str
    cores: int
    instructions: Instructions
    python: str
    commit: str
    started: datetime


class Results(BaseModel):
    machine: Machine
    runs: list[Run] = []
    jobs: list[Jobs] = []
    ticks: Ticks | None = None
    troubles: list[str] = []
    """What could not be measured, a line each."""

    @property
    def is_empty(self) -> bool:
        return not (self.runs or self.jobs or self.ticks)

    def has(self, recording: str, contender: str, repeat: int) -> bool:
        return any(
            (run.recording, run.contender, run.repeat) == (recording, contender, repeat) for run in self.runs
        )

    def recordings(self, *, speech: bool) -> list[str]:
        """In the order of their length."""
        lengths = {run.recording: run.audio_seconds for run in self.runs if run.invented is not speech}
        return sorted(lengths, key=lambda name: (lengths[name], name))


def multiple(recording: str) -> float | None:
    """3 for `lesson x3`, None for what is no multiple."""
    _, mark, times = recording.rpartition(" x")
    try:
        return float(times) if mark else None
    except ValueError:
        return None


class Store:
    """`results.json` in a folder named by its date, replaced as a whole at each save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "results.json"

    @classmethod
    def new(cls, place: Path, now: datetime) -> Store:
        store = cls(place / now.strftime("%Y-%m-%dT%H%M%S"))
        store.folder.mkdir(parents=True)
        return store

    @classmethod
    def latest(cls, place: Path) -> Store:
        """Raises OpsError when nothing was ever measured."""
        saved = sorted(place.glob("*/results.json"))
        if not saved:
            raise OpsError("nothing was measured yet: run `make bench` without RESUME")
        return cls(saved[-1].parent)

    def load(self) -> Results:
        return Results.model_validate_json(self._file.read_text())

    def save(self, results: Results) -> None:
        unfinished = self._file.with_suffix(".part")
        unfinished.write_text(results.model_dump_json(indent=1))
        unfinished.replace(self._file)


def this_machine(now: datetime | None = None) -> Machine:
    cpu, flags = _cpu(Path("/proc/cpuinfo").read_text().splitlines())
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        instructions=instructions_of(flags),
        python=platform.python_version(),
        commit=_commit(),
        started=now or datetime.now(UTC),
    )


def _cpu(lines: Iterable[str]) -> tuple[str, set[str]]:
    """The processor's name and its flags, from /proc/cpuinfo."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    name = found.get("model name") or platform.machine()
    detail = f"family {found['cpu family']} model {found['model']}" if "cpu family" in found else ""
    flags = found.get("flags") or found.get("Features", "asimd")
    return f"{name}{f' ({detail})' if detail else ''}", set(flags.split())


def instructions_of(flags: set[str]) -> Instructions:
    """The class of a processor, from what Linux says it can do."""
    for flag, instructions in (
        ("asimd", Instructions.ARM64),
        ("amx_int8", Instructions.AMX),
        ("avx512_bf16", Instructions.BF16),
        ("avx512_vnni", Instructions.VNNI),
        ("avx512f", Instructions.AVX512),
    ):
        if flag in flags:
            return instructions
    return Instructions.AVX2


def _commit() -> str:
    git = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
