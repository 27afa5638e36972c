"""The operator's settings, from the environment and `.env`. Each is explained in `.env.example`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.capacity import CapacityMode

REPOSITORY = Path(__file__).resolve().parent.parent


class Cloud(StrEnum):
    LOCAL = "local"
    AWS = "aws"


class OpsSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_file=REPOSITORY / ".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    cloud: Cloud = Cloud.LOCAL
    aws_region: str = Field("us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    aws_profile: str | None = None

    stack_prefix: str = Field("classreflect-whisper", pattern=r"^[a-z][a-z0-9-]{2,40}$")
    image_id: str = ""
    instance_type: str = "c7i.large"
    existing_bucket_name: str = ""
    existing_queue_arn: str = ""
    existing_queue_url: str = ""
    vpc_id: str = ""
    subnet_id: str = ""
    alarm_email: str = ""
    monthly_budget_usd: float = Field(0, ge=0)
    audio_retention_days: int = Field(0, ge=0)
    autoscaler_dry_run: bool = False
    releases_kept: int = Field(5, ge=1)

    capacity_mode: CapacityMode = CapacityMode.INSTANCE
    fleet_maximum: int = Field(4, ge=1, le=1000)
    fleet_instance_types: str = "c7i.large,c7a.large,c6i.large,c6a.large,m7i.large,m6i.large"
    fleet_arm_image_id: str = ""
    fleet_subnet_ids: str = ""
    fleet_on_demand_base: int = Field(0, ge=0)
    fleet_on_demand_percent: int = Field(0, ge=0, le=100)
    fleet_target_wait_minutes: float = Field(15, ge=1)
    fleet_boot_minutes: float = Field(2, ge=0)
    fleet_audio_minutes_per_minute: float = Field(30, ge=0.1)
    fleet_mean_lesson_minutes: float = Field(45, ge=0.1)
    fleet_scale_out_cooldown_minutes: float = Field(1, ge=0)

    models_dir: Path = REPOSITORY / ".local" / "models"
    models_from: Path | None = None

    bench_audio: Path | None = None

    local_port: int = Field(4566, gt=0, lt=65536)
    local_db_port: int = Field(33066, gt=0, lt=65536)
    local_root: Path = REPOSITORY / ".local" / "cloud"
    local_auth: bool = False
    local_machine: str = Field("process", pattern="^(process|nspawn)$")

    database_tls: bool = True
    database_ca: Path = REPOSITORY / "ansible" / "roles" / "aws" / "files" / "rds-authorities.crt"

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
