"""One connection to AWS or to the local cloud; only the endpoint and the credentials differ."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
import pymysql
from botocore.config import Config
from botocore.exceptions import ClientError
from pymysql.cursors import DictCursor

from contracts.capacity import CapacityMode
from contracts.names import DATABASE_SECRET
from contracts.tags import GROUP_TAG, REPLACEMENT_TAG, ROLE_PROCESSOR, ROLE_TAG
from ops.errors import OpsError
from ops.settings import Cloud, OpsSettings

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import ImageTypeDef, InstanceTypeDef
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient


def tags_of(thing: InstanceTypeDef | ImageTypeDef) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", [])}


class Connection:
    """Clients, stack outputs and the database of the configured cloud, each made when first asked for."""

    def __init__(self, settings: OpsSettings) -> None:
        self.settings = settings
        if settings.cloud is Cloud.LOCAL:
            # The emulator accepts any credentials. Fixed ones make sure that no real profile is used.
            os.environ.pop("AWS_PROFILE", None)
            self._session = boto3.session.Session("test", "test", region_name=settings.aws_region)
        else:
            self._session = boto3.session.Session(
                profile_name=settings.aws_profile, region_name=settings.aws_region
            )
        self._options: dict[str, Any] = {
            "endpoint_url": settings.endpoint,
            "config": Config(retries={"mode": "standard", "max_attempts": 4}, connect_timeout=5),
            "verify": str(settings.certificate) if settings.certificate else None,
        }
        self._outputs: dict[str, dict[str, str]] = {}

    @cached_property
    def autoscaling(self) -> AutoScalingClient:
        return self._session.client("autoscaling", **self._options)

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        return self._session.client("cloudwatch", **self._options)

    @cached_property
    def cloudformation(self) -> CloudFormationClient:
        return self._session.client("cloudformation", **self._options)

    @cached_property
    def ec2(self) -> EC2Client:
        return self._session.client("ec2", **self._options)

    @cached_property
    def events(self) -> EventBridgeClient:
        return self._session.client("events", **self._options)

    @cached_property
    def functions(self) -> LambdaClient:
        return self._session.client("lambda", **self._options)

    @cached_property
    def logs(self) -> CloudWatchLogsClient:
        return self._session.client("logs", **self._options)

    @cached_property
    def s3(self) -> S3Client:
        return self._session.client("s3", **self._options)

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        return self._session.client("secretsmanager", **self._options)

    @cached_property
    def sqs(self) -> SQSClient:
        return self._session.client("sqs", **self._options)

    @cached_property
    def ssm(self) -> SSMClient:
        return self._session.client("ssm", **self._options)

    @property
    def is_fleet(self) -> bool:
        return self.settings.capacity_mode is CapacityMode.FLEET

    @property
    def foundation(self) -> dict[str, str]:
        """Outputs of the foundation stack. Raises OpsError when it is not deployed."""
        return self._stack_outputs(self.settings.foundation_stack)

    @property
    def autoscaler(self) -> dict[str, str]:
        return self._stack_outputs(self.settings.autoscaler_stack)

    def _stack_outputs(self, stack: str) -> dict[str, str]:
        outputs = self.stack_outputs(stack)
        if outputs is None:
            raise OpsError(f"stack {stack} is not deployed: run `make deploy`")
        return outputs

    def stack_outputs(self, stack: str) -> dict[str, str] | None:
        """A stack's outputs, read once; None when it is not deployed."""
        if stack not in self._outputs:
            try:
                found = self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
            self._outputs[stack] = {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}
        return self._outputs[stack]

    def forget_outputs(self, stack: str) -> None:
        """Read them again next time: the stack has changed."""
        self._outputs.pop(stack, None)

    def find_instance(self) -> InstanceTypeDef | None:
        """The newest of the machines."""
        return max(self.machines(), key=lambda instance: instance["LaunchTime"], default=None)

    def machines(self) -> list[InstanceTypeDef]:
        """What transcribes: the fleet's, or the appliance and older ones of it; none being replaced."""
        fleet = self.settings.capacity_mode is CapacityMode.FLEET
        return [
            instance
            for instance in self.instances()
            if in_group(instance) is fleet and REPLACEMENT_TAG not in tags_of(instance)
        ]

    def other_machines(self) -> list[InstanceTypeDef]:
        """Those of the other capacity mode."""
        return [instance for instance in self.instances() if in_group(instance) is not self.is_fleet]

    def instances(self) -> list[InstanceTypeDef]:
        """All that carry the processor's tag and are not terminated, the oldest first."""
        pages = self.ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": f"tag:{ROLE_TAG}", "Values": [ROLE_PROCESSOR]}]
        )
        found = [i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"]]
        living = [i for i in found if i["State"]["Name"] not in {"terminated", "shutting-down"}]
        return sorted(living, key=lambda instance: instance["LaunchTime"])

    def instance(self) -> InstanceTypeDef:
        found = self.find_instance()
        if found is None and self.is_fleet:
            raise OpsError("no machine of the fleet is up, as it is without work: run `make start`")
        if found is None:
            raise OpsError("there is no appliance: run `make launch`")
        return found

    def default_vpc(self) -> str:
        for vpc in self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]:
            return vpc["VpcId"]
        raise OpsError("this account has no default VPC: set VPC_ID in .env")

    def database(self) -> pymysql.Connection[DictCursor]:
        """A connection in autocommit mode, with the credentials that the processor uses."""
        secret = json.loads(self.secrets.get_secret_value(SecretId=DATABASE_SECRET)["SecretString"])
        ca = self.settings.ca
        if ca is not None and not ca.is_file():
            raise OpsError(
                f"no such file: {ca}; DATABASE_CA in .env names the certificates the database is signed by"
            )
        return pymysql.connect(
            host=secret["host"],
            port=int(secret.get("port", 3306)),
            user=secret["username"],
            password=secret["password"],
            database=secret["dbname"],
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=10,
            cursorclass=DictCursor,
            ssl_ca=str(ca) if ca else None,
            ssl_verify_identity=ca is not None,
        )


def in_group(instance: InstanceTypeDef) -> bool:
    """Whether an Auto Scaling group launched the instance."""
    return GROUP_TAG in tags_of(instance)


def connect() -> Connection:
    """To the cloud that `.env` names."""
    return Connection(OpsSettings())
