"""The manual knows every verb and every alarm, and no verb that is not there."""

from __future__ import annotations

import re

import pytest

from ops.settings import REPOSITORY, Stack
from tests.templates import alarm_names

MANUAL = (REPOSITORY / "docs" / "operations.md").read_text()
MAKEFILE = (REPOSITORY / "Makefile").read_text()
VERBS = re.findall(r"(?m)^([a-z-]+):.*## ", MAKEFILE)
ALARMS = [*alarm_names(*Stack), "status-check"]


def verbs_of(text: str) -> set[str]:
    """The words after `make` in code spans, without settings: `make up deploy FILE=x` names two verbs."""
    spans = re.findall(r"`make ([^`]*)`", text.replace("\n", " "))
    words = (word.strip("[],") for span in spans for word in span.split())
    return {word for word in words if re.fullmatch(r"[a-z-]+", word)}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_the_manual(verb: str) -> None:
    assert verb in verbs_of(MANUAL)


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md", "docs/architecture.md", "docs/image.md"])
def test_no_text_names_a_verb_that_is_not_there(name: str) -> None:
    assert verbs_of((REPOSITORY / name).read_text()) - set(VERBS) == set()


@pytest.mark.parametrize("alarm", ALARMS)
def test_every_alarm_is_in_the_manual_with_what_to_do(alarm: str) -> None:
    rows = [line for line in MANUAL.splitlines() if line.startswith(f"| `{alarm}` |")]
    assert len(rows) == 1
    assert all(cell.strip() for cell in rows[0].split("|")[1:-1])
