"""Instants as text: UTC, whole seconds, `2026-03-01T18:00:00Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """Write an instant that knows its time zone."""
    # isoformat, not strftime: %Y drops the leading zeros of years before 1000.
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime | None:
    """Read an instant, in UTC; None for text that is none or that leaves its time zone open."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None
