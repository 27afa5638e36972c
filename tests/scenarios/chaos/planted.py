"""The storm's fake engine: a recording that says itself what the engine is to do with it.

The order lies in the audio's samples, so it takes the true way there: upload, queue, download, ffmpeg. What holds
no order goes to the real engine.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import time
import wave
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel

from contracts.jobs import EngineName
from whisper_processor.audio.sound import SAMPLE_RATE
from whisper_processor.engines.base import Segment, Transcription
from whisper_processor.engines.child import Done, Work, transcribe_in_child

FOLDER_VARIABLE = "CHAOS_FOLDER"
"""Where it is remembered, across kills, what has already gone wrong once."""
_PREFIX = b"PLANTED:"
_BYTES_PER_SECOND = 2 * SAMPLE_RATE


class Act(StrEnum):
    SPEAK = "speak"
    SLOW = "slow"
    LONG = "longer than the lease"
    SILENT = "silent"
    CRASH_ONCE = "crash once"
    MEMORY_ONCE = "out of memory once"
    HANG_ONCE = "hang once"
    CRASH = "crash"
    MEMORY = "out of memory"
    HANG = "hang"


_ONCE = {Act.CRASH_ONCE: Act.CRASH, Act.MEMORY_ONCE: Act.MEMORY, Act.HANG_ONCE: Act.HANG}


class Order(BaseModel):
    job: str
    act: Act
    seconds: float = 0.0
    """How long `slow` and `long` take."""
    audio_seconds: float = 0.25
    """Length of the recording, on which the deadline depends."""


def words_of(job: str) -> str:
    """What the fake engine hears in a job's recording."""
    return f"This is the lesson {job}."


def plant(order: Order) -> bytes:
    """A WAV file, 16 kHz mono, that ffmpeg passes on to the engine bit by bit."""
    samples = (_PREFIX + order.model_dump_json().encode()).ljust(int(order.audio_seconds * _BYTES_PER_SECOND))
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(samples)
    return file.getvalue()


def read_order(samples: bytes) -> Order | None:
    return Order.model_validate_json(samples.removeprefix(_PREFIX)) if samples.startswith(_PREFIX) else None


def load_nothing(_engine: EngineName, _model: Path, _threads: int) -> None:
    """What was planted needs no model, and real speech loads it when it is transcribed."""


def transcribe_planted(work: Work) -> Done:
    """Runs in the worker's child process in place of the engine."""
    order = read_order(work.samples.read_bytes())
    if order is None:
        return transcribe_in_child(work)
    act = order.act
    if act in _ONCE:
        act = _ONCE[act] if _first_time(order.job) else Act.SPEAK
    match act:
        case Act.CRASH:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        case Act.MEMORY:
            raise MemoryError
        case Act.HANG:
            time.sleep(3600)
        case Act.SLOW | Act.LONG:
            time.sleep(order.seconds)
        case Act.SILENT:
            return Done(transcription=Transcription(language=None, segments=()))
    segment = Segment(start=0.0, end=0.25, text=words_of(order.job), mean_log_probability=-0.1)
    return Done(transcription=Transcription(language="en", segments=(segment,)))


def _first_time(job: str) -> bool:
    try:
        (Path(os.environ[FOLDER_VARIABLE]) / job).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
