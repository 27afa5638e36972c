"""The machine the worker runs on: who it is, whether Spot wants it back, its heartbeat tag, its stop."""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from ec2_metadata import EC2Metadata

from whisper_processor.contracts import HEARTBEAT_TAG, HOLD_TAG, PROCESSOR_TAG, Hold, parse_hold

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

_REAL_ENDPOINT = "http://169.254.169.254"


class Metadata(EC2Metadata):
    """IMDSv2, at the endpoint botocore's own variable names, else the real one."""

    def __init__(self) -> None:
        waits = urllib3.Timeout(connect=2, read=5)  # it is as near as can be, or not there at all
        super().__init__(urllib3.PoolManager(retries=urllib3.Retry(2, backoff_factor=0.2), timeout=waits))
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _REAL_ENDPOINT).rstrip("/")
        self.service_url = f"{endpoint}/latest/"
        self.dynamic_url = f"{self.service_url}dynamic/"
        self.metadata_url = f"{self.service_url}meta-data/"
        self.userdata_url = f"{self.service_url}user-data/"

    def leaving(self) -> bool:
        """True once Spot has given its two minutes' notice."""
        try:
            return self._get_url(f"{self.metadata_url}spot/instance-action", allow_404=True).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def hold(self) -> Hold | None:
        """The hold tag, which the launch template lets the instance see; None when it cannot be read."""
        try:
            answer = self._get_url(f"{self.metadata_url}tags/instance/{HOLD_TAG}", allow_404=True)
        except urllib3.exceptions.HTTPError:
            return None
        return parse_hold(answer.data.decode(errors="replace")) if answer.status == 200 else None


class Machine:
    """An EC2 instance that says what it does through a tag and ends its own cost."""

    def __init__(self, client: EC2Client, instance_id: str) -> None:
        self._client = client
        self.instance_id = instance_id

    def announce(self, version: str) -> None:
        """Say which processor runs here."""
        self._tag(PROCESSOR_TAG, version)

    def heartbeat(self, job_id: str | None, percent: int) -> None:
        """Tell the autoscaler in one tag, which it reads with the state it asks for anyway."""
        now = _now()
        # A job's id is the backend's: what a tag cannot hold, or would split it, is replaced.
        job = re.sub(r"[^A-Za-z0-9+\-=._:/@]", "_", job_id) if job_id else None
        self._tag(HEARTBEAT_TAG, f"{now} busy {job} {percent}%" if job else f"{now} idle")

    def crashed(self) -> None:
        """Say that the worker crashed in a loop: the autoscaler then leaves the instance stopped for a while."""
        self._tag(HEARTBEAT_TAG, f"{_now()} crashed")

    def stop(self) -> None:
        self._client.stop_instances(InstanceIds=[self.instance_id])

    def _tag(self, key: str, value: str) -> None:
        self._client.create_tags(Resources=[self.instance_id], Tags=[{"Key": key, "Value": value[:256]}])


def region(metadata: Metadata) -> str | None:
    """boto3 itself reads AWS_DEFAULT_REGION alone; an instance knows where it is."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    try:
        return metadata.region
    except urllib3.exceptions.HTTPError:
        return None  # the configuration file may name it


def installed_release(prefix: Path = Path(sys.prefix)) -> str | None:
    """The name of the release this runs from; None where it was not installed as one (a checkout)."""
    folder = prefix.resolve()
    return folder.name if folder.parent.name == "releases" else None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
