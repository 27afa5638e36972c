"""The confidence of a transcript stays a probability and depends on what was said, not on how it was cut."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whisper_processor.engines.base import Segment
from whisper_processor.transcripts.confidence import confidence

log_probabilities = st.floats(-50, 5)  # rounding in an engine can lift one just above 0
lengths = st.floats(0.01, 30)


def segment(start: float, end: float, mean_log_probability: float) -> Segment:
    return Segment(start=start, end=end, text="word", mean_log_probability=mean_log_probability)


def test_silence_has_none() -> None:
    assert confidence([]) == 0.0


def test_a_segment_without_length_counts_for_nothing() -> None:
    assert confidence([segment(3, 3, -0.1)]) == 0.0
    assert confidence([segment(3, 3, -9), segment(3, 4, 0)]) == 1.0


def test_one_segment_has_the_geometric_mean_probability_of_its_tokens() -> None:
    assert confidence([segment(0, 2, math.log(0.8))]) == pytest.approx(0.8)


def test_long_segments_weigh_more() -> None:
    assert confidence([segment(0, 1, math.log(0.2)), segment(1, 4, math.log(1.0))]) == pytest.approx(0.8)


@given(st.lists(st.tuples(lengths, log_probabilities)))
def test_it_is_a_probability_of_two_decimals(parts: list[tuple[float, float]]) -> None:
    result = confidence([segment(0, length, logarithm) for length, logarithm in parts])
    assert 0 <= result <= 1
    assert result == round(result, 2)


@given(lengths, log_probabilities, st.floats(0.1, 0.9))
def test_cutting_a_segment_in_two_changes_nothing(length: float, logarithm: float, place: float) -> None:
    cut = length * place
    whole = confidence([segment(0, length, logarithm)])
    halves = confidence([segment(0, cut, logarithm), segment(cut, length, logarithm)])
    assert halves == pytest.approx(whole, abs=0.01)


@given(st.lists(st.tuples(lengths, st.floats(-5, 0)), min_size=1), st.floats(0, 5))
def test_more_probable_segments_never_lower_it(parts: list[tuple[float, float]], gain: float) -> None:
    before = confidence([segment(0, length, logarithm) for length, logarithm in parts])
    after = confidence([segment(0, length, min(0, logarithm + gain)) for length, logarithm in parts])
    assert after >= before
