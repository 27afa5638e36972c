"""The appliance's settings: environment first, then `.env`, then Parameter Store, then the defaults here.

A field's description is its comment in `.env.example`.
"""

from __future__ import annotations

import socket
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AliasChoices, Field
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from contracts.jobs import EngineName
from contracts.names import DATABASE_SECRET, PARAMETER_PREFIX
from whisper_processor.messages import ModelName

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient


class Origin(StrEnum):
    """Who makes a setting that the operator does not make."""

    STACK = "stack"
    """The foundation stack writes it to Parameter Store."""
    MACHINE = "machine"
    """Only the machine the worker runs on can know it."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    aws_region: Annotated[str, Origin.MACHINE] = Field(
        "us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION")
    )

    queue_url: Annotated[str, Origin.STACK]
    dlq_url: Annotated[str, Origin.STACK]
    bucket: Annotated[str, Origin.STACK]
    database_secret: Annotated[str, Origin.STACK] = DATABASE_SECRET
    database_tls: bool = Field(
        True, description="the certificates are the image's: RDS's on AWS, the local cloud's own here"
    )
    database_ca: Annotated[Path, Origin.MACHINE] = Path("/opt/whisper/certificates/rds-ca.pem")

    whisper_engine: EngineName | Literal["auto"] = Field(
        "auto",
        description="auto: openvino or faster-whisper, by what the CPU has; or openai-whisper (the reference)",
    )
    whisper_model: ModelName = Field("base", description="for a lesson that names none")
    whisper_models_dir: Annotated[Path, Origin.MACHINE] = Path("/opt/whisper/models")
    fetched_models_dir: Annotated[Path | None, Origin.MACHINE] = None
    """Where models from the bucket go: the worker cannot write to the appliance's baked ones. None for
    `whisper_models_dir`."""
    whisper_beam_size: int = Field(
        1, ge=1, le=10, description="1 was measured as accurate as 5 in batches, and faster"
    )
    whisper_batch_size: int = Field(4, ge=1, le=32, description="30 s windows decoded together; more costs memory")
    whisper_threads: int = Field(0, ge=0, description="0: as many as cores, by affinity and control group")

    poll_wait_seconds: int = Field(20, ge=0, le=20, description="long poll")
    empty_polls: int = Field(3, ge=1, description="so many empty polls in a row, and the instance stops itself")
    visibility_timeout_seconds: int = Field(
        120, ge=5, le=43_200, description="a lease; extended every third of it while a job runs"
    )
    max_attempts: int = Field(5, ge=1, description="then the job fails, to the dead-letter queue")
    backoff_base_seconds: float = Field(
        10.0, gt=0, description="a transient error's first delay, doubled each time, with jitter"
    )
    backoff_max_seconds: float = Field(600.0, gt=0, description="and its longest delay")
    progress_seconds: float = Field(3.0, gt=0, description="how often progress is written to audio_jobs")
    heartbeat_seconds: float = Field(60.0, gt=0, description="how often the instance's heartbeat tag is written")
    drain_seconds: float = Field(
        90.0,
        ge=0,
        description="on SIGTERM a job that ends within this time is finished, another given back",
    )
    deadline_factor: float = Field(
        2.0, gt=0, description="a transcription may take so many times its audio's length,"
    )
    deadline_minimum_seconds: float = Field(300.0, gt=0, description="and at least this")
    max_file_bytes: int = Field(2 * 1024**3, gt=0, description="larger recordings are refused,")
    max_audio_seconds: float = Field(6 * 3600.0, gt=0, description="and longer ones")

    stop_when_idle: bool = Field(True, description="false: the instance stays up when the queue is empty")
    instance_id: Annotated[str, Origin.MACHINE] = ""
    work_dir: Annotated[Path | None, Origin.MACHINE] = None
    worker_name: Annotated[str, Origin.MACHINE] = Field(default_factory=socket.gethostname)


APPLIANCE_SETTINGS = tuple(
    name.upper()
    for name, field in Settings.model_fields.items()
    if not any(isinstance(mark, Origin) for mark in field.metadata)
)
"""The operator's settings of the appliance, by their names in `.env` and in Parameter Store."""


def load_settings(parameters: SSMClient | None = None, **overrides: Any) -> Settings:
    """Read the settings once.

    Parameter Store only fills in what the environment and `.env` leave open, so that an operator's export on the
    machine overrides what was deployed. Raises pydantic.ValidationError, which names each bad setting.
    """
    stored: dict[str, str] = {}
    if parameters is not None:
        for page in parameters.get_paginator("get_parameters_by_path").paginate(Path=PARAMETER_PREFIX):
            stored |= {p["Name"].rsplit("/", 1)[-1].lower(): p["Value"] for p in page["Parameters"]}

    class WithStored(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            from_store = InitSettingsSource(
                settings_cls, {n: v for n, v in stored.items() if n in cls.model_fields}
            )
            return init_settings, env_settings, dotenv_settings, from_store

    return WithStored(**overrides)
