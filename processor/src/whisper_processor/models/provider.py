"""Where a model lies on this machine. A model that is missing is fetched from the bucket."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from contracts.jobs import EngineName
from whisper_processor.aws.storage import LessonStore
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.models.bucket import fetch_from_bucket
from whisper_processor.models.catalogue import ModelError, model_path
from whisper_processor.waiting import Tick, wait_for

log = structlog.get_logger()


class ModelProvider:
    def __init__(self, store: LessonStore, models_dir: Path, fetched_dir: Path | None) -> None:
        """`fetched_dir` is where models from the bucket go; None for `models_dir`."""
        self._store = store
        self._fetched_dir = fetched_dir or models_dir
        self._folders = [models_dir, self._fetched_dir]

    def installed(self, engine: EngineName, name: str) -> Path:
        """What the engine loads. Raises ModelError when the model is not on this machine."""
        return model_path(self._folders, engine, name)

    def provide(self, engine: EngineName, name: str, tick: Tick) -> Path:
        """What the engine loads, fetched when it is not on this machine. An exception from `tick` ends the fetch.

        Raises PermanentError when the bucket does not have it either, TransientError when S3 does not respond.
        """
        try:
            return self.installed(engine, name)
        except ModelError as missing:
            log.info("model_fetched", model=name, engine=engine)
            if not self._fetch(engine, name, tick):
                raise PermanentError(str(missing)) from missing
            return model_path([self._fetched_dir], engine, name)

    def _fetch(self, engine: EngineName, name: str, tick: Tick) -> bool:
        cancelled = threading.Event()

        def on_bytes(_count: int) -> None:
            if cancelled.is_set():
                raise TransientError("the worker must leave")

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="model") as thread:
            fetching = thread.submit(fetch_from_bucket, self._store, name, engine, self._fetched_dir, on_bytes)
            try:
                return wait_for(fetching, tick)
            except BaseException:
                cancelled.set()
                raise
