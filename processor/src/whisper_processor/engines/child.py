"""The transcription runs in a child process: a crash, a kill or a hang costs one attempt, not the worker.

The child keeps the model it loaded for the next job, and drops it before it loads another, so that memory
stays within one model.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from ctypes import c_double
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from pebble import ProcessExpired, ProcessFuture, ProcessPool
from pydantic import BaseModel, ConfigDict

from contracts.jobs import EngineName
from whisper_processor.engines import load_engine
from whisper_processor.engines.base import Engine, Options, Transcription
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.waiting import settle


class Work(BaseModel):
    """One transcription, as the child needs it."""

    model_config = ConfigDict(frozen=True)

    samples: Path
    engine: EngineName
    model: Path
    options: Options


class Done(BaseModel):
    """What the child sends back."""

    model_config = ConfigDict(frozen=True)

    transcription: Transcription
    model_load_seconds: float = 0.0
    """0 when the model was there from a job before."""


class Transcriber(Protocol):
    def prepare(self, engine: EngineName, model: Path, threads: int) -> None: ...

    def transcribe(self, work: Work, deadline_seconds: float, on_tick: Callable[[float], None]) -> Done: ...


class ChildTranscriber:
    """A pool of one child. Context manager: leaving it ends the child."""

    def __init__(
        self,
        run: Callable[[Work], Done] | None = None,
        load: Callable[[EngineName, Path, int], None] | None = None,
    ) -> None:
        self._progress = RawValue(c_double, 0.0)
        self._run = run or transcribe_in_child
        self._load = load or load_in_child
        self._pool = self._new_pool()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_pool()

    def prepare(self, engine: EngineName, model: Path, threads: int) -> None:
        """Begin to load the model, and return at once: the recording is made ready meanwhile.

        What goes wrong with it is the transcription's to tell, which loads what is not there.
        """
        self._schedule(self._load, engine, model, threads)

    def transcribe(self, work: Work, deadline_seconds: float, on_tick: Callable[[float], None]) -> Done:
        """Transcribe, calling `on_tick` with the fraction done several times a second.

        An exception out of `on_tick` (drain) ends the child and goes on. Raises TransientError when the child
        dies, overruns the deadline or meets what it did not expect, PermanentError for what cannot be done.
        """
        self._progress.value = 0.0
        overrun = time.monotonic() + deadline_seconds

        def tick() -> None:
            if time.monotonic() > overrun:
                raise TransientError(f"the transcription overran its deadline of {deadline_seconds:.0f} s")
            on_tick(min(1.0, self._progress.value))

        future: ProcessFuture[Done] = self._schedule(self._run, work)
        try:
            settle(future, tick)
        except BaseException:
            # Cancelling, or pebble's own timeout, would spare a child that hangs before it has begun with the job.
            self._replace_pool()
            raise
        return _outcome(future)

    def _schedule(self, run: Callable[..., Any], *given: Any) -> ProcessFuture[Any]:
        try:
            return self._pool.schedule(run, args=given)
        except RuntimeError:
            # pebble gives its pool up for good when the child was killed between two jobs.
            self._replace_pool()
            return self._pool.schedule(run, args=given)

    def _new_pool(self) -> ProcessPool:
        # pebble: a child that dies is an exception of its job's alone, and is replaced.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(max_workers=1, context=context, initializer=_start_child, initargs=(self._progress,))

    def _replace_pool(self) -> None:
        self._end_pool()
        self._pool = self._new_pool()

    def _end_pool(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _outcome(future: Future[Done]) -> Done:
    try:
        return future.result()
    except (PermanentError, TransientError):
        raise
    except ProcessExpired as error:
        raise TransientError(f"the transcription process died (exit code {error.exitcode})") from error
    except MemoryError as error:
        raise TransientError("the transcription ran out of memory") from error
    except CancelledError as error:
        raise TransientError("the transcription was cancelled") from error
    except Exception as error:
        # Whatever an engine raises costs this job an attempt, never the worker; its text may quote speech.
        raise TransientError(f"the transcription failed ({type(error).__name__})") from error


_loaded: tuple[tuple[EngineName, Path, int], Engine] | None = None
_untold_load_seconds = 0.0
_child_progress: c_double | None = None


def _start_child(progress: c_double) -> None:
    global _child_progress  # noqa: PLW0603 - a process's own state
    _child_progress = progress
    import tqdm  # noqa: PLC0415

    # tqdm, which the engines use, would make a semaphore, and leave it behind when this process is ended.
    tqdm.tqdm.set_lock(threading.RLock())
    # Ctrl-C and a service stop go to the whole group; the worker alone decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def transcribe_in_child(work: Work) -> Done:
    global _untold_load_seconds
    # Here, because they load what the worker itself has no use for: it is to poll at once, and to stay small.
    from whisper_processor.audio.media import Recording  # noqa: PLC0415
    from whisper_processor.audio.speech import has_speech  # noqa: PLC0415

    recording = Recording(work.samples)
    if not has_speech(recording):  # Whisper invents text for silence
        return Done(transcription=Transcription(language=None, segments=()))
    engine = _engine(work.engine, work.model, work.options.threads)
    loading, _untold_load_seconds = _untold_load_seconds, 0.0
    return Done(transcription=engine.transcribe(recording, work.options, _report), model_load_seconds=loading)


def load_in_child(name: EngineName, model: Path, threads: int) -> None:
    import whisper_processor.audio.speech  # noqa: F401, PLC0415 - the transcription needs it at once

    _engine(name, model, threads)


def _engine(name: EngineName, model: Path, threads: int) -> Engine:
    """The engine with its model, loaded unless it is there."""
    global _loaded, _untold_load_seconds  # noqa: PLW0603 - the model kept for the next job
    key = (name, model, threads)
    if _loaded is not None and _loaded[0] == key:
        return _loaded[1]
    _loaded = None
    gc.collect()
    started = time.monotonic()
    _loaded = (key, load_engine(name, model, threads))
    _untold_load_seconds = time.monotonic() - started
    return _loaded[1]


def _report(fraction: float) -> None:
    if _child_progress is not None:
        _child_progress.value = fraction
