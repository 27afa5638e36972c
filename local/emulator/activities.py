"""A group's activities: what it did, when and why, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from ministack.core.responses import new_uuid
from ministack.services import autoscaling

Group = dict[str, Any]
_KEPT = 100


def record(group: Group, description: str, cause: str, status: str = "Successful", message: str = "") -> None:
    now = datetime.now(UTC).isoformat()
    activity = {
        "ActivityId": new_uuid(),
        "AutoScalingGroupName": group["AutoScalingGroupName"],
        "Description": description,
        "Cause": f"At {now} {cause}",
        "StartTime": now,
        "EndTime": now,
        "StatusCode": status,
        "StatusMessage": message,
        "Progress": 100,
    }
    activities = group.setdefault("Activities", [])
    activities.insert(0, activity)
    del activities[_KEPT:]


def describe_activities(params: dict[str, Any]) -> Any:
    group = autoscaling._asgs.get(autoscaling._p(params, "AutoScalingGroupName"))
    most = int(autoscaling._p(params, "MaxRecords") or _KEPT)
    members = "".join(
        "<member>" + "".join(f"<{k}>{escape(str(v))}</{k}>" for k, v in activity.items() if v != "") + "</member>"
        for activity in (group or {}).get("Activities", [])[:most]
    )
    result = (
        f"<DescribeScalingActivitiesResult><Activities>{members}</Activities></DescribeScalingActivitiesResult>"
    )
    return autoscaling._xml(200, "DescribeScalingActivitiesResponse", result)
