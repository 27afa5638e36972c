"""`make test-image`: boot a fresh copy of the image with a local cloud of its own, and check it over SSH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from local.errors import LocalError
from local.images.current import Baked, current_baked
from local.machines.base import Blueprint
from local.machines.container import Container, mount_clone, unmount_clone
from local.machines.imds import Identity, role_credentials
from local.machines.nspawn import NspawnMachine, Surroundings
from local.machines.ssh import ssh_access
from local.platform.cloud import LocalCloud
from local.platform.ports import free_port
from ops.aws.connection import Connection
from ops.capacity import launch
from ops.images import packer, suite
from ops.images.ingredients import gather
from ops.infrastructure import deploy, migrate
from ops.releases.archive import ANSIBLE
from ops.releases.settings import write_settings
from ops.settings import OpsSettings

Say = Callable[[str], None]
_POLLING_SECONDS = 60.0


def check(settings: OpsSettings, say: Say) -> None:
    """Check the current image. Raises OpsError when it is not as it should be."""
    baked = current_baked()
    if baked is None:
        raise LocalError("there is no image to test: run `make image`")
    with tempfile.TemporaryDirectory(prefix="whisper-image-") as scratch:
        check_second_run(settings, baked, Path(scratch) / "second", say)
        check_booted(settings, baked, Path(scratch), say)
    say(f"image {baked.image_id} is as it should be")


def check_booted(settings: OpsSettings, baked: Baked, folder: Path, say: Say) -> None:
    """Boot a copy and run `tests/image` against it. Raises OpsError when a test fails."""
    with _booted_machine(settings, baked, folder, say) as machine:
        assert machine.ssh_key is not None  # noqa: S101 - it was asked for
        environment = {"IMAGE_ROOT": str(baked.root)}
        suite.run_suite(f"ssh://root@127.0.0.1:{machine.ssh_port}", "", environment, key=machine.ssh_key)


@contextmanager
def _booted_machine(settings: OpsSettings, baked: Baked, folder: Path, say: Say) -> Iterator[NspawnMachine]:
    """A machine whose worker polls, and does not stop itself while it is checked."""
    cloud = LocalCloud(
        root=folder / "cloud", models_dir=settings.models_dir, port=free_port(), database_port=free_port()
    )
    mine = settings.model_copy(
        update={"local_port": cloud.port, "local_db_port": cloud.database_port, "local_root": cloud.root}
    )
    aws = Connection(mine)
    machine: NspawnMachine | None = None
    try:
        cloud.up(lambda _text: None)
        cloud.supervisor.stop(30)  # the machine is this command's own
        deploy.deploy_infra(aws, say)
        migrate.migrate(aws.database())
        write_settings(aws, {"STOP_WHEN_IDLE": "false"}, say)
        instance_id = launch.launch(aws, say)
        lines: list[str] = []
        started = time.monotonic()
        session = cloud.session()
        profile = aws.instance().get("IamInstanceProfile", {}).get("Arn", "").rsplit("/", 1)[-1]
        instance_folder = folder / "instance"
        instance_folder.mkdir()
        machine = NspawnMachine(
            Blueprint(
                identity=Identity(instance_id, settings.instance_type, baked.image_id, settings.aws_region),
                credentials=lambda: role_credentials(session, profile, instance_id, cloud.endpoint),
                tags=dict,
                user_data=lambda: None,
                lifecycle=lambda: None,
                folder=instance_folder,
                log=lines.append,
                models_dir=settings.models_dir,
            ),
            Surroundings(cloud.endpoint, cloud.database_port, cloud.database.ca),
            ssh=True,
        )
        booted = time.monotonic() - started
        _wait_for_poll(machine, lines)
        say(f"booted in {booted:.1f} s, first poll after {time.monotonic() - started:.1f} s")
        yield machine
    finally:
        if machine is not None:
            machine.halt()
        cloud.destroy(lambda _text: None)


def _wait_for_poll(machine: NspawnMachine, lines: list[str]) -> None:
    deadline = time.monotonic() + _POLLING_SECONDS
    while not any('"polling_started"' in line for line in lines):
        if time.monotonic() > deadline:
            journal = machine.execute("journalctl --unit='whisper-processor*' --output=cat --lines=8", 10)
            told = " | ".join((journal.stdout + journal.stderr).strip().splitlines()) or "nothing"
            raise LocalError(f"the worker did not poll within {_POLLING_SECONDS:.0f} s; its journal: {told}")
        time.sleep(0.1)


def check_second_run(settings: OpsSettings, baked: Baked, folder: Path, say: Say) -> None:
    """Run the roles again on a copy: nothing may change. It shares the host's network, to reach the archive."""
    folder.mkdir()
    root = mount_clone(baked.root, folder)
    port = free_port()
    binds, environment, key = ssh_access(folder / "ssh", port, worker=False)
    container = Container(f"whisper-again-{port}", root, folder, None, binds, environment)
    try:
        container.start()
        variables = folder / "roles.json"
        variables.write_text(json.dumps(gather(settings, lambda _text: None).variables()))
        changed, told = _run_roles(port, key, variables)
    finally:
        container.stop()
        unmount_clone(folder)
        shutil.rmtree(folder, ignore_errors=True)
    if changed != 0:
        raise LocalError(f"a second run of the roles changed {changed} things: {'; '.join(told)}")
    say("a second run of the roles: 0 changes")


def _run_roles(port: int, key: Path, variables: Path) -> tuple[int, list[str]]:
    """Run the roles; returns how many tasks changed something, and which."""
    inventory = (
        f"machine ansible_host=127.0.0.1 ansible_port={port} ansible_user=root ansible_ssh_private_key_file={key}"
    )
    listed = key.with_name("inventory")
    listed.write_text(inventory + "\n")
    command = [str(packer.IMAGE_VENV / "ansible-playbook"), "-i", str(listed), "--extra-vars", f"@{variables}"]
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_NOCOLOR": "1",
    }
    result = subprocess.run(
        [*command, str(ANSIBLE / "appliance.yml")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    recap = re.search(r"changed=(\d+)", result.stdout)
    if result.returncode != 0 or recap is None:
        words = [line for line in result.stdout.splitlines() if line.startswith(("fatal:", "failed:"))]
        reasons = " | ".join([*words, *result.stderr.strip().splitlines()[-3:]]) or result.stdout[-600:]
        raise LocalError(f"the second run of the roles failed: {reasons}")
    task, changes = "", []
    for line in result.stdout.splitlines():
        if line.startswith("TASK "):
            task = line.removeprefix("TASK ").strip("[]* ")
        elif line.startswith("changed:"):
            changes.append(task)
    return int(recap[1]), changes
