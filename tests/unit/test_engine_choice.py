"""The CPU's features decide on the engine, unless a setting names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.jobs import EngineName
from whisper_processor.engines.choice import Cpu, Precision, choose, precision, resolve, this_cpu

OLD = "sse4_2 avx avx2 fma"
CPUS = [
    ("x86_64", OLD, EngineName.FASTER_WHISPER, Precision.F32, "neither"),  # t2, t3, c5a, c6a, m4
    ("x86_64", f"{OLD} avx512f avx512bw", EngineName.FASTER_WHISPER, Precision.F32, "neither"),  # first c5, m5
    ("x86_64", f"{OLD} avx512f avx512_vnni", EngineName.OPENVINO, Precision.INT8, "avx512_vnni"),  # c6i, m6i
    ("x86_64", f"{OLD} avx_vnni", EngineName.OPENVINO, Precision.INT8, "avx_vnni"),
    ("x86_64", f"{OLD} avx512_vnni avx512_bf16", EngineName.OPENVINO, Precision.BF16, "avx512_bf16"),  # c7a
    (
        "x86_64",
        f"{OLD} avx512_vnni avx512_bf16 amx_bf16 amx_int8",
        EngineName.OPENVINO,
        Precision.BF16,
        "amx_bf16",
    ),
    ("aarch64", "asimd bf16 i8mm", EngineName.FASTER_WHISPER, Precision.F32, "aarch64"),  # c7g
]


@pytest.mark.parametrize(("machine", "flags", "engine", "multiply_in", "why"), CPUS)
def test_the_cpu_decides(machine: str, flags: str, engine: EngineName, multiply_in: Precision, why: str) -> None:
    cpu = Cpu(machine, frozenset(flags.split()))
    choice = choose(cpu, openvino=True)
    assert choice.engine is engine
    assert why in choice.reason
    assert precision(cpu) is multiply_in


def test_without_openvino_there_is_no_choice() -> None:
    best = Cpu("x86_64", frozenset({"amx_bf16"}))
    assert choose(best, openvino=False).engine is EngineName.FASTER_WHISPER


@pytest.mark.parametrize("name", list(EngineName))
def test_a_setting_wins(name: EngineName) -> None:
    assert resolve(name).engine is name
    assert "WHISPER_ENGINE" in resolve(name).reason


def test_flags_are_read_as_linux_lists_them(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nvendor_id\t: X\nflags\t\t: fpu avx2 avx512_bf16\nbugs\t:\n")
    assert this_cpu(tmp_path / "cpuinfo").flags == {"fpu", "avx2", "avx512_bf16"}
    assert this_cpu(tmp_path / "nothing").flags == frozenset()
