"""What many runs say together: medians with their spread, and ratios of runs that were made side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict


class Spread(BaseModel):
    """A median and the smallest and largest value."""

    model_config = ConfigDict(frozen=True)

    middle: float
    low: float
    high: float

    @property
    def percent(self) -> float:
        """Half the range, in percent of the median: the ± of a table."""
        return 50 * (self.high - self.low) / self.middle if self.middle else 0.0


def spread(values: Sequence[float]) -> Spread | None:
    """None without values."""
    return Spread(middle=median(values), low=min(values), high=max(values)) if values else None


def ratio(reference: Mapping[int, float], mine: Mapping[int, float]) -> Spread | None:
    """How many times faster `mine` is than `reference`, both seconds by repeat.

    Runs of one repeat were made one after the other, so a ratio is taken in each and the median of these, which a
    drift of the machine's speed leaves alone. None when they have no repeat in common.
    """
    return spread([reference[repeat] / mine[repeat] for repeat in reference.keys() & mine.keys()])


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of the least squares line through (x, y), neither of them negative.

    With one point, or where it would start below zero, the line goes from the origin to the point farthest out.
    Raises ValueError without a point of positive x.
    """
    x_far, y_far = max(points, default=(0.0, 0.0))
    if x_far <= 0:
        raise ValueError("no point to lay a line through")
    n = len(points)
    x_mean, y_mean = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    square = sum((x - x_mean) ** 2 for x, _ in points)
    if square > 0:
        slope = sum((x - x_mean) * (y - y_mean) for x, y in points) / square
        intercept = y_mean - slope * x_mean
        if slope >= 0 and intercept >= 0:
            return slope, intercept
    return y_far / x_far, 0.0


def linearity(single: float, multiple: float, factor: float) -> float:
    """1 when `factor` times the audio takes `factor` times as long; above 1 when it takes longer than that."""
    return multiple / single / factor
