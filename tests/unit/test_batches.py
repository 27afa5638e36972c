"""How a recording's windows are shared among the lanes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from whisper_processor.audio.sound import SAMPLE_RATE
from whisper_processor.audio.speech import WINDOW_SECONDS
from whisper_processor.engines.windowed import batch_size

WINDOW = WINDOW_SECONDS * SAMPLE_RATE
lanes = st.integers(1, 4)
most = st.integers(1, 16)


@given(st.integers(1, 10**9), lanes, most)
def test_a_batch_holds_a_window_and_no_more_than_allowed(samples: int, lanes: int, most: int) -> None:
    assert 1 <= batch_size(samples, lanes, most) <= most


@given(st.integers(1, 100), lanes, most)
def test_no_lane_waits_longer_than_one_batch_of_the_fewest_rounds(count: int, lanes: int, most: int) -> None:
    size = batch_size(count * WINDOW, lanes, most)
    rounds = -(-count // (lanes * most))
    assert lanes * size * rounds >= count, "in no more rounds than batches of the largest size would take"


def test_eleven_windows_on_two_lanes_are_not_two_batches_for_one_and_one_for_the_other() -> None:
    assert batch_size(11 * WINDOW, lanes=2, most=4) == 3
