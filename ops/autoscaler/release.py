"""Release the autoscaler: publish a version, run it dry, and make it live only if that succeeds.

Which version ticks is the stack's parameter `LiveVersion`. The alias `live`, which the rule and the bucket invoke,
is a resource of the stack, so that CloudFormation and these verbs cannot be of two minds about it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.keys import AUDIO_PREFIX, AUTOSCALER_PREFIX
from contracts.names import PRODUCT
from ops import git
from ops.autoscaler.package import key_of, pack
from ops.aws.connection import Connection
from ops.aws.stacks import change_parameters, deploy_stack
from ops.capacity import fleet
from ops.errors import OpsError
from ops.prices import hourly_price
from ops.settings import Cloud, Stack, as_text
from ops.waiting import TooLong, wait_for

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import LambdaFunctionConfigurationTypeDef, NotificationConfigurationTypeDef

Say = Callable[[str], None]
ALIAS = "live"
KEPT = 5
"""How many versions are kept, and how many archives of their code."""
_SHARED_OUTPUTS = ("BucketName", "QueueUrl", "QueueArn", "QueueName", "DlqName", "AlarmTopicArn")
_NOTIFICATION_ID = f"{PRODUCT}-upload"
_BUSY_SECONDS = 60.0  # a tick may be running, and the function runs one at a time
_UNCHANGING = "$LATEST"


@dataclass(frozen=True)
class Version:
    number: int
    description: str
    """The revision it was published from."""

    def __str__(self) -> str:
        return f"version {self.number}" + (f" ({self.description})" if self.description else "")


class DryRunFailed(OpsError):
    """The dry run failed; the message is the function's own error."""


def deploy(aws: Connection, say: Say) -> None:
    """Deploy the stack, and make the checkout's code live once a dry run of it has succeeded.

    Raises OpsError when it fails; the previous version stays live.
    """
    live = live_version(aws)
    key = _upload_code(aws)
    settled = parameters(aws, key, say)
    stack, template = aws.settings.autoscaler_stack, Stack.AUTOSCALER.template
    deploy_stack(aws, stack, template, settled | {"LiveVersion": _number(live)}, say)
    function = aws.autoscaler["FunctionName"]
    published = _publish(aws, function)
    if live is None or published.number != live.number:
        say(f"dry run of {published}")
        _prove_or_withdraw(aws, function, published, live)
        deploy_stack(aws, stack, template, settled | {"LiveVersion": str(published.number)}, say)
    say(f"{published} of the autoscaler ticks")
    _notify_on_upload(aws, aws.foundation["BucketName"], aws.autoscaler["LiveArn"])
    say("uploads start it at once; its rule runs every minute")
    _prune(aws, function, published, key, say)


def rollback(aws: Connection, wanted: str, say: Say) -> None:
    """Make an earlier version live again: `wanted`, or the one before the live one. Raises OpsError."""
    function = aws.autoscaler["FunctionName"]
    live = live_version(aws)
    if live is None:
        raise OpsError("no version of the autoscaler is live: run `make deploy-lambda`")
    known = {version.number: version for version in versions(aws, function)}
    target = choose(known, live.number, wanted)
    if target == live.number:
        say(f"{live} of the autoscaler ticks already")
        return
    say(f"dry run of {known[target]}")
    try:
        dry_run(aws, function, target)
    except DryRunFailed as error:
        raise OpsError(f"{known[target]} fails ({error}); {live} goes on ticking") from error
    change_parameters(aws, aws.settings.autoscaler_stack, {"LiveVersion": str(target)}, say)
    say(f"{known[target]} of the autoscaler ticks in the place of {live}; `make deploy-lambda` undoes that")


def choose(known: Iterable[int], live: int, wanted: str) -> int:
    """The version to roll back to: `wanted`, or without one the newest before the live one. Raises OpsError."""
    there = sorted(known)
    shown = ", ".join(map(str, there))
    if wanted:
        if not wanted.isascii() or not wanted.isdigit() or int(wanted) not in there:
            raise OpsError(f"there is no version {wanted} of the autoscaler; there are {shown}")
        return int(wanted)
    earlier = [number for number in there if number < live]
    if not earlier:
        raise OpsError(f"there is no version before {live}; there are {shown}")
    return earlier[-1]


def superfluous(known: Iterable[int], live: int, kept: int = KEPT) -> list[int]:
    """The versions to delete: all but the `kept` newest, the live one and the one before it."""
    there = sorted(known)
    before = [number for number in there if number < live]
    needed = {*there[-kept:], live, *before[-1:]}
    return [number for number in there if number not in needed]


def live_version(aws: Connection) -> Version | None:
    """The live version; None when there is none, or nothing is deployed."""
    try:
        function = aws.autoscaler["FunctionName"]
        alias = aws.functions.get_alias(FunctionName=function, Name=ALIAS)
    except OpsError:
        return None
    except aws.functions.exceptions.ResourceNotFoundException:
        return None
    number = alias["FunctionVersion"]
    found = aws.functions.get_function_configuration(FunctionName=function, Qualifier=number)
    return Version(int(number), found.get("Description", ""))


def versions(aws: Connection, function: str) -> list[Version]:
    """All published versions, oldest first. Each has passed a dry run."""
    pages = aws.functions.get_paginator("list_versions_by_function").paginate(FunctionName=function)
    found = [v for page in pages for v in page["Versions"] if v["Version"] != _UNCHANGING]
    return sorted((Version(int(v["Version"]), v.get("Description", "")) for v in found), key=lambda v: v.number)


