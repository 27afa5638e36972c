"""The part of CloudWatch that our alarms and `make status` need.

The metrics of SQS and EC2, metrics embedded in log lines, and alarms that respect dimensions, periods and missing
data."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ministack.services import cloudwatch, cloudwatch_logs, ec2, lambda_svc, sqs

from local.emulator.ssm import managed

_EVERY_SECONDS = 20.0
_BOOT_SECONDS = 60.0
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
Point = dict[str, Any]


def complete(folder: Path) -> None:
    cloudwatch._evaluate_alarm = _evaluate
    append = cloudwatch_logs._append_log_events

    def append_and_measure(stream: Any, events: list[dict[str, Any]]) -> None:
        append(stream, events)
        for event in events:
            _record_embedded(event["message"])

    cloudwatch_logs._append_log_events = append_and_measure
    _measure_functions()
    threading.Thread(target=_measure, args=(folder,), name="service-metrics", daemon=True).start()


def _measure_functions() -> None:
    """Count every invocation by its log. ministack counts only those that come through the API."""
    log = lambda_svc._emit_lambda_logs

    def log_and_measure(
        function: dict[str, Any], request: str, text: str, error: bool, duration: int, **more: Any
    ) -> None:
        log(function, request, text, error, duration, **more)
        name = {"FunctionName": function["config"]["FunctionName"]}
        cloudwatch.record_metric("AWS/Lambda", "Invocations", 1.0, "Count", name)
        cloudwatch.record_metric("AWS/Lambda", "Errors", float(error), "Count", name)

    lambda_svc._emit_lambda_logs = log_and_measure
    lambda_svc._emit_lambda_metrics = lambda *_args, **_more: None


def _record_embedded(message: str) -> None:
    """Read the embedded metric format. Dimensions are ignored: the autoscaler uses none."""
    if not message.startswith('{"_aws"'):
        return
    with suppress(ValueError, KeyError):
        line = json.loads(message)
        for directive in line["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                name = metric["Name"]
                cloudwatch.record_metric(directive["Namespace"], name, line[name], metric.get("Unit", "None"))


def _measure(folder: Path) -> None:
    while True:
        now = time.time()
        for queue in list(sqs._queues.values()):
            _measure_queue(queue, now)
        for instance in list(ec2._instances.values()):
            if instance["State"]["Name"] == "running" and now - instance.get("_settles_at", 0.0) > _BOOT_SECONDS:
                failed = not managed(folder, instance["InstanceId"])
                dimensions = {"InstanceId": instance["InstanceId"]}
                cloudwatch.record_metric("AWS/EC2", "StatusCheckFailed", float(failed), "Count", dimensions)
        cloudwatch._evaluate_all_alarms()
        time.sleep(_EVERY_SECONDS)


def _measure_queue(queue: dict[str, Any], now: float) -> None:
    sqs._refresh_counts(queue)
    dimensions = {"QueueName": queue["name"]}
    for name in ("", "NotVisible", "Delayed"):
        value = float(queue["attributes"][f"ApproximateNumberOfMessages{name}"])
        metric = f"ApproximateNumberOfMessages{name or 'Visible'}"
        cloudwatch.record_metric("AWS/SQS", metric, value, "Count", dimensions)
    oldest = max((now - message["sent_at"] for message in list(queue["messages"])), default=0.0)
    cloudwatch.record_metric("AWS/SQS", "ApproximateAgeOfOldestMessage", oldest, "Seconds", dimensions)


def _evaluate(alarm: dict[str, Any]) -> None:
    """Replaces ministack's, which ignores dimensions and never treats data as missing."""
    namespace, name = alarm.get("Namespace"), alarm.get("MetricName")
    if not namespace or not name:
        return
    raw = alarm.get("Dimensions") or []
    wanted = raw if isinstance(raw, dict) else {d["Name"]: d["Value"] for d in raw}
    points = [
        point
        for (its_namespace, its_name, _), found in list(cloudwatch._metrics.items())
        if (its_namespace, its_name) == (namespace, name)
        for point in list(found)
        if point.get("Dimensions", {}) == wanted
    ]
    state, reason = _judge(alarm, points, time.time())
    before = alarm["StateValue"]
    if state != before:
        alarm |= {"StateValue": state, "StateReason": reason, "StateUpdatedTimestamp": int(time.time())}
        cloudwatch._record_history(alarm["AlarmName"], before, state, reason)
        cloudwatch._dispatch_alarm_actions(alarm, before, state, reason)


def _judge(alarm: dict[str, Any], points: list[Point], now: float) -> tuple[str, str]:
    statistic, threshold = alarm.get("Statistic") or "Average", float(alarm.get("Threshold", 0))
    comparison = alarm.get("ComparisonOperator", "")
    period, periods = int(alarm.get("Period", 60)), int(alarm.get("EvaluationPeriods", 1))
    missing = {"breaching": True, "notBreaching": False}.get(alarm.get("TreatMissingData", "missing"))
    if missing and now - alarm.get("AlarmConfigurationUpdatedTimestamp", 0) < period:
        missing = None  # an alarm younger than its period has not missed anything yet
    breaching: list[bool | None] = []
    values: list[float] = []
    for place in range(periods):
        end = now - place * period
        inside = [point for point in points if end - period < point["Timestamp"] <= end]
        if inside:
            values.append(cloudwatch._stat_value(cloudwatch._calc_stats(inside), statistic, inside))
            breaching.append(_COMPARE[comparison](values[-1], threshold))
        else:
            breaching.append(missing)
    known = [each for each in breaching if each is not None]
    if not known:
        return "INSUFFICIENT_DATA", "no data"
    seen = f"{statistic} {', '.join(f'{value:g}' for value in values) or 'of no data'}"
    return ("ALARM" if all(known) else "OK"), f"{seen}; alarm when {comparison} {threshold:g}"
