"""What the operator's screens read from EC2's reasons and the dashboard, and the dashboard's arithmetic."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ops.aws.metrics import Point, total
from ops.observability.dashboard import evaluate, expand
from ops.observability.machines import since
from ops.settings import Stack
from tests.templates import template

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)


def test_a_stop_says_when_it_was_in_the_reason() -> None:
    launched = NOW - timedelta(hours=3)
    assert since("running", launched, "") == launched
    assert since("stopped", launched, "User initiated (2026-03-02 07:12:03 GMT)") == datetime(
        2026, 3, 2, 7, 12, 3, tzinfo=UTC
    )
    assert since("stopped", launched, "") is None


def test_a_dot_in_the_dashboard_repeats_what_stands_above() -> None:
    lines = list(
        expand([["AWS/SQS", "A", "QueueName", "q", {"label": "x"}], [".", "B", ".", "."], [".", ".", ".", "d"]])
    )
    found = [(line.metric.name, dict(line.metric.dimensions)) for line in lines if line.metric]
    assert found == [("A", {"QueueName": "q"}), ("B", {"QueueName": "q"}), ("B", {"QueueName": "d"})]


def test_the_dashboards_cost_is_the_price_of_the_hours_up_for_an_hour_of_audio() -> None:
    expression = "24 * up * 0.09 / (audio / 3600)"
    assert evaluate(expression, {"up": 0.5, "audio": 7200}) == pytest.approx(0.54)
    assert evaluate(expression, {"up": 0.5, "audio": 0.0}) is None
    assert evaluate(expression, {"up": 0.5, "audio": None}) is None


def test_what_is_not_arithmetic_is_not_evaluated() -> None:
    with pytest.raises(ValueError, match="not simple arithmetic"):
        evaluate("open('x')", {})


def test_an_average_weighs_each_point_by_its_samples() -> None:
    points = [Point(NOW, 1.0, 1), Point(NOW, 0.0, 3)]
    assert total(points, "Average") == pytest.approx(0.25)
    assert total(points, "Sum") == pytest.approx(1)
    assert total([], "Average") is None


@pytest.mark.parametrize("fleet", [False, True])
def test_the_dashboard_of_the_template_is_json(fleet: bool) -> None:
    dashboard = template(Stack.AUTOSCALER)["Resources"]["Dashboard"]["Properties"]
    body, variables = dashboard["DashboardBody"]["Fn::Sub"]
    _, row, nothing = variables["FleetWidget"]["Fn::If"]
    body = body.replace("${FleetWidget}", row["Fn::Sub"] if fleet else nothing)
    for name, value in {"AWS::Region": "r", "QueueName": "q", "DlqName": "d", "Function": "f"}.items():
        body = body.replace(f"${{{name}}}", value)
    widgets = json.loads(body.replace("${HourlyPriceUsd}", "0.1"))["widgets"]
    titles = ["Queue", "Appliance", "Fleet", "Lessons", "Failures", "Speed", "Cost"]
    assert [w["properties"]["title"] for w in widgets] == [t for t in titles if fleet or t != "Fleet"]
    assert all(list(expand(widget["properties"]["metrics"])) for widget in widgets)
