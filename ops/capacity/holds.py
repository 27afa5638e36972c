"""What a hold tag says: who keeps the autoscaler's hands off, and until when."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta

_TAG_VALUE_LENGTH = 256


def hold_until(duration: timedelta) -> tuple[str, str]:
    """The tag's value for a hold from now on, and when it ends, for people."""
    until = (datetime.now(UTC) + duration).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"by={getpass.getuser()};until={until}"[-_TAG_VALUE_LENGTH:], until
