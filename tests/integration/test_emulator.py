"""Contracts with the emulator: what we lean on, and what `local/emulator.py` adds to it."""

from __future__ import annotations

import base64
import time
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from ops.aws.connection import Connection
from ops.capacity import appliance


def states_until(aws: Connection, state: str) -> list[str]:
    seen: list[str] = []
    appliance.wait_for(aws, state, 60, lambda now: seen.append(now) if seen[-1:] != [now] else None)
    return seen


def test_an_instance_passes_through_pending_and_stopping(deployed: Connection) -> None:
    instance = [deployed.instance()["InstanceId"]]
    appliance.hold(deployed, timedelta(minutes=5), lambda _: None)
    try:
        launched = deployed.instance()["LaunchTime"]
        deployed.ec2.start_instances(InstanceIds=instance)
        assert states_until(deployed, "running") == ["pending", "running"]
        assert deployed.instance()["LaunchTime"] > launched
        deployed.ec2.stop_instances(InstanceIds=instance)
        with pytest.raises(ClientError, match="IncorrectInstanceState"):
            deployed.ec2.start_instances(InstanceIds=instance)
        assert states_until(deployed, "stopped") == ["stopping", "stopped"]
    finally:
        appliance.resume(deployed, lambda _: None)


def test_starting_what_runs_and_stopping_what_stands_is_no_error(deployed: Connection) -> None:
    instance = [deployed.instance()["InstanceId"]]
    appliance.wait_for(deployed, "stopped", 60)
    answer = deployed.ec2.stop_instances(InstanceIds=instance)
    assert answer["StoppingInstances"][0]["InstanceId"] == instance[0]
    assert deployed.instance()["State"]["Name"] == "stopped"


def test_a_launched_instance_takes_type_profile_and_tags_from_the_template(deployed: Connection) -> None:
    instance = deployed.instance()
    assert instance["InstanceType"] == deployed.settings.instance_type
    assert deployed.foundation["InstanceProfileName"] in instance["IamInstanceProfile"]["Arn"]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["classreflect:role"] == "whisper-processor"


def test_a_message_comes_back_when_its_visibility_timeout_lapses(deployed: Connection) -> None:
    queue = deployed.sqs.create_queue(QueueName="lapse")["QueueUrl"]
    deployed.sqs.send_message(QueueUrl=queue, MessageBody="x")
    first = deployed.sqs.receive_message(QueueUrl=queue, VisibilityTimeout=1)["Messages"][0]
    assert "Messages" not in deployed.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=0)
    time.sleep(1.2)
    again = deployed.sqs.receive_message(QueueUrl=queue, AttributeNames=["ApproximateReceiveCount"])["Messages"][0]
    assert again["MessageId"] == first["MessageId"]
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    deployed.sqs.delete_queue(QueueUrl=queue)


def test_an_instance_has_the_user_data_it_was_launched_with(deployed: Connection) -> None:
    launched = deployed.ec2.run_instances(
        MinCount=1, MaxCount=1, ImageId="ami-1", InstanceType="t3.micro", UserData="#!/bin/sh\n"
    )
    instance_id = launched["Instances"][0]["InstanceId"]
    try:
        found = deployed.ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
        assert base64.b64decode(found["UserData"]["Value"]) == b"#!/bin/sh\n"
    finally:
        deployed.ec2.terminate_instances(InstanceIds=[instance_id])
