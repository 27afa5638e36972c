"""Cutting long segments into subtitles loses and doubles no word."""

from hypothesis import example, given
from hypothesis import strategies as st

from whisper_processor.engines.base import Segment, Word
from whisper_processor.engines.cues import split

texts = st.lists(st.from_regex(r"\A [a-z]{1,20}[.,?!]?\Z"), min_size=1, max_size=80)


def segment(spoken: list[str], pace: float = 0.4) -> Segment:
    words = tuple(Word(start=n * pace, end=(n + 1) * pace, text=t, probability=0.9) for n, t in enumerate(spoken))
    text = "".join(spoken).strip()
    return Segment(start=0, end=len(spoken) * pace, text=text, mean_log_probability=-0.2, words=words)


@given(texts, st.floats(0.05, 3))
def test_every_word_appears_once_and_in_order(spoken: list[str], pace: float) -> None:
    whole = segment(spoken, pace)
    assert [w for piece in split(whole) for w in piece.words] == list(whole.words)
    assert " ".join(piece.text for piece in split(whole)).split() == whole.text.split()


@given(texts, st.floats(0.05, 3))
@example([" a,", *(f" {'a' * length}" for length in (2, 4, 7, 10, 10, 14, 15, 16))], 0.5)
def test_a_piece_fits_a_subtitle_unless_it_is_a_single_word(spoken: list[str], pace: float) -> None:
    for piece in split(segment(spoken, pace)):
        assert len(piece.words) == 1 or (len(piece.text) <= 84 and piece.end - piece.start <= 7.001)


def test_sentences_end_pieces() -> None:
    pieces = split(segment([" Good", " morning.", " Sit", " down."]))
    assert [piece.text for piece in pieces] == ["Good morning.", "Sit down."]


def test_a_segment_without_words_stays_whole() -> None:
    whole = Segment(start=0, end=30, text="long", mean_log_probability=-1)
    assert list(split(whole)) == [whole]
