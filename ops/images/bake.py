"""The appliance's image: what goes in, Packer, and where the result is recorded.

`make ami` bakes on AWS. `make image` (local/images/rehearsal.py) drives the same source and build on this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.jobs import EngineName
from ops.capacity.image import WORK
from ops.errors import OpsError
from ops.releases.archive import FOLDER, BuiltRelease, build_release
from ops.releases.wheelhouse import Artefact, build_updater_wheelhouse, build_wheelhouse
from ops.settings import REPOSITORY, OpsSettings
from whisper_processor import models
from whisper_processor.models.catalogue import MARKER

Say = Callable[[str], None]
PACKER = REPOSITORY / "packer"
ANSIBLE = REPOSITORY / "ansible"
IMAGE_VENV = REPOSITORY / ".local" / "image-venv" / "bin"
SAMPLE = REPOSITORY / "samples" / "lesson.flac"
_MODEL = "base"


@dataclass(frozen=True)
class Ingredients:
    built: BuiltRelease
    updater: Artefact
    """The wheelhouse of what installs releases."""
    models: Sequence[Mapping[str, Any]]

    @property
    def model_sha256(self) -> str:
        return str(self.models[0]["files"]["model.bin"])

    def variables(self) -> dict[str, Any]:
        """What the roles take from the build host."""
        built = self.built
        return {
            "whisper_wheelhouse": str(built.wheelhouse.path),
            "whisper_wheelhouse_sha256": built.wheelhouse.sha256,
            "whisper_sample": str(SAMPLE),
            "whisper_models": list(self.models),
            "processor_wheel": str(built.processor.path),
            "processor_wheel_sha256": built.processor.sha256,
            "processor_release_name": built.release.name,
            "processor_release_sha256": built.archive.sha256,
            "updater_wheelhouse": str(self.updater.path),
            "updater_wheelhouse_sha256": self.updater.sha256,
        }


def gather(settings: OpsSettings, say: Say) -> Ingredients:
    """Wheels and models, fetched and verified on this machine. Raises OpsError."""
    built = build_release(build_wheelhouse(FOLDER, say))
    updater = build_updater_wheelhouse(FOLDER, say)
    described = []
    for engine in models.catalogue():
        try:
            folder = models.fetch(_MODEL, engine, settings.models_dir, settings.models_from, say)
        except models.ModelError as error:
            raise OpsError(str(error)) from error
        found = json.loads((folder / MARKER).read_text())["files"]
        files = {name: pin["sha256"] for name, pin in found.items()}
        described.append({"engine": str(engine), "name": _MODEL, "source": str(folder), "files": files})
    return Ingredients(built, updater, described)


def bake(
    settings: OpsSettings,
    ingredients: Ingredients,
    say: Say,
    *,
    packer: Path = PACKER,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run Packer, telling what it does; returns the AMI's id. Raises OpsError when a step or a check fails."""
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix=".bake-") as scratch:
        roles = Path(scratch) / "roles.json"
        roles.write_text(json.dumps(ingredients.variables(), indent=2))
        manifest = Path(scratch) / "manifest.json"
        revision = git_revision()
        variables = {
            "region": settings.aws_region,
            "instance_type": settings.instance_type,
            "subnet_id": settings.subnet_id,
            "image_name": f"classreflect-whisper-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            "git_revision": revision,
            "processor_version": ingredients.built.release.version,
            "model": f"{EngineName.FASTER_WHISPER}/{_MODEL}",
            "model_sha256": ingredients.model_sha256,
            "ansible_playbook": str(IMAGE_VENV / "ansible-playbook"),
            "ansible_variables": str(roles),
            "verify_command": f"cd '{REPOSITORY}' && '{sys.executable}' -m ops verify-baked",
            "manifest": str(manifest),
        } | dict(overrides or {})
        chosen = Path(scratch) / "chosen.pkrvars.json"
        chosen.write_text(json.dumps(variables, indent=2))
        _run_packer(packer, chosen, environment or {}, say)
        builds = json.loads(manifest.read_text())["builds"]
    return str(builds[-1]["artifact_id"]).rsplit(":", 1)[-1]


def _run_packer(folder: Path, variables: Path, environment: Mapping[str, str], say: Say) -> None:
    path = f"{IMAGE_VENV}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PATH": path, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1"}
    command = [packer_program(), "build", "-color=false", f"-var-file={variables}", str(folder)]
    lines: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **quiet, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            text = re.sub(r"^(==>)?\s*amazon-ebs\.appliance: ?", "", line.rstrip().rstrip("*"))
            if text.strip():
                lines.append(text)
                say(f"  {text}")
    if process.returncode != 0:
        told = next(
            (text for text in reversed(lines) if "rror" in text), lines[-1] if lines else "it said nothing"
        )
        raise OpsError(f"the bake failed: {told.strip()}")


