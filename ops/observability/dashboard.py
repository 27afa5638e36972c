"""The dashboard of infra/autoscaler.yaml as numbers on a terminal, from its deployed definition."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.names import PRODUCT
from ops.aws import metrics
from ops.aws.connection import Connection
from ops.errors import OpsError

WINDOWS = {"last hour": timedelta(hours=1), "last 24 h": timedelta(hours=24)}
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Row:
    widget: str
    label: str
    statistic: str
    values: Mapping[str, float | None]
    """By window; None: no data."""


@dataclass(frozen=True)
class _Line:
    metric: metrics.Metric | None
    options: dict[str, Any]


def url(aws: Connection) -> str:
    region = aws.settings.aws_region
    return (
        f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#dashboards/dashboard/{PRODUCT}"
    )


def read_dashboard(aws: Connection, now: datetime) -> list[Row]:
    """Raises OpsError when it is not deployed."""
    try:
        body = aws.cloudwatch.get_dashboard(DashboardName=PRODUCT)["DashboardBody"]
    except aws.cloudwatch.exceptions.ResourceNotFound as error:
        raise OpsError("the dashboard is not deployed: run `make deploy-lambda`") from error
    return [row for widget in json.loads(body)["widgets"] for row in _rows(aws, widget["properties"], now)]


def _rows(aws: Connection, properties: dict[str, Any], now: datetime) -> Iterator[Row]:
    lines = list(expand(properties["metrics"]))
    known: dict[str, dict[str, float | None]] = {}
    for line in lines:
        if line.metric is None:
            continue
        statistic = line.options.get("stat", properties.get("stat", "Average"))
        values = {
            window: metrics.total(
                metrics.read(aws, line.metric, statistic, start=now - span, end=now, period=timedelta(minutes=5)),
                statistic,
            )
            for window, span in WINDOWS.items()
        }
        if "id" in line.options:
            known[line.options["id"]] = values
        if line.options.get("visible", True):
            yield Row(properties["title"], line.options.get("label", line.metric.name), statistic, values)
    # The dashboard's expressions assume a period of a day.
    window = "last 24 h"
    for line in lines:
        if line.metric is None:
            inputs = {name: values[window] for name, values in known.items()}
            value = evaluate(line.options["expression"], inputs)
            yield Row(properties["title"], line.options["label"], "computed", {window: value})


def expand(listed: list[list[Any]]) -> Iterator[_Line]:
    """Resolve CloudWatch's shorthand: a `.` repeats the value at that place in the line above."""
    above: list[str] = []
    for entry in listed:
        options = entry[-1] if isinstance(entry[-1], dict) else {}
        words = [word for word in entry if not isinstance(word, dict)]
        if not words:
            yield _Line(None, options)
            continue
        words = [above[place] if word == "." else word for place, word in enumerate(words)]
        above = words
        dimensions = dict(zip(words[2::2], words[3::2], strict=True))
        yield _Line(metrics.Metric(words[0], words[1], dimensions), options)


def evaluate(expression: str, inputs: Mapping[str, float | None]) -> float | None:
    """The part of metric math that the dashboard uses. None when a number is missing or a divisor is zero."""

    def value(node: ast.expr) -> float:
        match node:
            case ast.BinOp():
                return _OPERATORS[type(node.op)](value(node.left), value(node.right))
            case ast.Constant():
                return float(node.value)  # type: ignore[arg-type]
            case ast.Name():
                number = inputs[node.id]
                if number is None:
                    raise ZeroDivisionError
                return number
        raise ValueError(f"not simple arithmetic: {expression}")

    try:
        return value(ast.parse(expression, mode="eval").body)
    except ZeroDivisionError:
        return None
