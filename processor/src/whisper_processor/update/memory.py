"""What the updater remembers between boots: the last request that failed, and its last report, for people."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from whisper_processor.releases import UpdateReport
from whisper_processor.update.plan import Failure

_FAILURE = TypeAdapter(Failure)


@dataclass(frozen=True)
class Memory:
    folder: Path

    def failure(self) -> Failure | None:
        try:
            return _FAILURE.validate_json((self.folder / "failure.json").read_bytes())
        except (OSError, ValidationError):
            return None  # then the request is tried once more

    def remember(self, failure: Failure) -> None:
        write_durably(self.folder / "failure.json", _FAILURE.dump_json(failure).decode())

    def keep(self, report: UpdateReport) -> None:
        write_durably(self.folder / "report.json", report.model_dump_json(indent=2) + "\n")


def write_durably(path: Path, text: str) -> None:
    """Replace the file atomically: a power failure leaves the old text or the new one."""
    unfinished = path.with_suffix(".new")
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
