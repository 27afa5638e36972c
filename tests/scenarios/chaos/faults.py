"""microburst between the workers and AWS: what it does to the network, and its own count of it."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from local.platform.ports import free_port
from local.platform.processes import Service
from ops.settings import REPOSITORY

PYTHON = REPOSITORY / ".local" / "chaos-venv" / "bin" / "python"

_CUT_SHORT = {"strip_headers": ["Content-Length"]}
Rule = dict[str, Any]
"""In microburst's own words; `probability` is per request."""

WEATHER: dict[str, tuple[Rule, ...]] = {
    "calm": (),
    "throttles": (
        {"service": "sqs", "probability": 0.15, "error": {"code": "RequestThrottled", "status": 403}},
        {"service": "s3", "probability": 0.15, "error": {"code": "SlowDown", "status": 503}},
        {"service": "secretsmanager", "probability": 0.5, "error": {"code": "ThrottlingException", "status": 400}},
    ),
    "resets": tuple(
        {"service": service, "probability": 0.12, "reset": True} for service in ("sqs", "s3", "secretsmanager")
    ),
    "cut bodies": (
        # Killed in the middle: the client sees the length and misses the rest.
        {"service": "s3", "operation": "GetObject", "probability": 0.3, "response": {"abort_frac": 0.4}},
        # Cut short but well-formed: only the object's size tells.
        {
            "service": "s3",
            "operation": "GetObject",
            "probability": 0.2,
            "response": {"truncate_frac": 0.6, **_CUT_SHORT},
        },
        {
            "service": "s3",
            "operation": "PutObject",
            "probability": 0.1,
            "request": {"cut_upload": {"after_frac": 0.5}},
        },
        {
            "service": "sqs",
            "operation": "ReceiveMessage",
            "probability": 0.1,
            "response": {"truncate_frac": 0.5, **_CUT_SHORT},
        },
        {"service": "sqs", "probability": 0.1, "response": {"abort_frac": 0.5}},
        {"service": "secretsmanager", "probability": 0.4, "response": {"truncate_frac": 0.5, **_CUT_SHORT}},
    ),
    "latency": (
        {"service": "sqs", "probability": 0.5, "latency": {"min": 50, "max": 600}},
        {"service": "s3", "probability": 0.5, "latency": {"min": 50, "max": 600}},
        {"service": "secretsmanager", "probability": 0.5, "latency": {"min": 200, "max": 2000}},
    ),
    "server errors": (
        {"service": "sqs", "probability": 0.1, "error": {"code": "InternalError", "status": 500}},
        {"service": "s3", "probability": 0.1, "error": {"code": "InternalError", "status": 500}},
        {"service": "sqs", "probability": 0.03, "timeout_ms": 2000},
    ),
}

_KINDS = (
    (re.compile(r"error:(ThrottlingException|RequestThrottled|SlowDown)"), "throttle"),
    (re.compile(r"error:"), "server error"),
    (re.compile(r"timeout"), "gateway timeout"),
    (re.compile(r"reset"), "reset"),
    (re.compile(r"truncate|abort|cut_upload"), "cut body"),
    (re.compile(r"latency"), "latency"),
)
_SAMPLE = re.compile(r'^microburst_faults_total\{.*action="(?P<action>[^"]*)"\} (?P<count>\d+)$', re.MULTILINE)


def kind_of(action: str) -> str:
    """What the table calls an action of microburst's log."""
    return next((kind for pattern, kind in _KINDS if pattern.search(action)), action)


def count_kinds(metrics: str) -> Counter[str]:
    """Faults by kind out of microburst's Prometheus page."""
    counts: Counter[str] = Counter()
    for sample in _SAMPLE.finditer(metrics):
        counts[kind_of(sample["action"])] += int(sample["count"])
    return counts


class FaultProxy:
    """Context manager: the proxy runs while it is open."""

    def __init__(self, upstream: str, root: Path) -> None:
        self._upstream = upstream
        self._port = free_port()
        self._service = Service("microburst", root / "run", root / "microburst.log")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> FaultProxy:
        script = Path(__file__).with_name("fault_proxy.py")
        argv = [str(PYTHON), str(script), "--upstream", self._upstream]
        argv += ["--port", str(self._port), "--host", "127.0.0.1"]
        self._service.start(argv, os.environ)
        try:
            self._service.wait_for("microburst", self._answers, 30)
        except BaseException:
            self._service.stop(10)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop(10)

    def _answers(self) -> bool:
        with suppress(OSError):
            self._call("GET", "health")
            return True
        return False

    def set_weather(self, name: str) -> None:
        """Replace all rules by those of `WEATHER`."""
        self._call("POST", "rules", json.dumps(WEATHER[name]).encode())

    def counts(self) -> Counter[str]:
        return count_kinds(self._call("GET", "metrics"))

    def _call(self, method: str, path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.endpoint}/_microburst/{path}", data=body, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return str(answer.read().decode())
