"""Who is measured: the libraries as anybody would call them, our engines, and the whole worker around these.

A contender is written as its name and what differs from its defaults: `ours/faster-whisper:batch=8:beam=5`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from bench.cost import Instructions
from contracts.jobs import EngineName
from ops.errors import OpsError
from whisper_processor.engines.choice import resolve
from whisper_processor.settings import Settings

REFERENCE = "openai-whisper"
DEFAULT_ENGINE = resolve(Settings.model_fields["whisper_engine"].default).engine
"""On this machine: by default the CPU decides."""


class Family(StrEnum):
    OPENAI_WHISPER = "openai-whisper"
    FASTER_WHISPER = "faster-whisper"
    WHISPER_CPP = "whisper.cpp"
    OURS = "ours"
    """One of the processor's engines, called as the worker's child calls it."""
    WORKER = "worker"
    """The worker itself, from message to row."""


_SETTINGS: dict[Family, set[str]] = {
    Family.OPENAI_WHISPER: {"isa"},
    Family.FASTER_WHISPER: {"isa", "compute"},
    Family.WHISPER_CPP: set(),
    Family.OURS: {"isa", "beam", "batch"},
    Family.WORKER: {"isa", "beam", "batch"},
}
# To see what a processor without AVX-512 would do: what PyTorch, CTranslate2, oneDNN (in both of them, and in
# OpenVINO) and MKL read to use no more than they are told.
_HELD_TO_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "CT2_FORCE_CPU_ISA": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


class Contender(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    family: Family
    engine: EngineName | None = None
    settings: Mapping[str, str] = {}

    @property
    def is_ours(self) -> bool:
        return self.family in {Family.OURS, Family.WORKER}

    @property
    def is_default(self) -> bool:
        """Whether it is what the appliance does unless told otherwise."""
        return self.is_ours and self.engine is DEFAULT_ENGINE and not self.settings

    @property
    def plain_name(self) -> str:
        """Without the limit on instructions, so that runs with and without it find each other."""
        return ":".join(part for part in self.name.split(":") if not part.startswith("isa="))

    def environment(self) -> dict[str, str]:
        return dict(_HELD_TO_AVX2) if self.settings.get("isa") == Instructions.AVX2 else {}


def parse(text: str) -> Contender:
    """Raises OpsError for what is no contender."""
    name, *pairs = text.strip().split(":")
    base, _, engine = name.partition("/")
    try:
        family = Family(base)
        ours = family in {Family.OURS, Family.WORKER}
        if engine and not ours:
            raise ValueError(engine)
        named = EngineName(engine) if engine else DEFAULT_ENGINE if ours else None
    except ValueError:
        known = ", ".join([*(f.value for f in Family), *(f"ours/{e}" for e in EngineName)])
        raise OpsError(f"{text!r} is no engine to measure; there are {known}") from None
    settings = dict(pair.partition("=")[::2] for pair in pairs)
    for key, value in settings.items():
        _refuse_setting(text, family, key, value)
    full = f"{family}/{named}" if named else str(family)
    return Contender(name=":".join([full, *pairs]), family=family, engine=named, settings=settings)


def _refuse_setting(text: str, family: Family, key: str, value: str) -> None:
    if key not in _SETTINGS[family]:
        raise OpsError(f"{text!r}: {family} knows {', '.join(sorted(_SETTINGS[family])) or 'no settings'}")
    if key == "isa" and value != Instructions.AVX2:
        raise OpsError(f"{text!r}: isa can be held to {Instructions.AVX2} only")
    if key in {"beam", "batch"} and not (value.isdecimal() and int(value)):
        raise OpsError(f"{text!r}: {key} is a number from 1")


def usual() -> list[Contender]:
    """Who is measured when nobody is named: the peers, our engines, and the worker with its default one.

    Not our `openai-whisper`: it is the reference's own code behind our interface.
    """
    peers = [Family.OPENAI_WHISPER, Family.FASTER_WHISPER, Family.WHISPER_CPP]
    ours = [f"{Family.OURS}/{engine}" for engine in EngineName if engine is not EngineName.OPENAI_WHISPER]
    return [parse(name) for name in [*peers, *ours, Family.WORKER]]


def named(text: str) -> list[Contender]:
    """From a list with commas; each once. Raises OpsError."""
    found = {contender.name: contender for contender in map(parse, filter(None, text.split(",")))}
    return list(found.values())