def packer_program() -> str:
    found = shutil.which("packer")
    if found is None:
        raise OpsError("packer is not installed: run `make setup-image`")
    return found


def packer_version() -> tuple[int, ...]:
    told = subprocess.run([packer_program(), "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", told)
    if match is None:
        raise OpsError(f"packer does not say its version: {told.strip()}")
    return tuple(int(part) for part in match.groups())


def without_what_old_packer_lacks(target: Path) -> list[str]:
    """Copy the templates for Packer 1.6; returns what was left out, each as a line for people."""
    target.mkdir(parents=True, exist_ok=True)
    for path in PACKER.iterdir():
        if path.name != "plugins.pkr.hcl":
            shutil.copy(path, target / path.name)
    source = target / "sources.pkr.hcl"
    text = source.read_text()
    text, blocks = re.subn(r"(?m)^  metadata_options \{\n(?:    .*\n)*  \}\n", "", text)
    text, settings = re.subn(r"(?m)^  imds_support\s*=.*\n", "", text)
    if (blocks, settings) != (1, 1):
        raise OpsError(
            f"{source.name} has not just one metadata_options and one imds_support: mend ops/images/bake.py"
        )
    source.write_text(text)
    return ["the pinned plugins (plugins.pkr.hcl)", "metadata_options and imds_support (IMDSv2)"]


def validate(say: Say) -> None:
    """Check format and validity with whichever Packer is here, saying what it cannot check. Raises OpsError."""
    program, version = packer_program(), packer_version()
    shown = ".".join(map(str, version))
    with tempfile.TemporaryDirectory(prefix="packer-") as scratch:
        folder = PACKER
        missing: list[str] = []
        if version < (1, 9):
            folder = Path(scratch) / "packer"
            missing = without_what_old_packer_lacks(folder)
        else:
            _check([program, "init", str(PACKER)], "packer init")
        _check([program, "fmt", "-check", "-diff", str(PACKER)], "packer fmt: run `packer fmt packer`")
        wanted = ("image_name", "git_revision", "processor_version", "model", "model_sha256", "manifest")
        values = [f"-var={name}=check" for name in wanted]
        variables = Path(scratch) / "roles.json"
        variables.write_text("{}")
        values += [f"-var=ansible_variables={variables}", "-var=verify_command=true"]
        playbook = IMAGE_VENV / "ansible-playbook"
        values.append(f"-var=ansible_playbook={playbook}")
        if folder != PACKER:  # its templates name the playbooks beside them
            (Path(scratch) / "ansible").symlink_to(ANSIBLE)
        _check([program, "validate", *values, str(folder)], "packer validate")
    say(f"packer {shown}: format and templates are right")
    for what in missing:
        say(f"packer {shown} does not know, so did not check: {what}")


def _check(command: Sequence[str], what: str) -> None:
    path = f"{IMAGE_VENV}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": path,
        "CHECKPOINT_DISABLE": "1",
        "AWS_ACCESS_KEY_ID": "check",
        "AWS_SECRET_ACCESS_KEY": "check",
    }
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).strip().splitlines()
        raise OpsError(f"{what}: {' | '.join(line.strip() for line in lines if line.strip())[:600]}")


def git_revision() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    revision = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{revision}-dirty" if git("status", "--porcelain") else revision


def run_suite(hosts: str, marks: str, environment: Mapping[str, str], *, key: Path | None = None) -> None:
    """Run tests/image against a machine (see tests/image/conftest.py). Raises OpsError when a check fails."""
    settings = {**environment, "IMAGE_HOSTS": hosts}
    if key is not None:
        config = key.with_name("ssh_config")
        config.write_text(
            "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            f"  ControlMaster auto\n  ControlPersist 10s\n  ControlPath {key.with_name('c-%C')}\n"
        )
        settings |= {"IMAGE_SSH_IDENTITY_FILE": str(key), "IMAGE_SSH_CONFIG": str(config)}
    command = [sys.executable, "-m", "pytest", "tests/image", "-p", "no:cacheprovider", "-m", marks, "-q", "-rs"]
    result = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **settings}, check=False)
    if result.returncode != 0:
        raise OpsError("the machine is not as it should be: see the checks above")


def verify_baked(environment: Mapping[str, str]) -> None:
    """Called by Packer inside the bake: the machine is named by IMAGE_* variables, its key is one of them."""
    with tempfile.TemporaryDirectory(prefix="bake-") as scratch:
        key = Path(scratch) / "key"
        key.touch(mode=0o600)
        key.write_text(environment["IMAGE_KEY"].rstrip("\n") + "\n")
        user, host, port = (environment[f"IMAGE_{name}"] for name in ("USER", "HOST", "PORT"))
        run_suite(f"ssh://{user}@{host}:{port}", "not booted", {}, key=key)
