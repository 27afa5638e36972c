"""The transcription runs in a child process: a crash, a kill or a hang costs one attempt, not the worker.

The child keeps the model it loaded for the next job, and drops it before it loads another, so that memory
stays within one model.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as NotYet
from ctypes import c_double
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pebble import ProcessExpired, ProcessPool
from pydantic import BaseModel, ConfigDict

from whisper_processor.contracts import EngineName
from whisper_processor.engines import load_engine
from whisper_processor.engines.base import Engine, Options, Transcription
from whisper_processor.errors import TransientError
from whisper_processor.media import read_samples
from whisper_processor.speech import has_speech

_TICK_SECONDS = 0.25


class Work(BaseModel):
    """One transcription, as the child needs it."""

    model_config = ConfigDict(frozen=True)

    samples: Path
    engine: EngineName
    model: Path
    options: Options


class Transcriber(Protocol):
    def transcribe(
        self, work: Work, deadline_seconds: float, on_tick: Callable[[float], None]
    ) -> Transcription: ...


class ChildTranscriber:
    """A pool of one child. Context manager: leaving it ends the child."""

    def __init__(self, run: Callable[[Work], Transcription] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._progress = RawValue(c_double, 0.0)
        self._run = run or transcribe_in_child
        # pebble: the child pool with deadlines; a child that dies or overruns is an exception and is replaced.
        self._pool = ProcessPool(
            max_workers=1, context=context, initializer=_start_child, initargs=(self._progress,)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def transcribe(self, work: Work, deadline_seconds: float, on_tick: Callable[[float], None]) -> Transcription:
        """Transcribe, calling `on_tick` with the fraction done several times a second.

        An exception out of `on_tick` (drain) ends the child and goes on. Raises TransientError when the child
        dies or overruns the deadline, PermanentError for what the engine cannot do.
        """
        self._progress.value = 0.0
        future = self._pool.schedule(self._run, args=(work,), timeout=deadline_seconds)
        try:
            while True:
                try:
                    result: Transcription = future.result(timeout=_TICK_SECONDS)
                    return result
                except NotYet:
                    if future.done():
                        raise TransientError(
                            f"the transcription overran its deadline of {deadline_seconds:.0f} s"
                        ) from None
                on_tick(min(1.0, self._progress.value))
        except ProcessExpired as error:
            raise TransientError(f"the transcription process died (exit code {error.exitcode})") from error
        except MemoryError as error:
            raise TransientError("the transcription ran out of memory") from error
        except CancelledError as error:
            raise TransientError("the transcription was cancelled") from error
        except OSError as error:
            raise TransientError(f"the transcription failed: {error}") from error
        except RuntimeError as error:  # what CTranslate2 and torch raise, out of memory included
            raise TransientError(f"the transcription failed: {error}") from error
        finally:
            if not future.done():
                future.cancel()  # type: ignore[no-untyped-call]


_loaded: tuple[tuple[EngineName, Path, int], Engine] | None = None
_child_progress: c_double | None = None


def _start_child(progress: c_double) -> None:
    global _child_progress  # noqa: PLW0603 - a process's own state
    _child_progress = progress
    # Ctrl-C and a service stop go to the whole group; the worker alone decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def transcribe_in_child(work: Work) -> Transcription:
    samples = read_samples(work.samples)
    if not has_speech(samples):  # Whisper invents text for silence
        return Transcription(language=None, segments=())
    return _engine(work).transcribe(samples, work.options, _report)


def _engine(work: Work) -> Engine:
    global _loaded  # noqa: PLW0603 - the model kept for the next job
    key = (work.engine, work.model, work.options.threads)
    if _loaded is None or _loaded[0] != key:
        _loaded = None
        gc.collect()
        _loaded = (key, load_engine(work.engine, work.model, work.options.threads))
    return _loaded[1]


def _report(fraction: float) -> None:
    if _child_progress is not None:
        _child_progress.value = fraction
