"""The appliance's settings: validate them, and store them in Parameter Store."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dotenv import dotenv_values
from pydantic import ValidationError

from contracts.names import PARAMETER_PREFIX
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.settings import REPOSITORY
from whisper_processor.settings import APPLIANCE_SETTINGS, Settings

Say = Callable[[str], None]


def appliance_settings() -> dict[str, str]:
    """The appliance's settings in `.env`."""
    return {
        name: value
        for name, value in dotenv_values(REPOSITORY / ".env").items()
        if name in APPLIANCE_SETTINGS and value
    }


def validate_settings(wanted: Mapping[str, str]) -> None:
    """Check the settings. Raises OpsError naming each invalid value."""
    stand_ins = {"queue_url": "-", "dlq_url": "-", "bucket": "-", "_env_file": None}
    try:
        Settings(**stand_ins, **{name.lower(): value for name, value in wanted.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise OpsError(f"nothing was changed, these settings are wrong: {problems}") from error


def stored_settings(aws: Connection) -> dict[str, str]:
    """The appliance's settings in Parameter Store, without those that the foundation stack writes."""
    pages = aws.ssm.get_paginator("get_parameters_by_path").paginate(Path=PARAMETER_PREFIX)
    present = {p["Name"].rsplit("/", 1)[-1]: p["Value"] for page in pages for p in page["Parameters"]}
    return {name: value for name, value in present.items() if name in APPLIANCE_SETTINGS}


def write_settings(aws: Connection, wanted: Mapping[str, str], say: Say) -> None:
    """Store exactly `wanted` in Parameter Store. An appliance reads it when its worker starts.

    Raises OpsError naming each invalid value before anything is written.
    """
    validate_settings(wanted)
    present = stored_settings(aws)
    for name, value in wanted.items():
        if present.get(name) != value:
            aws.ssm.put_parameter(Name=f"{PARAMETER_PREFIX}/{name}", Value=value, Type="String", Overwrite=True)
            say(f"setting {name}={value}")
    for name in set(present) - set(wanted):
        aws.ssm.delete_parameter(Name=f"{PARAMETER_PREFIX}/{name}")
        say(f"setting {name} is back to its default")
