"""Numbers from CloudWatch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ops.aws.connection import Connection


@dataclass(frozen=True)
class Metric:
    namespace: str
    name: str
    dimensions: Mapping[str, str]


@dataclass(frozen=True)
class Point:
    time: datetime
    value: float
    samples: float


def read(
    aws: Connection, metric: Metric, statistic: str, *, start: datetime, end: datetime, period: timedelta
) -> list[Point]:
    """The metric's points in order of time; CloudWatch gives 1,440 at most."""
    answer = aws.cloudwatch.get_metric_statistics(
        Namespace=metric.namespace,
        MetricName=metric.name,
        Dimensions=[{"Name": name, "Value": value} for name, value in metric.dimensions.items()],
        StartTime=start,
        EndTime=end,
        Period=int(period.total_seconds()),
        Statistics=list({statistic, "SampleCount"}),  # type: ignore[arg-type]
    )
    points = [Point(p["Timestamp"], p[statistic], p["SampleCount"]) for p in answer["Datapoints"]]  # type: ignore[literal-required]
    return sorted(points, key=lambda point: point.time)


def total(points: list[Point], statistic: str) -> float | None:
    """All points as one number; None when there are none."""
    if not points:
        return None
    match statistic:
        case "Sum" | "SampleCount":
            return sum(point.value for point in points)
        case "Maximum":
            return max(point.value for point in points)
        case "Minimum":
            return min(point.value for point in points)
    return sum(point.value * point.samples for point in points) / sum(point.samples for point in points)
