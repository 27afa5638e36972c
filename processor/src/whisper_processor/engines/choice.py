"""Which engine suits a machine, by the features of its CPU.

The rule comes from measurements: see decision 0016.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from contracts.jobs import EngineName

_CPUINFO = Path("/proc/cpuinfo")
_BF16 = ("amx_bf16", "avx512_bf16")
_VNNI = ("avx512_vnni", "avx_vnni")


class Precision(StrEnum):
    """The precision OpenVINO computes in. All but int8 are values of INFERENCE_PRECISION_HINT."""

    BF16 = "bf16"
    INT8 = "int8"
    F32 = "f32"


@dataclass(frozen=True)
class Choice:
    engine: EngineName
    reason: str


@dataclass(frozen=True)
class Cpu:
    machine: str
    """As `uname -m` names it."""
    flags: frozenset[str]
    """As Linux names them."""


def this_cpu(cpuinfo: Path = _CPUINFO) -> Cpu:
    """The first core's flags; none where the kernel does not list them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return Cpu(platform.machine(), frozenset(flags.partition(":")[2].split()))


def choose(cpu: Cpu, *, openvino: bool) -> Choice:
    """The engine, and a short reason for the log; `openvino` is whether OpenVINO is installed."""
    if not openvino:
        return Choice(EngineName.FASTER_WHISPER, "OpenVINO is not installed")
    if cpu.machine != "x86_64":
        return Choice(EngineName.FASTER_WHISPER, f"OpenVINO was not measured on {cpu.machine}")
    found = _first((*_BF16, *_VNNI), cpu.flags)
    if found is None:
        return Choice(EngineName.FASTER_WHISPER, "the CPU has neither BF16 nor VNNI")
    return Choice(EngineName.OPENVINO, f"the CPU has {found}")


def precision(cpu: Cpu) -> Precision:
    """The precision of OpenVINO's encoder on this CPU."""
    if _first(_BF16, cpu.flags):
        return Precision.BF16
    return Precision.INT8 if _first(_VNNI, cpu.flags) else Precision.F32


def resolve(setting: EngineName | Literal["auto"]) -> Choice:
    """What `WHISPER_ENGINE` means on this machine."""
    if setting != "auto":
        return Choice(setting, "WHISPER_ENGINE names it")
    return choose(this_cpu(), openvino=find_spec("openvino") is not None)


def _first(wanted: Collection[str], flags: frozenset[str]) -> str | None:
    return next((flag for flag in wanted if flag in flags), None)
