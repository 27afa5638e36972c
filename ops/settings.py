"""The operator's settings, from the environment and `.env`.

A field says all there is to say of its setting: its default, its limits, the comment it has in `.env.example`
(`ops.env_example` writes that file) and the template parameters it feeds (`OpsSettings.parameters`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.capacity import CapacityMode

REPOSITORY = Path(__file__).resolve().parent.parent


class Cloud(StrEnum):
    LOCAL = "local"
    AWS = "aws"


class Stack(StrEnum):
    """A CloudFormation stack, by the name of its template."""

    FOUNDATION = "foundation"
    FLEET = "fleet"
    AUTOSCALER = "autoscaler"

    @property
    def template(self) -> Path:
        return REPOSITORY / "infra" / f"{self}.yaml"


@dataclass(frozen=True)
class Section:
    """On the setting that opens a section of `.env.example`."""

    title: str


@dataclass(frozen=True)
class Parameter:
    """On a setting that feeds the parameter `name` of each of these stacks."""

    name: str
    stacks: tuple[Stack, ...]

    def __init__(self, name: str, *stacks: Stack) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "stacks", stacks)


def as_text(value: object) -> str:
    """A setting as `.env` and a template parameter spell it."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)


class OpsSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=REPOSITORY / ".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    cloud: Annotated[Cloud, Section("Which cloud the verbs speak to")] = Field(
        Cloud.LOCAL, description="local: the cloud on this machine (make up); aws: the real one"
    )
    aws_region: str = Field("us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$", description="where everything is")
    aws_profile: str | None = Field(None, description="aws only; empty: the usual chain of credentials")

    stack_prefix: Annotated[str, Section("What `make deploy` creates or adopts")] = Field(
        "classreflect-whisper", pattern=r"^[a-z][a-z0-9-]{2,40}$", description="the stacks' names begin with it"
    )
    instance_type: Annotated[str, Parameter("InstanceType", Stack.FOUNDATION)] = Field(
        "c7i.large", description="must have a price in ops/prices.toml"
    )
    image_id: Annotated[str, Parameter("ImageId", Stack.FOUNDATION)] = Field(
        "", description="the appliance's AMI; empty: the one `make ami` (or `make image`) baked last"
    )
    existing_bucket_name: Annotated[str, Parameter("ExistingBucketName", Stack.FOUNDATION)] = Field(
        "", description="adopt the backend's bucket instead of creating one"
    )
    existing_queue_arn: Annotated[str, Parameter("ExistingQueueArn", Stack.FOUNDATION)] = Field(
        "", description="adopt the backend's queue: set its ARN and its URL"
    )
    existing_queue_url: Annotated[str, Parameter("ExistingQueueUrl", Stack.FOUNDATION)] = Field(
        "", description="the URL of the same queue"
    )
    vpc_id: Annotated[str, Parameter("VpcId", Stack.FOUNDATION)] = Field("", description="empty: the default VPC")
    subnet_id: Annotated[str, Parameter("SubnetId", Stack.FOUNDATION)] = Field(
        "", description="in that VPC; empty: EC2 chooses one of the default VPC's"
    )
    database_ca: Path = Field(
        REPOSITORY / "ansible" / "roles" / "aws" / "files" / "rds-authorities.crt",
        description="aws only, for the verbs here; default: RDS's authorities, as in the image",
    )
    alarm_email: Annotated[str, Parameter("AlarmEmail", Stack.FOUNDATION)] = Field(
        "", description="where alarms go"
    )
    monthly_budget_usd: Annotated[float, Parameter("MonthlyBudgetUsd", Stack.AUTOSCALER)] = Field(
        0, ge=0, description="warn when the account's charges near it; 0: no budget (aws only)"
    )
    audio_retention_days: Annotated[int, Parameter("AudioRetentionDays", Stack.FOUNDATION)] = Field(
        0, ge=0, description="delete lessons' audio from the created bucket after so many days; 0: keep it"
    )
    autoscaler_dry_run: Annotated[bool, Parameter("DryRun", Stack.AUTOSCALER)] = Field(
        False, description="true: the autoscaler decides and logs, and does nothing"
    )
    releases_kept: int = Field(
        5, ge=1, description="the newest releases that stay in the bucket, beside those in use"
    )

    capacity_mode: Annotated[
        CapacityMode,
        Section('One machine or many: then `make deploy-infra deploy-lambda` (docs/operations.md, "Growing")'),
        Parameter("CapacityMode", Stack.FOUNDATION, Stack.AUTOSCALER),
    ] = Field(
        CapacityMode.INSTANCE,
        description="instance: one appliance, started and stopped; fleet: an Auto Scaling group",
    )
    fleet_maximum: Annotated[int, Parameter("Maximum", Stack.FLEET)] = Field(
        4, ge=1, le=1000, description="the most machines at a time, so the most it can cost an hour"
    )
    fleet_instance_types: Annotated[str, Parameter("InstanceTypes", Stack.FLEET)] = Field(
        "c7i.large,c7a.large,c6i.large,c6a.large,m7i.large,m6i.large",
        description="x86; with more types, fewer interruptions",
    )
    fleet_arm_image_id: Annotated[str, Parameter("ArmImageId", Stack.FLEET)] = Field(
        "", description="the appliance's AMI for arm64: then c7g.large, c6g.large and m7g.large join"
    )
    fleet_subnet_ids: Annotated[str, Parameter("SubnetIds", Stack.FLEET)] = Field(
        "", description="separated by commas; empty: SUBNET_ID, else the default VPC's, one a zone"
    )
    fleet_on_demand_base: Annotated[int, Parameter("OnDemandBase", Stack.FLEET)] = Field(
        0, ge=0, description="so many machines are never Spot"
    )
    fleet_on_demand_percent: Annotated[int, Parameter("OnDemandPercent", Stack.FLEET)] = Field(
        0, ge=0, le=100, description="of those above; 100: no Spot at all"
    )
    fleet_target_wait_minutes: Annotated[float, Parameter("TargetWaitMinutes", Stack.AUTOSCALER)] = Field(
        15, ge=1, description="the backlog is to be done within this: the autoscaler sizes the fleet for it"
    )
    fleet_boot_minutes: Annotated[float, Parameter("BootMinutes", Stack.AUTOSCALER)] = Field(
        2, ge=0, description="what of it a machine needs to boot and load its model"
    )
    fleet_audio_minutes_per_minute: Annotated[float, Parameter("AudioMinutesPerMinute", Stack.AUTOSCALER)] = Field(
        30,
        ge=0.1,
        description="one worker's speed: audio over processing, from `make dashboard` or `make bench`",
    )
    fleet_mean_lesson_minutes: Annotated[float, Parameter("MeanLessonMinutes", Stack.AUTOSCALER)] = Field(
        45, ge=0.1, description="a lesson's length while none was done in the last day"
    )
    fleet_scale_out_cooldown_minutes: Annotated[float, Parameter("ScaleOutCooldownMinutes", Stack.AUTOSCALER)] = (
        Field(1, ge=0, description="how long new machines have to come up before more are added")
    )

    models_dir: Annotated[Path, Section("Models")] = Field(
        REPOSITORY / ".local" / "models", description="default: .local/models in the checkout"
    )
    models_from: Path | None = Field(
        None, description="a directory to take model files from before asking the network"
    )

    bench_audio: Annotated[Path | None, Section("Measuring (make bench)")] = Field(
        None, description="a folder of recordings, each text beside it; empty: ../shared/eval, else the sample"
    )

    local_port: Annotated[int, Section("The local cloud")] = Field(
        4566, gt=0, lt=65536, description="emulator, on 127.0.0.1"
    )
    local_db_port: int = Field(33066, gt=0, lt=65536, description="MariaDB, on 127.0.0.1")
    local_root: Path = Field(
        REPOSITORY / ".local" / "cloud", description="its data; default: .local/cloud in the checkout"
    )
    local_auth: bool = Field(
        False, description="true: TLS, and every call judged by the caller's IAM policies, as on AWS"
    )
    local_machine: str = Field(
        "process",
        pattern="^(process|nspawn)$",
        description="behind an instance: process (the checkout's processor), or nspawn (a booted image)",
    )

    database_tls: bool = True
    """The appliance's setting, for the verbs' own connections to the database."""

    def parameters(self, stack: Stack) -> dict[str, str]:
        """The stack's template parameters that settings feed. Those of a fleet stay out while there is none."""
        fleet = self.capacity_mode is CapacityMode.FLEET
        return {
            note.name: as_text(getattr(self, name))
            for name, field in type(self).model_fields.items()
            for note in field.metadata
            if isinstance(note, Parameter) and stack in note.stacks and (fleet or not name.startswith("fleet_"))
        }

    @property
    def foundation_stack(self) -> str:
        return f"{self.stack_prefix}-foundation"

    @property
    def autoscaler_stack(self) -> str:
        return f"{self.stack_prefix}-autoscaler"

    @property
    def fleet_stack(self) -> str:
        return f"{self.stack_prefix}-fleet"

    @property
    def ca(self) -> Path | None:
        """The certificates the database's own must be signed by; None without TLS."""
        if self.cloud is Cloud.LOCAL:
            return self.local_root / "certificates" / "ca.pem"
        return self.database_ca if self.database_tls else None

    @property
    def endpoint(self) -> str | None:
        """Where AWS is: None for the real one."""
        if self.cloud is Cloud.AWS:
            return None
        return f"{'https' if self.local_auth else 'http'}://127.0.0.1:{self.local_port}"

    @property
    def certificate(self) -> Path | None:
        """What signs the local cloud's TLS; None: the usual authorities."""
        strict = self.cloud is Cloud.LOCAL and self.local_auth
        return self.local_root / "tls" / "ministack-tls" / "server.crt" if strict else None

    @property
    def session_program(self) -> Path | None:
        """The local cloud's program that opens a shell on the instance it is given; None: SSM Session Manager."""
        return self.local_root / "session" if self.cloud is Cloud.LOCAL else None
