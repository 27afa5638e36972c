"""The first path: the instance does not start."""

from __future__ import annotations

from datetime import timedelta

from contracts.hold import parse_hold
from contracts.metrics import NAMESPACE
from contracts.tags import HOLD_TAG
from ops.autoscaler.release import ALIAS
from ops.aws import metrics
from ops.aws.connection import tags_of
from ops.capacity import fleet
from ops.observability.checks.base import Context, Step, Wrong
from ops.observability.decisions import read_decision
from ops.observability.queues import read_queue


def check_stacks(context: Context) -> str:
    if not context.aws.foundation or not context.aws.autoscaler:
        raise Wrong("a stack has no outputs", "make deploy")
    return f"{context.aws.settings.foundation_stack} and {context.aws.settings.autoscaler_stack}"


def check_rule(context: Context) -> str:
    if "RuleName" not in context.aws.autoscaler:
        raise Wrong("no version of the autoscaler is live", "make deploy-lambda")
    name = context.aws.autoscaler["RuleName"].rsplit("/", 1)[-1]
    rule = context.aws.events.describe_rule(Name=name)
    if rule["State"] != "ENABLED":
        raise Wrong(f"{name} is {rule['State']}", f"aws events enable-rule --name {name}")
    return f"{name} is enabled, {rule['ScheduleExpression']}"


def check_function_errors(context: Context) -> str:
    name = {"FunctionName": context.aws.autoscaler["FunctionName"]}
    errors = _sum(context, metrics.Metric("AWS/Lambda", "Errors", name))
    if errors:
        raise Wrong(f"{errors:.0f} in the last hour", "make logs MINUTES=60")
    return "none in the last hour"


def check_mode(context: Context) -> str:
    name = context.aws.autoscaler["FunctionName"]
    live = context.aws.functions.get_function_configuration(FunctionName=name, Qualifier=ALIAS)
    variables = live["Environment"]["Variables"]
    deployed, wanted = variables.get("CAPACITY_MODE", "instance"), context.aws.settings.capacity_mode
    if deployed != wanted:
        raise Wrong(f"the autoscaler runs {deployed}, .env says {wanted}", "make deploy-infra deploy-lambda")
    return deployed


def check_decision(context: Context) -> str:
    decision = read_decision(context.aws, context.now)
    if decision is None:
        raise Wrong("the autoscaler has not run for 15 minutes", "make deploy-lambda")
    if decision.outcome == "dry-run":
        raise Wrong("the autoscaler only says what it would do", "make deploy-lambda AUTOSCALER_DRY_RUN=false")
    return f"{decision.action}, {decision.age_seconds:.0f} s ago: {decision.reason}"


def check_notification(context: Context) -> str:
    bucket, arn = context.aws.foundation["BucketName"], context.aws.autoscaler.get("LiveArn")
    found = context.aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    if arn not in {c["LambdaFunctionArn"] for c in found.get("LambdaFunctionConfigurations", [])}:
        raise Wrong(f"{bucket} does not tell the autoscaler of uploads", "make deploy-lambda")
    return f"{bucket} tells the autoscaler of uploads"


def check_appliance(context: Context) -> str:
    if context.aws.is_fleet:
        group = fleet.find_group(context.aws)
        if group is None:
            raise Wrong("there is no fleet", "make deploy-infra deploy-lambda")
        return fleet.say_group(group)
    instance = context.aws.find_instance()
    if instance is None:
        raise Wrong("there is none", "make launch")
    return f"{instance['InstanceId']} is {instance['State']['Name']}"


def check_hold(context: Context) -> str:
    hold = parse_hold(_hold_tags(context).get(HOLD_TAG))
    if hold is None or not hold.active_at(context.now):
        return "none"
    if read_queue(context.aws).backlog:
        raise Wrong(f"held by {hold.by} while lessons wait", "make resume")
    return f"by {hold.by} until {hold.until or '`make resume`'}; nothing waits"


def check_capacity(context: Context) -> str:
    refused = _sum(context, metrics.Metric(NAMESPACE, "CapacityErrors", {}))
    if refused:
        raise Wrong(
            f"AWS had no capacity {refused:.0f} times in the last hour",
            "make replace with another INSTANCE_TYPE in .env",
        )
    return "no start was refused in the last hour"


def _hold_tags(context: Context) -> dict[str, str]:
    """A hold is a tag on the group, or on the one appliance."""
    group = fleet.find_group(context.aws) if context.aws.is_fleet else None
    if group is not None:
        return fleet.tags_of_group(group)
    instance = context.aws.find_instance()
    return tags_of(instance) if instance else {}


def _sum(context: Context, metric: metrics.Metric) -> float:
    start = context.now - timedelta(hours=1)
    points = metrics.read(context.aws, metric, "Sum", start=start, end=context.now, period=timedelta(minutes=5))
    return metrics.total(points, "Sum") or 0.0


CHECKS: tuple[tuple[str, Step], ...] = (
    ("infrastructure", check_stacks),
    ("rule", check_rule),
    ("autoscaler errors", check_function_errors),
    ("capacity mode", check_mode),
    ("last decision", check_decision),
    ("upload notification", check_notification),
    ("appliance", check_appliance),
    ("hold", check_hold),
    ("capacity", check_capacity),
)
