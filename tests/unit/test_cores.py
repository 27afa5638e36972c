"""Threads are as many as the cores this process may use, shared among the lanes and never more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_processor.engines.cores import lanes_for, usable_cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def own(tmp_path: Path, text: str) -> Path:
    write(tmp_path / "own", text)
    return tmp_path / "own"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("broken", 8), ("", 8)],
)
def test_the_quota_of_a_control_group_counts(quota: str, cores: int, tmp_path: Path) -> None:
    write(tmp_path / "cgroup" / "system.slice" / "worker.service" / "cpu.max", quota)
    assert usable_cores(tmp_path / "cgroup", own(tmp_path, "0::/system.slice/worker.service\n")) == cores


def test_a_group_above_may_allow_less(tmp_path: Path) -> None:
    write(tmp_path / "cgroup" / "slice" / "cpu.max", "300000 100000")
    write(tmp_path / "cgroup" / "slice" / "worker" / "cpu.max", "600000 100000")
    assert usable_cores(tmp_path / "cgroup", own(tmp_path, "0::/slice/worker\n")) == 3


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("400000", 4)])
def test_the_older_control_groups_count_too(quota: str, cores: int, tmp_path: Path) -> None:
    folder = tmp_path / "cgroup" / "cpu,cpuacct" / "worker"
    write(folder / "cpu.cfs_quota_us", quota)
    write(folder / "cpu.cfs_period_us", "100000")
    told = "5:memory:/elsewhere\n4:cpu,cpuacct:/worker\n1:name=systemd:/worker\n"
    assert usable_cores(tmp_path / "cgroup", own(tmp_path, told)) == cores


def test_affinity_counts_where_there_are_no_control_groups(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "neither") == 8


@given(st.integers(1, 256))
def test_lanes_use_no_more_threads_than_there_are(threads: int) -> None:
    lanes = lanes_for(threads)
    assert threads - lanes.count < lanes.count * lanes.threads <= threads
    assert 1 <= lanes.count <= 4


def test_two_cores_are_two_lanes_of_a_thread() -> None:
    assert (lanes_for(2).count, lanes_for(2).threads) == (2, 1)
