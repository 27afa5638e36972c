"""The confidence of a transcript: one number from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

from whisper_processor.engines.base import Segment


def confidence(segments: Sequence[Segment]) -> float:
    """Duration-weighted mean of exp(mean token log probability); 0 for silence.

    exp of the mean log probability is a segment's probability: the geometric mean of its tokens' probabilities.
    The weights keep many short, probable interjections from hiding one long, improbable passage, and make the
    result independent of how an engine cuts speech into segments of equal probability. It is rounded to the two
    decimals of the `confidence_score` column.
    """
    total = sum(max(0.0, s.end - s.start) for s in segments)
    if total == 0:
        return 0.0
    weighted = sum(math.exp(min(0.0, s.mean_log_probability)) * max(0.0, s.end - s.start) for s in segments)
    return round(min(1.0, weighted / total), 2)
