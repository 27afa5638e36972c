"""`python -m whisper_processor.update boot|now|restart`, as root: from the unit at boot, or by an operator."""

from __future__ import annotations

import argparse
import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic_settings import BaseSettings, SettingsConfigDict
from urllib3.exceptions import HTTPError

from contracts.metrics import NAMESPACE, UPDATE_FAILED
from contracts.names import SERVICE
from whisper_processor.aws.instance import Machine, Metadata, region
from whisper_processor.releases import UpdateReport, UpdateResult
from whisper_processor.telemetry import configure_logging
from whisper_processor.update.memory import Memory
from whisper_processor.update.roles import Installer
from whisper_processor.update.source import AwsReleaseSource
from whisper_processor.update.store import ReleaseStore
from whisper_processor.update.unit import SystemdUnit
from whisper_processor.update.updater import Updater

# At boot the worker waits for the update: without a network it must end within seconds.
_QUICK = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=3, read_timeout=10)
_PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=30)
_LOCK_SECONDS = 900.0
_GOOD = {UpdateResult.INSTALLED, UpdateResult.UNCHANGED}
_ALARMING = {UpdateResult.FAILED, UpdateResult.REFUSED}
log = structlog.get_logger()


class UpdateSettings(BaseSettings):
    """From the unit's environment; the role's defaults explain each one."""

    model_config = SettingsConfigDict(env_prefix="UPDATE_", frozen=True)

    home: Path = Path("/opt/whisper")
    state: Path = Path("/var/lib/whisper-update")
    ansible: Path = Path("/opt/whisper/updater")
    unit: str = SERVICE
    kept: int = 2
    check_seconds: float = 300.0
    stop_seconds: float = 120.0


def main(mode: str, report_to: Path | None) -> int:
    configure_logging("updater")
    signal.signal(signal.SIGTERM, _leave)
    settings = UpdateSettings()
    metadata = Metadata()
    session = boto3.session.Session(region_name=region(metadata))
    memory = Memory(settings.state)
    memory.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    machine = _machine(session, metadata)

    def say(stage: str, detail: str) -> None:
        log.info(f"update_{stage}", detail=detail)
        if mode == "boot" and machine is not None and stage in {"fetch", "install", "check"}:
            # Without heartbeats the autoscaler would reboot the machine during a long installation.
            with suppress(BotoCoreError, ClientError):
                machine.heartbeat(None, 0)

    with _alone(settings.state / "lock"):
        updater = Updater(
            store=ReleaseStore(settings.home),
            source=AwsReleaseSource(session.client("ssm", config=_QUICK), session.client("s3", config=_PATIENT)),
            roles=Installer(settings.ansible),
            unit=SystemdUnit(settings.unit, settings.stop_seconds, settings.check_seconds),
            memory=memory,
            kept=settings.kept,
            say=say,
            at_boot=mode == "boot",
        )
        report = updater.restart() if mode == "restart" else updater.update()
    _tell(report, session, memory, report_to)
    return 0 if report.result in _GOOD else 1


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit("asked to end")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep the boot and operators from updating at the same time. The kernel frees the lock however this ends."""
    with path.open("w") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SystemExit("another update is still under way") from None
                time.sleep(0.5)
        yield


def _machine(session: boto3.session.Session, metadata: Metadata) -> Machine | None:
    try:
        return Machine(session.client("ec2", config=_QUICK), metadata.instance_id)
    except (BotoCoreError, HTTPError):
        return None


def _tell(report: UpdateReport, session: boto3.session.Session, memory: Memory, report_to: Path | None) -> None:
    level = log.info if report.result in _GOOD else log.error if report.result in _ALARMING else log.warning
    level("update_ended", **report.model_dump(mode="json"))
    memory.keep(report)
    if report_to is not None:
        report_to.write_text(report.model_dump_json() + "\n")
    if report.result in _ALARMING:
        try:
            session.client("cloudwatch", config=_QUICK).put_metric_data(
                Namespace=NAMESPACE,
                MetricData=[{"MetricName": UPDATE_FAILED, "Value": 1, "Unit": "Count"}],
            )
        except (BotoCoreError, ClientError) as error:
            log.warning("update_failure_not_told", error=str(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["boot", "now", "restart"])
    parser.add_argument("--report", type=Path, help="where the report is written, beside the log")
    options = parser.parse_args()
    sys.exit(main(options.mode, options.report))
