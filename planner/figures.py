"""The figures behind a plan: what was measured, what is assumed, and AWS's prices."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cfnlint.decode import cfn_yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from ops.errors import OpsError
from ops.prices import hourly_price, instructions, vcpus
from ops.settings import REPOSITORY
from whisper_processor.engines.choice import Cpu, choose
from whisper_processor.settings import Settings

MEASURED = REPOSITORY / "bench" / "measured.toml"
ASSUMPTIONS = Path(__file__).with_name("assumptions.toml")
AUTO = "auto"
"""The default of WHISPER_ENGINE: the worker picks by its CPU."""
# The price table's words for a processor, as what Linux says of it.
_CPUS = {
    "avx512-vnni": Cpu("x86_64", frozenset({"avx512_vnni"})),
    "avx512-bf16": Cpu("x86_64", frozenset({"avx512_vnni", "avx512_bf16"})),
    "amx": Cpu("x86_64", frozenset({"avx512_vnni", "avx512_bf16", "amx_bf16"})),
    "arm64": Cpu("aarch64", frozenset()),
}
_OTHER_CPU = Cpu("x86_64", frozenset())
_FOUNDATION = REPOSITORY / "infra" / "foundation.yaml"


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


_F = TypeVar("_F", bound=_Figures)


class Engine(_Figures):
    """Measured. A lesson takes `overhead_seconds` + `real_time_factor` x its audio's seconds."""

    real_time_factor: float = Field(gt=0)
    overhead_seconds: float = Field(ge=0)
    model_load_seconds: float = Field(ge=0)
    """Once after each start of the worker, with its first lesson."""


class Appliance(_Figures):
    start_to_first_poll_seconds: float = Field(ge=0)


class Ec2(_Figures):
    start_seconds: float = Field(ge=0)
    launch_seconds: float = Field(ge=0)
    pending_seconds: float = Field(ge=0)
    group_seconds: float = Field(ge=0)
    stop_seconds: float = Field(ge=0)
    boot_spread: float = Field(ge=0, lt=1)


class Spot(_Figures):
    price_share: float = Field(gt=0, le=1)
    interruptions_per_hour: float = Field(ge=0)
    interruptions_per_hour_several: float = Field(ge=0)
    notice_seconds: float = Field(ge=0)


class Month(_Figures):
    days: float = Field(gt=0)
    school_days: float = Field(gt=0)


@dataclass(frozen=True)
class MachineType:
    vcpus: int
    speed: float
    """As a multiple of the measured machine's."""


class _Measured(_Figures):
    engines: dict[str, Engine]
    appliance: Appliance


class _Assumed(_Figures):
    ec2: Ec2
    spot: Spot
    month: Month
    speed: dict[str, PositiveFloat]


@dataclass(frozen=True)
class Polling:
    """The worker's settings that decide when it stops and what it gives back."""

    wait_seconds: float
    empty_polls: int
    drain_seconds: float


@dataclass(frozen=True)
class Figures:
    engines: dict[str, Engine]
    appliance: Appliance
    ec2: Ec2
    spot: Spot
    month: Month
    speed: dict[str, float]
    """Of instance types, as a multiple of the measured machine's."""
    polling: Polling
    disk_gib: int

    def engine(self, name: str, instance_type: str) -> Engine:
        """The engine's figures. AUTO is what the worker picks on that type. Raises OpsError without figures."""
        if name == AUTO:
            cpu = _CPUS.get(instructions(instance_type), _OTHER_CPU)
            name = choose(cpu, openvino=True).engine
        if name not in self.engines:
            raise OpsError(f"{MEASURED.name} has no figures of the engine {name}: run `make bench`")
        return self.engines[name]

    def machine_type(self, name: str) -> MachineType:
        hourly_price(name)
        if name not in self.speed:
            raise OpsError(
                f"planner/{ASSUMPTIONS.name} says nothing of {name}; it has {', '.join(sorted(self.speed))}"
            )
        return MachineType(vcpus(name), self.speed[name])

    def known(self, types: Iterable[str]) -> tuple[str, ...]:
        """Those that have both a price and an assumed speed."""
        found = []
        for name in types:
            with suppress(OpsError):
                self.machine_type(name)
                found.append(name)
        return tuple(dict.fromkeys(found))

    def boot_seconds(self, *, new: bool) -> float:
        """From asking for a machine to its worker's first poll, on average."""
        ours = self.ec2.launch_seconds + self.ec2.group_seconds if new else self.ec2.start_seconds
        return ours + self.appliance.start_to_first_poll_seconds


def load(measured: Path = MEASURED, assumptions: Path = ASSUMPTIONS) -> Figures:
    """Raises OpsError naming the file and the figure that is wrong."""
    found = _read(measured, _Measured)
    assumed = _read(assumptions, _Assumed)
    settings = Settings.model_fields
    return Figures(
        engines=found.engines,
        appliance=found.appliance,
        ec2=assumed.ec2,
        spot=assumed.spot,
        month=assumed.month,
        speed=assumed.speed,
        polling=Polling(
            wait_seconds=settings["poll_wait_seconds"].default,
            empty_polls=settings["empty_polls"].default,
            drain_seconds=settings["drain_seconds"].default,
        ),
        disk_gib=_disk_gib(),
    )


def _read(path: Path, model: type[_F]) -> _F:
    try:
        loaded: dict[str, Any] = tomllib.loads(path.read_text())
        return model.model_validate(loaded)
    except ValidationError as error:
        first = error.errors()[0]
        raise OpsError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise OpsError(f"{path.name} cannot be read: {error}") from error


def _disk_gib() -> int:
    """The root volume's default size, from the template."""
    try:
        return int(cfn_yaml.load(str(_FOUNDATION))["Parameters"]["VolumeGiB"]["Default"])
    except KeyError as error:
        raise OpsError(f"{_FOUNDATION.name} has no default of VolumeGiB") from error
