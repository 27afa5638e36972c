"""`.env.example`, written from the fields of the settings by `make format`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from ops.settings import REPOSITORY, OpsSettings, Section, as_text
from whisper_processor.settings import APPLIANCE_SETTINGS, Settings

FILE = REPOSITORY / ".env.example"
_COMMENT_COLUMN = 30
_HEAD = """\
# Copy to .env and change what differs; every setting has this default, so .env may stay away.
# A variable of the environment wins over .env.
"""
_APPLIANCE = "\n## The appliance: `make deploy-config` sends those that are set here to Parameter Store\n"


def render() -> str:
    return "".join([_HEAD, *_operator_lines(), _APPLIANCE, *_appliance_lines()])


def _operator_lines() -> Iterator[str]:
    for name, field in OpsSettings.model_fields.items():
        if name.upper() in APPLIANCE_SETTINGS:  # read here too, and shown with the appliance's
            continue
        for note in field.metadata:
            if isinstance(note, Section):
                yield f"\n## {note.title}\n"
        # A default that is a path of this checkout is said by the comment.
        unset = field.default is None or isinstance(field.default, Path)
        yield _line(name, "" if unset else as_text(field.default), field, sent=not unset)


def _appliance_lines() -> Iterator[str]:
    for name in APPLIANCE_SETTINGS:
        field = Settings.model_fields[name.lower()]
        yield _line(name, as_text(field.default), field, sent=False)


def _line(name: str, default: str, field: FieldInfo, *, sent: bool) -> str:
    """Commented out unless `sent`: `make deploy-config` would send an appliance's setting, if only its default."""
    if not field.description:
        raise ValueError(f"{name} needs a description, for its comment in {FILE.name}")
    assignment = f"{'' if sent else '#'}{name.upper()}={default}"
    return f"{assignment:<{_COMMENT_COLUMN - 2}}  # {field.description}\n"


if __name__ == "__main__":
    FILE.write_text(render())
