"""Find Packer, run it, and check its templates, with whichever version is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ops.errors import OpsError
from ops.releases.archive import ANSIBLE
from ops.settings import REPOSITORY

Say = Callable[[str], None]
TEMPLATES = REPOSITORY / "packer"
IMAGE_VENV = REPOSITORY / ".local" / "image-venv" / "bin"


def build(templates: Path, variables: Path, environment: Mapping[str, str], say: Say) -> None:
    """Run the build and report its progress. Raises OpsError when a step or a check fails."""
    path = f"{IMAGE_VENV}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PATH": path, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1"}
    command = [find_program(), "build", "-color=false", f"-var-file={variables}", str(templates)]
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


def find_program() -> str:
    found = shutil.which("packer")
    if found is None:
        raise OpsError("packer is not installed: run `make setup-image`")
    return found


def installed_version() -> tuple[int, ...]:
    told = subprocess.run([find_program(), "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", told)
    if match is None:
        raise OpsError(f"packer does not say its version: {told.strip()}")
    return tuple(int(part) for part in match.groups())


def without_what_old_packer_lacks(target: Path) -> list[str]:
    """Copy the templates for Packer 1.6 without what it does not support; returns what was left out, in words."""
    target.mkdir(parents=True, exist_ok=True)
    for path in TEMPLATES.iterdir():
        if path.name != "plugins.pkr.hcl":
            shutil.copy(path, target / path.name)
    source = target / "sources.pkr.hcl"
    text = source.read_text()
    text, blocks = re.subn(r"(?m)^  metadata_options \{\n(?:    .*\n)*  \}\n", "", text)
    text, settings = re.subn(r"(?m)^  imds_support\s*=.*\n", "", text)
    if (blocks, settings) != (1, 1):
        raise OpsError(
            f"{source.name} has not just one metadata_options and one imds_support: correct ops/images/packer.py"
        )
    source.write_text(text)
    return ["the pinned plugins (plugins.pkr.hcl)", "metadata_options and imds_support (IMDSv2)"]


def validate(say: Say) -> None:
    """Check the templates' format and validity, and report what this Packer cannot check. Raises OpsError."""
    program, version = find_program(), installed_version()
    shown = ".".join(map(str, version))
    with tempfile.TemporaryDirectory(prefix="packer-") as scratch:
        folder = TEMPLATES
        missing: list[str] = []
        if version < (1, 9):
            folder = Path(scratch) / "packer"
            missing = without_what_old_packer_lacks(folder)
        else:
            _check([program, "init", str(TEMPLATES)], "packer init")
        _check([program, "fmt", "-check", "-diff", str(TEMPLATES)], "packer fmt: run `packer fmt packer`")
        wanted = ("image_name", "git_revision", "processor_version", "model", "model_sha256", "manifest")
        values = [f"-var={name}=check" for name in wanted]
        variables = Path(scratch) / "roles.json"
        variables.write_text("{}")
        values += [f"-var=ansible_variables={variables}", "-var=verify_command=true"]
        playbook = IMAGE_VENV / "ansible-playbook"
        values.append(f"-var=ansible_playbook={playbook}")
        if folder != TEMPLATES:  # its templates name the playbooks beside them
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
