"""The machine behind each local EC2 instance: runs the processor while EC2 says `running`.

Run as `python -m local.supervisor`; the environment says where the cloud is and where to keep logs.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local.imds import Identity, MetadataServer
from whisper_processor.contracts import PROCESSOR_LOG_GROUP, ROLE_PROCESSOR, ROLE_TAG

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef
    from mypy_boto3_logs import CloudWatchLogsClient

_POLL_SECONDS = 0.5
_STOP_SECONDS = 30.0
_RESTART_SECONDS = 2.0
_RESTARTS = 5
_ENDED_STATES = {"stopping", "stopped", "shutting-down", "terminated"}


class LogShipper:
    """What the CloudWatch agent is on the appliance: sends each line to the processor's log group."""

    def __init__(self, client: CloudWatchLogsClient, stream: str, copy: Path) -> None:
        self._client = client
        self._stream = stream
        self._lines: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._copy = copy
        threading.Thread(target=self._ship, daemon=True).start()

    def line(self, text: str) -> None:
        with self._copy.open("a") as copy:
            copy.write(text + "\n")
        self._lines.put((int(time.time() * 1000), text))

    def _ship(self) -> None:
        while True:
            batch = [self._lines.get()]
            time.sleep(0.3)
            while not self._lines.empty():
                batch.append(self._lines.get())
            try:
                self._send(batch)
            except (BotoCoreError, ClientError) as error:
                sys.stderr.write(f"log lines not shipped: {error}\n")

    def _send(self, batch: list[tuple[int, str]]) -> None:
        exists = self._client.exceptions.ResourceAlreadyExistsException
        with suppress(exists):
            self._client.create_log_group(logGroupName=PROCESSOR_LOG_GROUP)
        with suppress(exists):
            self._client.create_log_stream(logGroupName=PROCESSOR_LOG_GROUP, logStreamName=self._stream)
        self._client.put_log_events(
            logGroupName=PROCESSOR_LOG_GROUP,
            logStreamName=self._stream,
            logEvents=[{"timestamp": moment, "message": text} for moment, text in batch],
        )


class Machine:
    """One booted instance: its metadata service and the processor on it."""

    def __init__(self, session: boto3.session.Session, instance: InstanceTypeDef, root: Path) -> None:
        self.instance_id = instance["InstanceId"]
        folder = root / "instances" / self.instance_id
        folder.mkdir(parents=True, exist_ok=True)
        self._session = session
        self._profile_arn = instance.get("IamInstanceProfile", {}).get("Arn", "")
        identity = Identity(
            self.instance_id,
            instance["InstanceType"],
            instance["ImageId"],
            os.environ["AWS_REGION"],
        )
        notice = folder / "spot-notice"
        notice.unlink(missing_ok=True)
        self._metadata = MetadataServer(identity, self._role_credentials, notice)
        self._shipper = LogShipper(session.client("logs"), self.instance_id, folder / "processor.log")
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def halt(self) -> None:
        """SIGTERM, as systemd does at shutdown; SIGKILL for what does not end."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._thread.join(5)
        self._metadata.close()

    def _run(self) -> None:
        """systemd's `Restart=on-failure`, with a limit."""
        for _ in range(_RESTARTS):
            with subprocess.Popen(
                [sys.executable, "-m", "whisper_processor"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            ) as self._process:
                for line in self._process.stdout or ():
                    self._shipper.line(line.rstrip("\n"))
            if self._process.returncode == 0 or self._stopping.wait(_RESTART_SECONDS):
                return
        self._shipper.line(f'{{"event": "crash_loop", "detail": "the processor failed {_RESTARTS} times"}}')

    def _environment(self) -> dict[str, str]:
        """Only what a booted appliance would know; credentials come from the metadata service."""
        passed = {name: os.environ[name] for name in ("PATH", "HOME", "AWS_REGION", "AWS_ENDPOINT_URL")}
        return passed | {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self._metadata.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONUNBUFFERED": "1",
            "WHISPER_MODELS_DIR": os.environ["WHISPER_MODELS_DIR"],
            "DATABASE_CA": os.environ["DATABASE_CA"],
        }

    def _role_credentials(self) -> dict[str, str]:
        iam = self._session.client("iam")
        profile = iam.get_instance_profile(InstanceProfileName=self._profile_arn.rsplit("/", 1)[-1])
        role = profile["InstanceProfile"]["Roles"][0]["Arn"]
        answer = self._session.client("sts").assume_role(RoleArn=role, RoleSessionName=self.instance_id)
        keys = answer["Credentials"]
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "AccessKeyId": keys["AccessKeyId"],
            "SecretAccessKey": keys["SecretAccessKey"],
            "Token": keys["SessionToken"],
            "Expiration": keys["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def supervise(session: boto3.session.Session, root: Path, ending: threading.Event) -> None:
    ec2 = session.client("ec2")
    machines: dict[str, Machine] = {}
    while not ending.wait(_POLL_SECONDS):
        try:
            pages = ec2.describe_instances(Filters=[{"Name": f"tag:{ROLE_TAG}", "Values": [ROLE_PROCESSOR]}])
        except (BotoCoreError, ClientError) as error:
            sys.stderr.write(f"EC2 does not answer: {error}\n")
            continue
        for instance in (i for r in pages["Reservations"] for i in r["Instances"]):
            instance_id, state = instance["InstanceId"], instance["State"]["Name"]
            if state == "running" and instance_id not in machines:
                machines[instance_id] = Machine(session, instance, root)
            elif state in _ENDED_STATES and instance_id in machines:
                machines.pop(instance_id).halt()
    for machine in machines.values():
        machine.halt()


def main() -> None:
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    supervise(boto3.session.Session(), Path(os.environ["LOCAL_CLOUD_ROOT"]), ending)


if __name__ == "__main__":
    main()
