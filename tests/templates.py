"""The CloudFormation templates, as CloudFormation reads them."""

from __future__ import annotations

from functools import cache
from typing import Any

from cfnlint.decode import decode

from ops.capacity.launch import ALARM_PREFIX
from ops.settings import Stack


@cache
def template(stack: Stack) -> dict[str, Any]:
    found, problems = decode(str(stack.template))
    assert not problems
    return dict(found or {})


def alarm_names(*stacks: Stack) -> list[str]:
    """The names of the stacks' alarms, without what they all begin with."""
    resources = [r for stack in stacks for r in template(stack)["Resources"].values()]
    names = [r["Properties"]["AlarmName"] for r in resources if r["Type"] == "AWS::CloudWatch::Alarm"]
    assert all(name.startswith(ALARM_PREFIX) for name in names), names
    return [name.removeprefix(ALARM_PREFIX) for name in names]
