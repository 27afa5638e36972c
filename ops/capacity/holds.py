"""The holds that operators and deploys set."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta

from contracts.hold import Hold, format_hold
from contracts.timestamps import format_time


def hold_from_now(duration: timedelta, why: str = "") -> tuple[str, str]:
    """The tag's value for a hold by whoever runs this program, and the hold's end as text.

    `why` says what they do, e.g. "deploy".
    """
    by = f"{why} of {getpass.getuser()}" if why else getpass.getuser()
    until = datetime.now(UTC) + duration
    return format_hold(Hold(by, until)), format_time(until)
