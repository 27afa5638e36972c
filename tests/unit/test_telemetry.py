"""The log is JSON, one line per event, whatever its source."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import logging, sys, threading
import structlog
from whisper_processor.telemetry import configure_logging

configure_logging("worker-1")
with structlog.contextvars.bound_contextvars(job_id="j1"):
    structlog.get_logger().info("job_started", attempt=1)
    logging.getLogger("botocore").warning("slow down\\nplease")
    logging.getLogger("botocore").info("too much detail")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end")
"""


def test_every_line_is_json_whether_it_comes_from_the_worker_a_library_or_a_crash() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.stderr == ""
    assert [line["event"] for line in lines] == ["job_started", "slow down\nplease", "crashed", "crashed"]
    assert all({"time", "level", "worker"} <= set(line) for line in lines)
    assert [line.get("job_id") for line in lines[:2]] == ["j1", "j1"]
    assert "ZeroDivisionError" in lines[2]["exception"]
    assert "the end" in lines[3]["exception"]
