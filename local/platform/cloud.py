"""Bring the local cloud up and down: database, emulator, supervisor, and the backend's secret."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from contracts.names import DATABASE_SECRET, IMAGE_PARAMETER
from local import machines
from local.errors import LocalError
from local.images.current import offered_image_id
from local.machines.nspawn import sweep_all
from local.platform.mariadb import MariaDB
from local.platform.processes import Service

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient

Say = Callable[[str], None]
_CHECKOUT = Path(__file__).resolve().parent.parent.parent
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
"""The emulator accepts any. Naming them keeps it from using a real profile of this machine."""


@dataclass(frozen=True)
class LocalCloud:
    root: Path
    """Data, logs and pids of this cloud."""
    models_dir: Path
    emulator_python: Path = _CHECKOUT / ".local" / "emulator-venv" / "bin" / "python"
    machine: machines.MachineKind = machines.MachineKind.PROCESS
    region: str = "us-east-1"
    port: int = 4566
    database_port: int = 33066
    strict: bool = False
    """TLS, and every call is checked against the caller's policies."""

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.strict else 'http'}://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path | None:
        """The emulator's TLS certificate, which it makes at its first start. None without TLS."""
        return self._temporary / "ministack-tls" / "server.crt" if self.strict else None

    @property
    def _temporary(self) -> Path:
        """The emulator's TMPDIR: its certificate, and a folder for each function that runs."""
        return self.root / "tls"

    @property
    def database(self) -> MariaDB:
        return MariaDB(self.root, self.database_port)

    @property
    def emulator(self) -> Service:
        return Service("emulator", self.root / "run", self.root / "logs" / "emulator.log")

    @property
    def supervisor(self) -> Service:
        return Service("supervisor", self.root / "run", self.root / "logs" / "supervisor.log")

    def is_up(self) -> bool:
        return self.emulator.process() is not None and self._healthy()

    def up(self, say: Say) -> None:
        """Start what is not running. State of an earlier `up` is kept. Raises LocalError."""
        machines.backend(self.machine)
        for service, port, setting in (
            (self.database.service, self.database_port, "LOCAL_DB_PORT"),
            (self.emulator, self.port, "LOCAL_PORT"),
        ):
            if service.process() is None and _taken(port):
                raise LocalError(f"port {port} is taken by another program: set {setting} in .env to a free one")
        self.root.mkdir(parents=True, exist_ok=True)
        say(f"database   MariaDB on 127.0.0.1:{self.database_port}")
        self.database.start()
        say(f"emulator   ministack on {self.endpoint}")
        if self.emulator.process() is None:
            self._start_emulator()
        self.emulator.wait_for("the emulator", self._healthy)
        self._store_secret()
        self.offer_image()
        self._write_session_program()
        kind = self.root / "run" / "machine-kind"
        if self.supervisor.process() is not None and (not kind.exists() or kind.read_text() != self.machine):
            self.supervisor.stop(180)  # its machines are of another kind
        if self.supervisor.process() is None:
            sweep_all(self.root / "instances")  # it may have been killed
            kind.write_text(self.machine)
        say(f"supervisor keeps a machine ({self.machine}) behind each running instance")
        if self.supervisor.process() is None:
            self._start_supervisor()

    def down(self, say: Say) -> None:
        """Stop everything, the machines first. Data stays for the next `up`."""
        self._stop(say, time_to_save=30.0)

    def destroy(self, say: Say) -> None:
        """Stop everything and delete the data."""
        self._stop(say, time_to_save=2.0)
        shutil.rmtree(self.root, ignore_errors=True)

    def _stop(self, say: Say, time_to_save: float) -> None:
        """Kill a service that still runs after `time_to_save` seconds.

        With TLS the emulator would wait half a minute for clients that keep their connections.
        """
        for service, timeout in (
            (self.supervisor, 180.0),
            (self.emulator, time_to_save),
            (self.database.service, time_to_save),
        ):
            if service.stop(timeout):
                say(f"{service.name} stopped")
        sweep_all(self.root / "instances")

    def session(self) -> boto3.session.Session:
        return boto3.session.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=self.region,
        )

    def client_environment(self, endpoint: str | None = None) -> dict[str, str]:
        """What makes a process's AWS clients speak to this cloud, through `endpoint` when that is given."""
        trusted = {"AWS_CA_BUNDLE": str(self.certificate)} if self.certificate else {}
        return {
            **CREDENTIALS,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            **trusted,
        }

    def _start_emulator(self) -> None:
        settings = {
            "BIND_HOST": "127.0.0.1",  # by default it binds every address, and its Lambdas run as you
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.root / "emulator"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.root / "s3"),
            "AWS_DEFAULT_REGION": self.region,
            "MINISTACK_REGION": self.region,
            "LOCAL_CLOUD_ROOT": str(self.root),
            "TMPDIR": str(self._temporary),
        }
        self._temporary.mkdir(mode=0o700, exist_ok=True)
        if self.strict:
            settings |= {"AUTH": "true", "USE_SSL": "1"}
        script = Path(__file__).parent.parent / "emulator" / "__main__.py"
        self.emulator.start(
            [str(self.emulator_python), str(script)], _plain_environment() | settings, cwd=self.root
        )

    def _start_supervisor(self) -> None:
        settings = self.client_environment() | {
            "LOCAL_CLOUD_ROOT": str(self.root),
            "LOCAL_MACHINE": self.machine,
            "WHISPER_MODELS_DIR": str(self.models_dir),
            "DATABASE_CA": str(self.database.ca),
            "LOCAL_DB_PORT": str(self.database_port),
        }
        argv = [sys.executable, "-m", "local.platform.supervisor"]
        self.supervisor.start(argv, _plain_environment() | settings, cwd=_CHECKOUT)

    def _healthy(self) -> bool:
        try:
            trusted = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
            health = f"{self.endpoint}/_ministack/health"
            with urllib.request.urlopen(health, timeout=2, context=trusted) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):  # refused, or its certificate is not made yet
            return False

    def _store_secret(self) -> None:
        """Make the secret, which on AWS the backend has made already."""
        client: SecretsManagerClient = self._client("secretsmanager")
        text = json.dumps(self.database.credentials())
        try:
            client.create_secret(Name=DATABASE_SECRET, SecretString=text)
        except client.exceptions.ResourceExistsException:
            client.put_secret_value(SecretId=DATABASE_SECRET, SecretString=text)

    def offer_image(self) -> None:
        """Record this machine's image as the one to launch, as `make ami` does on AWS."""
        client: SSMClient = self._client("ssm")
        client.put_parameter(Name=IMAGE_PARAMETER, Value=offered_image_id(), Type="String", Overwrite=True)

    def _write_session_program(self) -> None:
        """Stands in for SSM's Session Manager: a program that opens a shell on the instance it is given."""
        program = self.root / "session"
        command = shlex.join([sys.executable, "-m", "local", "session"])
        program.write_text(f'#!/bin/sh\ncd {shlex.quote(str(_CHECKOUT))} && exec {command} "$@"\n')
        program.chmod(0o700)

    def _client(self, service: str) -> Any:
        verify = str(self.certificate) if self.certificate else None
        return self.session().client(service, endpoint_url=self.endpoint, verify=verify)  # type: ignore[call-overload]


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _plain_environment() -> dict[str, str]:
    """The caller's environment without its AWS settings: a real account must be out of reach."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
