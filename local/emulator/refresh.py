"""Instance refresh: the outdated instances of a group are replaced one after the other."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import autoscaling

from local.emulator.groups import Group, Member, choice, leave, version


def outdated_members(group: Group) -> list[Member]:
    """Instances launched from another version of the template than the group's. SkipMatching is always on here."""
    template, _ = choice(group)
    wanted = version(template)
    return [member for member in group["Instances"] if member["LaunchTemplate"].get("Version") != wanted]


def go_on(group: Group) -> None:
    """Replace one outdated instance after another, each when the replacement of the one before is in service."""
    refresh = next(iter(group.get("InstanceRefreshes", [])), None)
    if refresh is None or refresh["Status"] != "InProgress":
        return
    outdated = outdated_members(group)
    done = refresh["_all"] - len(outdated)
    refresh |= {
        "InstancesToUpdate": len(outdated),
        "PercentageComplete": 100 * done // max(1, refresh["_all"]),
    }
    if not outdated:
        refresh |= {"Status": "Successful", "PercentageComplete": 100, "EndTime": datetime.now(UTC).isoformat()}
    elif all(member["LifecycleState"] == "InService" for member in group["Instances"]):
        leave(group, outdated[0], "an instance refresh")


def start(params: dict[str, Any]) -> Any:
    """StartInstanceRefresh."""
    group = autoscaling._asgs.get(autoscaling._p(params, "AutoScalingGroupName"))
    if group is None:
        return autoscaling._error("ValidationError", "AutoScalingGroup name not found - no such group")
    refreshes = group.setdefault("InstanceRefreshes", [])
    if refreshes and refreshes[0]["Status"] == "InProgress":
        return autoscaling._error("InstanceRefreshInProgress", "An Instance Refresh is already in progress")
    refresh_id, now = new_uuid(), datetime.now(UTC).isoformat()
    outdated = len(outdated_members(group))
    refreshes.insert(
        0,
        {
            "InstanceRefreshId": refresh_id,
            "AutoScalingGroupName": group["AutoScalingGroupName"],
            "Status": "InProgress",
            "StatusReason": "",
            "StartTime": now,
            "EndTime": now,
            "PercentageComplete": 0,
            "InstancesToUpdate": outdated,
            "_all": outdated,
        },
    )
    result = f"<InstanceRefreshId>{refresh_id}</InstanceRefreshId>"
    return autoscaling._xml(
        200, "StartInstanceRefreshResponse", f"<StartInstanceRefreshResult>{result}</StartInstanceRefreshResult>"
    )
