"""The appliance's settings: environment first, then `.env`, then Parameter Store, then the defaults here.

Each is explained in `.env.example`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    aws_region: str = Field("us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))

    queue_url: str
    dlq_url: str
    bucket: str
    database_secret: str = DATABASE_SECRET
    database_tls: bool = True
    database_ca: Path = Path("/opt/whisper/certificates/rds-ca.pem")

    whisper_engine: EngineName | Literal["auto"] = "auto"
    """auto: what this machine's CPU is best served by."""
    whisper_model: ModelName = "base"
    whisper_models_dir: Path = Path("/opt/whisper/models")
    fetched_models_dir: Path | None = None
    """Where models from the bucket go: on the appliance the baked ones are not the worker's to write.
    None for `whisper_models_dir`."""
    whisper_beam_size: int = Field(1, ge=1, le=10)
    whisper_batch_size: int = Field(4, ge=1, le=32)
    whisper_threads: int = Field(0, ge=0)

    poll_wait_seconds: int = Field(20, ge=0, le=20)
    empty_polls: int = Field(3, ge=1)
    visibility_timeout_seconds: int = Field(120, ge=5, le=43_200)
    max_attempts: int = Field(5, ge=1)
    backoff_base_seconds: float = Field(10.0, gt=0)
    backoff_max_seconds: float = Field(600.0, gt=0)
    progress_seconds: float = Field(3.0, gt=0)
    heartbeat_seconds: float = Field(60.0, gt=0)
    drain_seconds: float = Field(90.0, ge=0)
    deadline_factor: float = Field(2.0, gt=0)
    deadline_minimum_seconds: float = Field(300.0, gt=0)
    max_file_bytes: int = Field(2 * 1024**3, gt=0)
    max_audio_seconds: float = Field(6 * 3600.0, gt=0)

    stop_when_idle: bool = True
    instance_id: str = ""
    work_dir: Path | None = None
    worker_name: str = Field(default_factory=socket.gethostname)


def load_settings(parameters: SSMClient | None = None, **overrides: Any) -> Settings:
    """Read the settings once.

    `parameters` is asked only for what environment and `.env` leave open, so that a person's export on the
    machine wins over what was deployed. Raises pydantic.ValidationError naming each bad setting.
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
