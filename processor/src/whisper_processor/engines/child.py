"""The transcription runs in a child process: a crash, a kill or a hang costs one attempt, not the worker.

The child keeps its model for the next job, and drops it before it loads another one, so that there is never more
than one in memory.
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
    """What the child needs for one transcription."""

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
    """0 when an earlier job had loaded the model."""


class Transcriber(Protocol):
    def prepare(self, engine: EngineName, model: Path, threads: int) -> None: ...

    def transcribe(self, work: Work, deadline_seconds: float, on_tick: Callable[[float], None]) -> Done: ...


class ChildTranscriber:
    """A pool of one child process. A context manager: its end is the child's end."""

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
        """Start to load the model and return at once, so that the recording can be decoded meanwhile.

        Errors are not reported here: `transcribe` loads a model that is missing, and reports them.
        """
        self._schedule(self._load, engine, model, threads)

    def transcribe(self, work: Work, deadline_seconds: float, on_tick: Callable[[float], None]) -> Done:
        """Transcribe, and call `on_tick` several times a second with the fraction done.

        An exception from `on_tick` (a drain) ends the child and propagates. Raises TransientError when the child
        dies, exceeds the deadline or meets an unexpected error, PermanentError for work that cannot be done.
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
            # Neither cancelling nor pebble's own timeout ends a child that hangs before it has started the job.
            self._replace_pool()
            raise
        return _outcome(future)

    def _schedule(self, run: Callable[..., Any], *given: Any) -> ProcessFuture[Any]:
        try:
            return self._pool.schedule(run, args=given)
        except RuntimeError:
            # pebble closes its pool for good when the child is killed between two jobs.
            self._replace_pool()
            return self._pool.schedule(run, args=given)

    def _new_pool(self) -> ProcessPool:
        # pebble reports a child's death as an exception of its job, and replaces the child.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(max_workers=1, context=context, initializer=start_child, initargs=(self._progress,))

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
        # Whatever an engine raises costs the job one attempt, never the worker. Its text may quote speech.
        raise TransientError(f"the transcription failed ({type(error).__name__})") from error


_loaded: tuple[tuple[EngineName, Path, int], Engine] | None = None
_unreported_load_seconds = 0.0
_child_progress: c_double | None = None


def start_child(progress: c_double) -> None:
    """Prepare this process to transcribe; it writes the fraction done to `progress`."""
    global _child_progress  # noqa: PLW0603 - a process's own state
    _child_progress = progress
    import tqdm  # noqa: PLC0415

    # Otherwise tqdm, which the engines use, creates a semaphore and leaves it behind when this process is killed.
    tqdm.tqdm.set_lock(threading.RLock())
    # Ctrl-C and a service stop go to the whole process group; only the worker decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def transcribe_in_child(work: Work) -> Done:
    """Transcribe in this process. A recording without speech has no segments (Whisper would invent text)."""
    global _unreported_load_seconds
    # Imported here because the worker does not need their libraries: it must poll at once, and stay small.
    from whisper_processor.audio.media import Recording  # noqa: PLC0415
    from whisper_processor.audio.speech import has_speech  # noqa: PLC0415

    recording = Recording(work.samples)
    if not has_speech(recording):
        return Done(transcription=Transcription(language=None, segments=()))
    engine = _engine(work.engine, work.model, work.options.threads)
    loading, _unreported_load_seconds = _unreported_load_seconds, 0.0
    return Done(transcription=engine.transcribe(recording, work.options, _report), model_load_seconds=loading)


def load_in_child(name: EngineName, model: Path, threads: int) -> None:
    """Load the model in this process, for the transcription that follows."""
    import whisper_processor.audio.speech  # noqa: F401, PLC0415 - the transcription needs it first

    _engine(name, model, threads)


def _engine(name: EngineName, model: Path, threads: int) -> Engine:
    """The engine with its model, which is loaded unless it is the current one."""
    global _loaded, _unreported_load_seconds  # noqa: PLW0603 - the model kept for the next job
    key = (name, model, threads)
    if _loaded is not None and _loaded[0] == key:
        return _loaded[1]
    _loaded = None
    gc.collect()
    started = time.monotonic()
    _loaded = (key, load_engine(name, model, threads))
    _unreported_load_seconds = time.monotonic() - started
    return _loaded[1]


def _report(fraction: float) -> None:
    if _child_progress is not None:
        _child_progress.value = fraction
