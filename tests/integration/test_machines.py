"""SSM Run Command reaches the machine behind an instance, and a reboot is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from ops.aws.connection import Connection
from ops.capacity import appliance
from testbed.system import kept_up
from testbed.waiting import wait_until


@pytest.fixture
def running(deployed: Connection) -> Iterator[str]:
    with kept_up(deployed) as instance_id:
        yield instance_id


def execute(aws: Connection, instance_id: str, *commands: str) -> tuple[str, int, str, str]:
    sent = aws.ssm.send_command(
        InstanceIds=[instance_id], DocumentName="AWS-RunShellScript", Parameters={"commands": list(commands)}
    )

    def ended() -> tuple[str, int, str, str] | None:
        now = aws.ssm.get_command_invocation(CommandId=sent["Command"]["CommandId"], InstanceId=instance_id)
        if now["Status"] in {"Pending", "InProgress"}:
            return None
        return now["Status"], now["ResponseCode"], now["StandardOutputContent"], now["StandardErrorContent"]

    return wait_until("the command has ended", ended, 60)


def test_a_command_runs_on_the_machine_and_its_exit_code_and_both_outputs_come_back(
    deployed: Connection, running: str
) -> None:
    assert execute(deployed, running, "pwd", "echo trouble >&2", "exit 7") == (
        "Failed",
        7,
        f"{deployed.settings.local_root}/instances/{running}\n",
        "trouble\n",
    )


def test_a_command_has_the_instances_role_and_not_the_operators_credentials(
    deployed: Connection, running: str
) -> None:
    script = "python3.11 -c \"import boto3; print(boto3.client('sts', 'us-east-1').get_caller_identity()['Arn'])\""
    status, _, stdout, stderr = execute(deployed, running, script)
    assert status == "Success", stderr
    assert "assumed-role" in stdout
    assert running in stdout


def test_the_service_is_stopped_and_started_by_systemctl(deployed: Connection, running: str) -> None:
    unit = "whisper-processor"
    assert execute(deployed, running, f"systemctl is-active {unit}")[1:3] == (0, "active\n")
    assert execute(deployed, running, f"systemctl stop {unit} && systemctl is-active {unit}")[1:3] == (
        3,
        "inactive\n",
    )
    assert "Active: inactive" in execute(deployed, running, f"systemctl status {unit}")[2]
    assert execute(deployed, running, f"systemctl start {unit}; systemctl is-active {unit}.service")[1] == 0
    assert "whisper-processor only" in execute(deployed, running, "systemctl stop sshd")[3]


def test_a_reboot_starts_the_worker_anew(deployed: Connection, running: str) -> None:
    before = execute(deployed, running, "systemctl status whisper-processor")[2]
    deployed.ec2.reboot_instances(InstanceIds=[running])

    def another() -> bool:
        try:
            after = execute(deployed, running, "systemctl status whisper-processor")[2]
        except ClientError:
            return False  # between two boots
        return "Main PID" in after and after != before

    wait_until(f"another process than {before}", another, 60)


def test_a_stopped_instance_takes_no_command(deployed: Connection) -> None:
    appliance.wait_for(deployed, "stopped", 60)
    with pytest.raises(ClientError, match="InvalidInstanceId"):
        execute(deployed, deployed.instance()["InstanceId"], "true")
