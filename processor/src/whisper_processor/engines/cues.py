"""Cut a long segment into pieces of subtitle length, at the ends of sentences where possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from whisper_processor.engines.base import Segment, Word

_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！", "…")  # noqa: RUF001 - Chinese and Japanese punctuation
_CLAUSE_ENDS = (*_SENTENCE_ENDS, ",", ";", ":", "،", "、")
# Two lines of 42 characters, seven seconds: the limits that large broadcasters' subtitle guidelines share.
_MOST_CHARACTERS = 84
_MOST_SECONDS = 7.0


def split(segment: Segment) -> Iterator[Segment]:
    """Pieces that hold each word of the segment once, in order; the segment itself when it has no words."""
    if not segment.words:
        yield segment
        return
    piece: list[Word] = []
    for word in segment.words:
        while piece and _full([*piece, word]):  # the rest after a clause may still be too long
            cut = _last_clause(piece)
            yield _piece(segment, piece[:cut])
            piece = piece[cut:]
        piece.append(word)
        if word.text.rstrip().endswith(_SENTENCE_ENDS):
            yield _piece(segment, piece)
            piece = []
    if piece:
        yield _piece(segment, piece)


def _full(words: Sequence[Word]) -> bool:
    length = sum(len(word.text) for word in words)
    return length > _MOST_CHARACTERS or words[-1].end - words[0].start > _MOST_SECONDS


def _last_clause(words: Sequence[Word]) -> int:
    """Where to cut: after the last clause, or after the last word when there is none."""
    for place in range(len(words) - 1, 0, -1):
        if words[place - 1].text.rstrip().endswith(_CLAUSE_ENDS):
            return place
    return len(words)


def _piece(segment: Segment, words: Sequence[Word]) -> Segment:
    # A word's text carries its leading space, or none in languages without spaces.
    return segment.model_copy(
        update={
            "start": words[0].start,
            "end": words[-1].end,
            "text": "".join(word.text for word in words).strip(),
            "words": tuple(words),
        }
    )
