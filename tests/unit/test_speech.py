"""Speech is cut into windows that hold all of it once, in order, and fit what Whisper sees at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisper_processor.audio.sound import SAMPLE_RATE
from whisper_processor.audio.speech import CHUNK, WINDOW_SECONDS, Span, Window, find, pack, padded

WINDOW = WINDOW_SECONDS * SAMPLE_RATE
RUNS = st.lists(st.tuples(st.integers(1, 1500), st.integers(1, 200)), max_size=30)
"""Chunks of speech, and of the pause after it."""


def heard(runs: list[tuple[int, int]]) -> list[float]:
    return [p for speech, pause in runs for p in [0.9] * speech + [0.01] * pause]


def cut(chunks: list[float]) -> list[Window]:
    return list(pack(padded(find(chunks), len(chunks) * CHUNK)))


@settings(deadline=None, max_examples=60)
@given(RUNS)
def test_every_chunk_of_speech_is_in_just_one_window(runs: list[tuple[int, int]]) -> None:
    chunks = heard(runs)
    covered = np.zeros(len(chunks) * CHUNK, int)
    for window in cut(chunks):
        for span in window.spans:
            covered[span.start : span.end] += 1
    assert covered.max(initial=0) <= 1
    speaks = np.repeat(np.array(chunks) > 0.5, CHUNK)
    assert covered[speaks].min(initial=1) == 1


@settings(deadline=None, max_examples=60)
@given(RUNS)
def test_windows_fit_and_are_in_order(runs: list[tuple[int, int]]) -> None:
    chunks = heard(runs)
    spans = [span for window in cut(chunks) for span in window.spans]
    assert all(0 < window.length <= WINDOW for window in cut(chunks))
    assert all(0 <= span.start < span.end <= len(chunks) * CHUNK for span in spans)
    assert all(one.end <= two.start for one, two in pairwise(spans))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=3000))
def test_any_probabilities_give_windows_that_fit(chunks: list[float]) -> None:
    assert all(0 < window.length <= WINDOW for window in cut(chunks))
    assert bool(cut(chunks)) == any(p >= 0.5 for p in chunks)


def test_a_long_pause_is_left_out_and_a_short_one_kept() -> None:
    second = SAMPLE_RATE // CHUNK
    (window,) = cut(heard([(5 * second, second // 2), (5 * second, 20 * second), (5 * second, second)]))
    assert window.length / SAMPLE_RATE == pytest.approx(15 + 0.5 + 0.8 + 0.4 * 1, abs=0.2)


def test_a_window_ends_at_the_longest_pause_of_its_last_fifth() -> None:
    second = SAMPLE_RATE // CHUNK
    first, _ = cut(
        heard([(14 * second, 5 * second), (11 * second, 3 * second), (2 * second, second), (9 * second, 9)])
    )
    assert first.end / SAMPLE_RATE == pytest.approx(14 + 5 + 11 + 0.4, abs=0.6)


def test_speech_without_a_pause_is_cut_where_it_is_least_like_speech() -> None:
    chunks = [0.9] * 1500
    chunks[800] = 0.6
    assert next(iter(find(chunks))) == (0, 800)


def test_a_moment_of_a_window_is_found_in_the_recording() -> None:
    window = Window((Span(10 * SAMPLE_RATE, 12 * SAMPLE_RATE, 0), Span(20 * SAMPLE_RATE, 25 * SAMPLE_RATE, 0)))
    assert window.moments(0.5, 1.0) == (10.5, 11.0)
    assert window.moments(3.0, 3.5) == (21.0, 21.5)
    assert window.moments(1.8, 2.6) == (20.0, 20.6), "in the span that holds its middle, and not out of it"
    assert window.moments(6.5, 9.0) == (24.5, 25.0)
