"""What our policies refer to and ministack does not read from a request, so that it can evaluate them.

These are the condition key `cloudwatch:namespace`, an instance's tags, the instance that a CreateTags names, the
ARN of a path in Parameter Store, and the group that an instance is to leave. Of several instances in one call only
the first is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ministack.core import iam_actions
from ministack.core.responses import get_account_id, get_region
from ministack.services import ec2, tagging

from local.emulator.groups import group_of


def complete() -> None:
    tag_context, resource_arn = iam_actions.request_tag_context, iam_actions.extract_resource_arn

    def context(service: str, action: str, body: bytes, params: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = tag_context(service, action, body, params)
        if action == "cloudwatch:PutMetricData":
            found["cloudwatch:namespace"] = _namespace(body, params)
        return found

    def resource(
        service: str,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        params: dict[str, Any],
        region: str,
        account: str,
    ) -> str:
        known: str = resource_arn(service, method, path, headers, body, params, region, account)
        if known != "*":
            return known
        if service == "ssm" and (parameters := str(_json(body).get("Path", "")).strip("/")):
            return f"arn:aws:ssm:{region}:{account}:parameter/{parameters}"
        if service == "autoscaling" and (found := group_of(_first(params, "InstanceId"))):
            return str(found[0]["AutoScalingGroupARN"])
        if service == "ec2" and (tagged := _first(params, "ResourceId.1")).startswith("i-"):
            return f"arn:aws:ec2:{region}:{account}:instance/{tagged}"
        return known

    tagging._RESOURCE_TAG_COLLECTORS["ec2"] = _instance_tags
    iam_actions.request_tag_context = context
    iam_actions.extract_resource_arn = resource


def _namespace(body: bytes, params: dict[str, Any]) -> str:
    """From the JSON or the query protocol. Empty when there is none, which no policy allows."""
    return str(_json(body).get("Namespace") or _first(params, "Namespace"))


def _instance_tags() -> Iterator[tuple[str, list[dict[str, str]]]]:
    for instance_id in list(ec2._instances):
        arn = f"arn:aws:ec2:{get_region()}:{get_account_id()}:instance/{instance_id}"
        yield arn, ec2._tags.get(instance_id, [])


def _first(params: dict[str, Any], name: str) -> str:
    value = params.get(name, "")
    return str(value[0] if isinstance(value, list) else value)


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
