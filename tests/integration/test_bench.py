"""`make bench` on the committed sample: our engine and the worker around it, side by side."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from bench.recordings import SAMPLE
from bench.results import Results, Store
from ops.settings import REPOSITORY

pytestmark = pytest.mark.slow

ENGINES = ["ours/faster-whisper", "worker/faster-whisper"]
_PATIENCE = 240.0


def bench(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "--audio", str(SAMPLE), "--keep-in", str(place), "--quick", *options]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=_PATIENCE)
        except BaseException:
            process.terminate()  # killed, it would leave a cloud and a worker behind
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def place(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one quick measurement was kept."""
    assert models_dir.is_dir()
    kept = tmp_path_factory.mktemp("bench")
    ran = bench(kept, "--engines", ",".join(ENGINES))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "not measured" not in ran.stdout
    return kept


@pytest.fixture(scope="module")
def results(place: Path) -> Results:
    return Store.latest(place).load()


def test_each_engine_is_measured_in_every_respect(results: Results) -> None:
    assert sorted(run.contender for run in results.runs) == ENGINES
    for run in results.runs:
        figures = [run.wall_seconds, run.cpu_seconds, run.load_seconds, run.audio_seconds / run.wall_seconds]
        assert all(figure is not None and math.isfinite(figure) and figure > 0 for figure in figures)
        assert run.peak_rss_bytes > 145_000_000, "the model alone is larger"
        assert run.word_error_rate is not None
        assert run.word_error_rate <= 0.1


def test_the_worker_is_measured_from_its_start(results: Results) -> None:
    (worker,) = [run for run in results.runs if run.contender.startswith("worker/")]
    assert worker.first_poll_seconds is not None
    assert worker.first_poll_seconds > 0


def test_tables_and_plot_are_kept(place: Path, results: Results) -> None:
    folder = Store.latest(place).folder
    text = (folder / "report.md").read_text()
    assert "### lesson, 41 s" in text
    assert results.machine.cpu in text
    assert all(engine in text for engine in ENGINES)
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_going_on_measures_nothing_twice_and_no_run_is_begun_without_time_for_it(
    place: Path, results: Results
) -> None:
    again = bench(place, "--engines", ",".join([*ENGINES, "openai-whisper"]), "--resume", "--budget", "0.1")
    assert again.returncode == 0, again.stderr
    assert "not complete" in again.stdout
    assert Store.latest(place).load().runs == results.runs


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--engines", "nobody"], "nobody"),
        (["--only", "nothing"], "nothing"),
        (["--resume"], "nothing was measured"),
    ],
)
def test_what_cannot_be_measured_is_one_line(tmp_path: Path, options: list[str], word: str) -> None:
    ran = bench(tmp_path, *options)
    assert ran.returncode == 1
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert word in line