def dry_run(aws: Connection, function: str, version: int) -> None:
    """Invoke exactly this version: it observes and decides, and does not act. Raises DryRunFailed."""
    waiter = aws.functions.get_waiter("published_version_active")
    waiter.wait(FunctionName=function, Qualifier=str(version), WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    payload, failed = _invoke(aws, function, version)
    try:
        answer = json.loads(payload)
    except ValueError:
        answer = None
    if failed and isinstance(answer, dict):
        said = f"{answer.get('errorType', failed)}: {answer.get('errorMessage', 'it gave no message')}"
        raise DryRunFailed(" ".join(said.split())[:300])
    if not is_tick(answer):
        raise DryRunFailed(f"its answer is no tick: {payload[:200].decode(errors='replace')}")


def is_tick(answer: object) -> bool:
    """Whether the answer of a dry run holds a decision and its reason, and says that nothing was done."""
    if not isinstance(answer, dict):
        return False
    words = (answer.get("action"), answer.get("reason"))
    return answer.get("outcome") == "dry-run" and all(isinstance(word, str) and word for word in words)


def _invoke(aws: Connection, function: str, version: int) -> tuple[bytes, str]:
    """The answer's payload, and the kind of error; an empty string without one."""

    def answered() -> tuple[bytes, str] | None:
        try:
            answer = aws.functions.invoke(
                FunctionName=function, Qualifier=str(version), Payload=json.dumps({"dryRun": True})
            )
        except aws.functions.exceptions.TooManyRequestsException:
            return None
        return answer["Payload"].read(), answer.get("FunctionError", "")

    try:
        return wait_for(answered, _BUSY_SECONDS)
    except TooLong:
        raise DryRunFailed(f"it was busy for {_BUSY_SECONDS:.0f} s") from None


def parameters(aws: Connection, code_key: str, say: Say) -> dict[str, str]:
    """The stack's parameters, all but the live version."""
    foundation, settings = aws.foundation, aws.settings
    if settings.monthly_budget_usd and settings.cloud is Cloud.LOCAL:
        say("the local cloud knows no budgets: MONTHLY_BUDGET_USD is left out")
        settings = settings.model_copy(update={"monthly_budget_usd": 0})
    return {
        **settings.parameters(Stack.AUTOSCALER),
        **fleet.autoscaler_parameters(aws),
        **{name: foundation[name] for name in _SHARED_OUTPUTS},
        "HourlyPriceUsd": as_text(hourly_price(settings.instance_type)),
        "CodeBucket": foundation["BucketName"],
        "CodeKey": code_key,
    }


def _upload_code(aws: Connection) -> str:
    """Upload the checkout's code to the bucket; returns its key."""
    archive = pack()
    key = key_of(archive)
    aws.s3.put_object(Bucket=aws.foundation["BucketName"], Key=key, Body=archive)
    return key


def _number(version: Version | None) -> str:
    return str(version.number) if version else ""


def _publish(aws: Connection, function: str) -> Version:
    """Publish a version. Lambda returns the existing one if neither code nor configuration has changed."""
    found = aws.functions.publish_version(FunctionName=function, Description=git.revision())
    return Version(int(found["Version"]), found.get("Description", ""))


def _prove_or_withdraw(aws: Connection, function: str, version: Version, live: Version | None) -> None:
    """Run the version dry and delete it if that fails: every version that exists has passed."""
    try:
        dry_run(aws, function, version.number)
    except DryRunFailed as error:
        aws.functions.delete_function(FunctionName=function, Qualifier=str(version.number))
        stays = f"{live} goes on ticking" if live else "nothing ticks yet"
        raise OpsError(f"the new autoscaler fails ({error}); {stays}") from error


def _prune(aws: Connection, function: str, live: Version, key: str, say: Say) -> None:
    for number in superfluous((version.number for version in versions(aws, function)), live.number):
        aws.functions.delete_function(FunctionName=function, Qualifier=str(number))
        say(f"version {number} of the autoscaler is deleted, {KEPT} newer ones stay")
    bucket = aws.foundation["BucketName"]
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=AUTOSCALER_PREFIX)
    archives = sorted((o for page in pages for o in page.get("Contents", [])), key=lambda o: o["LastModified"])
    for archive in archives[:-KEPT]:
        if archive["Key"] != key:
            aws.s3.delete_object(Bucket=bucket, Key=archive["Key"])


def _notify_on_upload(aws: Connection, bucket: str, function_arn: str) -> None:
    """Add our notification to the bucket's own. The bucket may be the backend's."""
    ours: LambdaFunctionConfigurationTypeDef = {
        "Id": _NOTIFICATION_ID,
        "LambdaFunctionArn": function_arn,
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": AUDIO_PREFIX}]}},
    }
    _replace_notification(aws, bucket, [ours])


def end_notification(aws: Connection, bucket: str) -> None:
    """Remove our notification from the bucket and leave the others."""
    _replace_notification(aws, bucket, [])


def _replace_notification(aws: Connection, bucket: str, ours: list[LambdaFunctionConfigurationTypeDef]) -> None:
    present = aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    others = [c for c in present.get("LambdaFunctionConfigurations", []) if c.get("Id") != _NOTIFICATION_ID]
    wanted: NotificationConfigurationTypeDef = {
        "LambdaFunctionConfigurations": [*others, *ours],
        "QueueConfigurations": present.get("QueueConfigurations", []),
        "TopicConfigurations": present.get("TopicConfigurations", []),
    }
    if "EventBridgeConfiguration" in present:
        wanted["EventBridgeConfiguration"] = present["EventBridgeConfiguration"]
    aws.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
