"""`make image`: `make ami` with this machine in place of AWS.

An emulated EC2 answers Packer, and a Debian 12 booted by systemd-nspawn stands for the instance it asks for.
Source, build, roles and checks are those of `make ami`. What Packer leaves in that root is the image.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from local.errors import LocalError
from local.images.current import WORK, Baked, current_baked, keep_as_current
from local.machines.container import Container, obstacle
from local.machines.ssh import ssh_access
from local.platform.ports import free_port
from local.platform.processes import Service
from ops.aws.connection import Connection
from ops.images import bake, packer
from ops.images.ingredients import Ingredients, gather
from ops.releases.archive import ANSIBLE
from ops.settings import REPOSITORY, OpsSettings

Say = Callable[[str], None]
_SUITE = "bookworm"
# What Debian's own cloud images have beside the essential packages.
_BASE_PACKAGES = "systemd-sysv,dbus,python3,sudo,openssh-server,ca-certificates,iproute2,procps"
# `archive` is the one debootstrap itself chose; Debian keeps the security updates beside it.
_SOURCES = """deb {archive} {suite} main
deb {archive} {suite}-updates main
deb {archive}-security {suite}-security main
"""
_KEYPAIR = "rehearsal"


def make_image(settings: OpsSettings, say: Say, *, force: bool = False) -> Baked:
    """Bake the image, unless there is one made from the same inputs. Raises OpsError."""
    reason = obstacle()
    if reason:
        raise LocalError(f"no image can be baked here: {reason}")
    ingredients = gather(settings, say)
    inputs = _digest(ingredients.variables())
    there = current_baked()
    if there and there.inputs == inputs and not force:
        say(f"image {there.image_id} is baked from these very files; FORCE=1 bakes anew")
        return there
    base = _base_root(say)
    started = time.monotonic()
    build = WORK / "build"
    _discard(build)
    try:
        say("a copy of it stands for the instance")
        _copy(base, build / "root")
        with _source_instance(build) as (port, key), _emulated_ec2(build, key) as endpoint:
            image_id = _bake(settings, ingredients, build, port, key, endpoint, say)
        baked = _keep(build, image_id, inputs, time.monotonic() - started)
    finally:
        _discard(build)
    say(f"image {image_id}: baked in {baked.seconds:.0f} s")
    return baked


def replace_other_image(aws: Connection, image_id: str, say: Say) -> None:
    """Terminate an instance of another image, as after `make ami`. `launch` makes a new one."""
    instance = aws.find_instance()
    if instance is not None and instance["ImageId"] != image_id:
        aws.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
        say(f"{instance['InstanceId']} is made of {instance['ImageId']}: terminated")


def _bake(
    settings: OpsSettings,
    ingredients: Ingredients,
    build: Path,
    port: int,
    key: Path,
    endpoint: str,
    say: Say,
) -> str:
    overrides = {
        "ec2_endpoint": endpoint,
        "ssh_username": "root",
        "ssh_host": "127.0.0.1",
        "ssh_port": port,
        "ssh_private_key_file": str(key),
        "ssh_keypair_name": _KEYPAIR,
    }
    environment = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    folder = packer.TEMPLATES
    if packer.installed_version() < (1, 9):
        folder = build / "packer"
        for what in packer.without_what_old_packer_lacks(folder):
            say(f"left out, this Packer does not know it: {what}")
        (build / "ansible").symlink_to(ANSIBLE)
    return bake.bake(settings, ingredients, say, templates=folder, overrides=overrides, environment=environment)


def _digest(variables: dict[str, object]) -> str:
    """Of everything the image is made from."""
    digest = hashlib.sha256(json.dumps(variables, sort_keys=True).encode())
    for folder in (packer.TEMPLATES, ANSIBLE):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    digest.update(_SOURCES.encode() + _BASE_PACKAGES.encode())
    return digest.hexdigest()


def _base_root(say: Say) -> Path:
    """Debian 12 as debootstrap makes it. Made once and kept."""
    base = WORK / f"debian-{_SUITE}"
    if (base / "complete").exists():
        say("Debian 12 root is in place")
        return base / "root"
    say("debootstrap: a Debian 12 root, about a minute, once")
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={_BASE_PACKAGES}",
        _SUITE,
        str(base / "root"),
    ]
    with (base / "log").open("w") as log:
        result = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
    if result.returncode != 0:
        raise LocalError(f"debootstrap failed: {(base / 'log').read_text().strip().splitlines()[-1]}")
    root = base / "root"
    sources = root / "etc" / "apt" / "sources.list"
    archive = sources.read_text().split()[1]
    sources.write_text(_SOURCES.format(archive=archive, suite=_SUITE))
    for name in ("hostname", "resolv.conf", "machine-id"):  # they must not be this host's, nor the same for all
        (root / "etc" / name).unlink(missing_ok=True)
    (root / "etc" / "machine-id").touch()
    (base / "complete").touch()
    return root


@contextmanager
def _source_instance(build: Path) -> Iterator[tuple[int, Path]]:
    """The machine that is baked. It shares the host's network, because it downloads packages."""
    port = free_port()
    binds, environment, key = ssh_access(build / "ssh", port)
    container = Container(f"whisper-bake-{port}", build / "root", build, None, binds, environment)
    try:
        container.start()
        yield port, key
    finally:
        container.stop()


@contextmanager
def _emulated_ec2(build: Path, key: Path) -> Iterator[str]:
    """moto with Canonical's image in its list, and the key pair that Packer uses."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    service = Service("ec2", build / "run", build / "ec2.log")
    environment = {
        "PATH": os.environ["PATH"],
        "MOTO_AMIS_PATH": str(Path(__file__).with_name("source_images.json")),
    }
    service.start([str(packer.IMAGE_VENV / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], environment)
    try:
        service.wait_for("the emulated EC2", lambda: _answers(endpoint))
        ec2 = boto3.client(
            "ec2",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106
        )
        ec2.import_key_pair(KeyName=_KEYPAIR, PublicKeyMaterial=key.with_suffix(".pub").read_bytes())
        yield endpoint
    finally:
        service.stop(10)


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/moto-api/data.json", timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _keep(build: Path, image_id: str, inputs: str, seconds: float) -> Baked:
    """Move the root to the AMI's id, and delete the image before it."""
    images = WORK / "images"
    images.mkdir(parents=True, exist_ok=True)
    target = images / image_id
    target.mkdir()
    (build / "root").rename(target / "root")
    baked = Baked(image_id, target / "root", inputs, seconds)
    keep_as_current(baked)
    for old in images.iterdir():
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return baked


def _discard(build: Path) -> None:
    """Delete the build folder, and stop what an interrupted bake left running in it."""
    if build.exists():
        for record in (build / "run").glob("*.json"):
            name = record.stem
            Container(name, build / "root", build).stop(5) if name.startswith("whisper-") else Service(
                name, build / "run", build / "log"
            ).stop(5)
        shutil.rmtree(build)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", str(source), str(target)], check=True)
