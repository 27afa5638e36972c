"""Word error rate as Whisper's authors count it: both texts through their English normaliser first."""

from __future__ import annotations

from functools import cache
from typing import Any

import jiwer


@cache
def _normalizer() -> Any:
    from whisper.normalizers import EnglishTextNormalizer  # noqa: PLC0415 - its package imports torch

    return EnglishTextNormalizer()


def word_error_rate(reference: str, text: str) -> float | None:
    """Substitutions, insertions and deletions over the words of the reference; None when it has no words."""
    normal = _normalizer()
    expected = normal(reference)
    return float(jiwer.wer(expected, normal(text))) if expected else None
