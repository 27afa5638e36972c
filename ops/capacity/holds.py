"""The holds that operators and deploys set."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta

from contracts.hold import Hold


def hold_from_now(duration: timedelta, why: str = "") -> Hold:
    """A hold by the user who runs this program; `why` says for what, such as "deploy"."""
    by = f"{why} of {getpass.getuser()}" if why else getpass.getuser()
    return Hold(by, datetime.now(UTC).replace(microsecond=0) + duration)
