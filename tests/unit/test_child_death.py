"""The child process may be killed at any time, also between two jobs, as the kernel does when memory is short."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from contracts.jobs import EngineName
from whisper_processor.engines.base import Options, Segment, Transcription
from whisper_processor.engines.child import ChildTranscriber, Done, Work

WORK = Work(samples=Path("samples"), engine=EngineName.FASTER_WHISPER, model=Path("model"), options=Options())


def say_pid(_work: Work) -> Done:
    segment = Segment(start=0, end=1, text=str(os.getpid()), mean_log_probability=0)
    return Done(transcription=Transcription(language=None, segments=(segment,)))


def fail_to_load(_engine: EngineName, _model: Path, _threads: int) -> None:
    raise MemoryError


def be_killed(_engine: EngineName, _model: Path, _threads: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def transcribe(child: ChildTranscriber) -> int:
    return int(child.transcribe(WORK, 60, lambda _done: None).transcription.segments[0].text)


def test_a_child_killed_between_two_jobs_is_replaced() -> None:
    with ChildTranscriber(run=say_pid) as child:
        first = transcribe(child)
        psutil.Process(first).kill()
        time.sleep(0.5)  # until the pool has noticed
        second = transcribe(child)
        assert second != first
        assert transcribe(child) == second


@pytest.mark.parametrize("load", [fail_to_load, be_killed])
def test_a_model_that_could_not_be_made_ready_costs_the_transcription_nothing(
    load: Callable[[EngineName, Path, int], None],
) -> None:
    with ChildTranscriber(run=say_pid, load=load) as child:
        child.prepare(WORK.engine, WORK.model, WORK.options.threads)
        assert transcribe(child)
