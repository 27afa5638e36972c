"""A machine made from the image: a copy-on-write clone, booted by systemd-nspawn on a network of its own.

It has no way out: the metadata service answers at its true address, emulator and database at the loopback ports
they have on this host. Where the image has no CloudWatch agent (Debian), the unit's journal is shipped from here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from contracts.names import SERVICE
from local.errors import LocalError
from local.images.current import current_baked
from local.machines import namespaces
from local.machines.base import Blueprint, Execution, Shell
from local.machines.container import Container, mount_clone, obstacle, unmount_clone
from local.machines.namespaces import METADATA_ADDRESS, Network
from local.machines.ssh import ssh_access

_LOGGED = ("", "-failed", "-check", "-update", "-update-now")
"""The units whose logs are shipped on AWS, too (aws_log_parts of the aws role)."""
_ENVIRONMENT = "etc/whisper-processor/environment"
_DATABASE_CA = "etc/whisper-processor/database-ca.pem"
_JOURNAL_SECONDS = 30.0
_LAST_LINES_SECONDS = 1.5
_SSH_PORT = 22


@dataclass(frozen=True)
class Surroundings:
    """What the machine reaches on its loopback, as this host does on its own."""

    endpoint: str
    database_port: int
    database_ca: Path

    @classmethod
    def from_environment(cls) -> Surroundings:
        """From the supervisor's environment variables."""
        return cls(
            os.environ["AWS_ENDPOINT_URL"], int(os.environ["LOCAL_DB_PORT"]), Path(os.environ["DATABASE_CA"])
        )


class NspawnMachine:
    def __init__(
        self, blueprint: Blueprint, surroundings: Surroundings | None = None, *, ssh: bool = False
    ) -> None:
        """`ssh`: let tests in at `ssh_port` with `ssh_key`. Raises LocalError when it does not boot."""
        around = surroundings or Surroundings.from_environment()
        self._folder = blueprint.folder
        self._log = blueprint.log
        self._halting = threading.Lock()
        name = machine_name(blueprint)
        sweep(self._folder, name)
        root = mount_clone(_image_root(blueprint.identity.image_id), self._folder)
        _write_environment(root, blueprint, around)
        binds: dict[Path, str] = {}
        environment: dict[str, str] = {}
        self.ssh_key: Path | None = None
        if ssh:
            binds, environment, self.ssh_key = ssh_access(self._folder / "ssh", _SSH_PORT)
        self._network = Network(name)
        self._container = Container(name, root, self._folder, self._network.path, binds, environment)
        notice = self._folder / "spot-notice"
        notice.unlink(missing_ok=True)
        self._metadata = blueprint.serve_metadata(notice, self._network.listen(METADATA_ADDRESS, 80))
        for port in (urlsplit(around.endpoint).port or 80, around.database_port):
            self._network.bring_in(port)
        self.ssh_port = self._network.let_in(_SSH_PORT) if ssh else None
        self._since = time.time()
        self._journal: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        try:
            self._container.start()
        except LocalError:
            self.halt()
            raise
        # Not before: journalctl does not follow a journal that was closed when it began to look.
        threading.Thread(target=self._follow_journal, name="journal", daemon=True).start()

    def halt(self) -> None:
        with self._halting:
            self._container.stop()
            if not self._ended.is_set():
                time.sleep(_LAST_LINES_SECONDS)  # what it logs while it shuts down
                self._ended.set()
                if self._journal is not None:
                    self._journal.terminate()
                    self._journal.wait(5)
                self._metadata.close()
                self._network.close()
            unmount_clone(self._folder)

    def powered_off(self) -> bool:
        return not self._container.running()

    def execute(self, script: str, timeout: float) -> Execution:
        return self._container.execute(script, timeout)

    def shell(self) -> Shell:
        return Shell(self._container.shell(), "/")

    def _follow_journal(self) -> None:
        """Ship the journal, as the CloudWatch agent does, from the clone's disk until the machine has ended."""
        root, deadline = self._folder / "root", time.monotonic() + _JOURNAL_SECONDS
        folder = root / "nowhere"
        while not (folder / "system.journal").exists():
            if self._ended.wait(0.1) or time.monotonic() > deadline:
                return
            machine_id = (root / "etc" / "machine-id").read_text().strip()  # empty until the first boot
            folder = root / "var" / "log" / "journal" / (machine_id or "nowhere")
        command = ["journalctl", f"--directory={folder}", "--follow", "--lines=all", "--output=cat", "--quiet"]
        command += [f"--since=@{self._since:.0f}", *(f"--unit={SERVICE}{part}.service" for part in _LOGGED)]
        self._journal = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        for line in self._journal.stdout or ():
            self._log(line.rstrip("\n"))


def machine_name(blueprint: Blueprint) -> str:
    """A host name, short enough for everything that is named after it."""
    return f"{namespaces.PREFIX}{blueprint.identity.instance_id[2:14]}"


def sweep(folder: Path, name: str) -> None:
    """Remove what a crashed supervisor left of this machine. Its disk stays."""
    if folder.is_dir():
        Container(name, folder / "root", folder).stop(10)
        unmount_clone(folder)
    if name in namespaces.leftovers(name):
        namespaces.delete(name)


def sweep_all(instances: Path) -> None:
    """The same for every machine in a local cloud's folder, if there are any."""
    if obstacle() or not instances.is_dir():
        return
    for folder in instances.iterdir():
        for record in (folder / "run").glob(f"{namespaces.PREFIX}*.json"):
            sweep(folder, record.stem)
        unmount_clone(folder)


def _image_root(image_id: str) -> Path:
    reason = obstacle()
    if reason:
        raise LocalError(f"no appliance can boot here: {reason}")
    baked = current_baked()
    if baked is None:
        raise LocalError("there is no image to boot: run `make image`")
    if baked.image_id != image_id:
        raise LocalError(
            f"the instance wants {image_id}, the image here is {baked.image_id}: run `make clean deploy`"
        )
    return baked.root


def _write_environment(root: Path, blueprint: Blueprint, around: Surroundings) -> None:
    """The settings that differ from AWS: the endpoint, and the database's certificate authority."""
    target = root / _ENVIRONMENT
    shutil.copyfile(around.database_ca, root / _DATABASE_CA)
    (root / _DATABASE_CA).chmod(0o644)
    settings = {
        "AWS_ENDPOINT_URL": around.endpoint,
        "AWS_REGION": blueprint.identity.region,
        "DATABASE_CA": f"/{_DATABASE_CA}",
    }
    target.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    target.chmod(0o644)
