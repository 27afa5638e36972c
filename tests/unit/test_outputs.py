"""The formats a transcript is written in."""

import json

from hypothesis import given
from hypothesis import strategies as st

from whisper_processor.engines.base import Segment, Transcription
from whisper_processor.transcripts.outputs import plain_text, render


def transcription(*segments: tuple[float, float, str]) -> Transcription:
    return Transcription(
        language="en",
        segments=tuple(Segment(start=s, end=e, text=t, mean_log_probability=-0.1) for s, e, t in segments),
    )


def rendered(value: Transcription) -> dict[str, str]:
    return {o.suffix: o.text for o in render("job", value, 3700.0, 0.9)}


def test_subtitles_carry_times_beyond_an_hour_in_each_formats_notation() -> None:
    outputs = rendered(transcription((3599.9996, 3661.5, " Good morning. ")))
    assert "01:00:00.000 --> 01:01:01.500\nGood morning." in outputs["vtt"]
    assert outputs["srt"] == "1\n01:00:00,000 --> 01:01:01,500\nGood morning.\n"
    assert outputs["vtt"].startswith("WEBVTT\n\n")


def test_silence_renders_as_empty_but_valid_files() -> None:
    outputs = rendered(Transcription(language=None, segments=()))
    assert outputs["vtt"] == "WEBVTT\n\n"
    assert json.loads(outputs["json"])["segments"] == []


def test_an_arrow_in_speech_does_not_end_a_cue() -> None:
    cues = rendered(transcription((0, 1, "a --> b")))["vtt"]
    assert cues.count("-->") == 1


@given(st.lists(st.text(), max_size=5))
def test_plain_text_keeps_every_word_once(texts: list[str]) -> None:
    value = transcription(*((float(n), n + 1.0, text) for n, text in enumerate(texts)))
    assert plain_text(value).split() == " ".join(texts).split()


@given(st.text())
def test_json_round_trips_any_speech(text: str) -> None:
    document = json.loads(rendered(transcription((0, 1, text)))["json"])
    assert document["segments"][0]["text"] == text
    assert document["job_id"] == "job"
