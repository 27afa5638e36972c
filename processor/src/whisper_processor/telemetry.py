"""JSON logs, one line an event. No secret, no presigned URL and no transcript text goes in."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(name: str) -> None:
    """Log to stdout, where systemd's journal and the CloudWatch agent pick it up."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, sort_keys=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(worker=name)
