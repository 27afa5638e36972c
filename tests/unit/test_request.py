"""What is run for a job: its own choices, and the machine's for the rest."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.jobs import EngineName, Task
from whisper_processor.engines.choice import Choice
from whisper_processor.errors import PermanentError
from whisper_processor.messages import JobMessage
from whisper_processor.settings import Settings
from whisper_processor.worker.request import Request, resolve_request

USUAL = Choice(EngineName.OPENVINO, "the CPU has amx_bf16")


def resolve(usual_model: str = "base", **asked: Any) -> Request:
    settings = Settings(
        _env_file=None, queue_url="q", dlq_url="d", bucket="b", whisper_model=usual_model, whisper_beam_size=3
    )
    return resolve_request(JobMessage(s3Key="x", **asked), settings, USUAL)


def test_a_job_without_choices_gets_the_machines() -> None:
    request = resolve()
    assert (request.engine, request.engine_reason, request.model) == (USUAL.engine, USUAL.reason, "base")
    assert (request.options.language, request.options.task) == (None, Task.TRANSCRIBE)
    assert request.options.beam_size == 3


def test_a_jobs_own_choices_come_first() -> None:
    request = resolve(engine="faster-whisper", model="tiny", language="fr", task="translate", wordTimestamps=True)
    assert (request.engine, request.engine_reason) == (EngineName.FASTER_WHISPER, "the job asks for it")
    assert request.model == "tiny"
    assert (request.options.language, request.options.task) == ("fr", Task.TRANSLATE)
    assert request.options.word_timestamps


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({}, False),
        ({"language": "en"}, False),
        ({"language": "fr"}, True),
        ({"task": "translate"}, True),
        ({"language": "en", "task": "translate"}, True),
        ({"language": "fr", "model": "base"}, False),
    ],
)
def test_an_english_only_model_is_for_english_only(asked: dict[str, str], refused: bool) -> None:
    if refused:
        with pytest.raises(PermanentError, match=r"tiny\.en knows English only"):
            resolve("tiny.en", **asked)
    else:
        resolve("tiny.en", **asked)
