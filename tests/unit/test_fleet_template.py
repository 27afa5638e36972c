"""What the fleet's template and the foundation's must say alike."""

from __future__ import annotations

from typing import Any

from contracts.names import DRAIN_HOOK, DRAIN_HOOK_SECONDS
from ops.settings import Stack
from tests.templates import template


def launch_data(resource: dict[str, Any]) -> dict[str, Any]:
    return dict(resource["Properties"]["LaunchTemplateData"])


def test_an_arm_machine_differs_from_the_others_in_nothing_but_image_and_type() -> None:
    ours = launch_data(template(Stack.FOUNDATION)["Resources"]["LaunchTemplate"])
    arm = launch_data(template(Stack.FLEET)["Resources"]["ArmLaunchTemplate"])
    assert set(ours) == set(arm)
    for name in ("EbsOptimized", "MetadataOptions", "TagSpecifications"):
        assert ours[name] == arm[name], name
    parameters = template(Stack.FOUNDATION)["Parameters"]
    (disk,), (arm_disk,) = ours["BlockDeviceMappings"], arm["BlockDeviceMappings"]
    assert arm_disk["DeviceName"] == parameters["RootDeviceName"]["Default"]
    assert arm_disk["Ebs"] == disk["Ebs"] | {"VolumeSize": parameters["VolumeGiB"]["Default"]}


def test_worker_and_template_agree_on_the_hook() -> None:
    fleet = template(Stack.FLEET)
    hook = fleet["Resources"]["DrainHook"]["Properties"]
    assert hook["LifecycleHookName"] == DRAIN_HOOK
    assert fleet["Parameters"]["DrainSeconds"]["Default"] == DRAIN_HOOK_SECONDS


def test_no_deploy_sets_the_desired_capacity_back() -> None:
    group = template(Stack.FLEET)["Resources"]["Group"]["Properties"]
    assert "DesiredCapacity" not in group
    assert group["NewInstancesProtectedFromScaleIn"] is True
