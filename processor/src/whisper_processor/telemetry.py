"""JSON logs, one line per event. They hold no secrets, no presigned URLs and no transcript text."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

import structlog


def configure_logging(name: str) -> None:
    """Log to stdout, which goes to systemd's journal and the CloudWatch agent.

    Warnings of libraries and uncaught exceptions are logged in the same format.
    """

    def name_worker(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {**event, "worker": name}  # not a context variable: other threads would lack it

    stamp: list[structlog.typing.Processor] = [
        name_worker,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    render: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False, sort_keys=False),
    ]
    structlog.configure(
        processors=[*stamp, *render],
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )

    libraries = logging.StreamHandler(sys.stdout)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=stamp,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[libraries], level=logging.WARNING, force=True)
    sys.excepthook = _log_crash
    threading.excepthook = lambda args: _log_crash(args.exc_type, args.exc_value, args.exc_traceback)


def _log_crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    structlog.get_logger().critical("crashed", exc_info=(kind, error, trace))
