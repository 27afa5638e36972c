"""Bake the appliance's image.

`make ami` bakes on AWS. `make image` runs the same templates against an emulated EC2 on this machine.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contracts.jobs import EngineName
from contracts.names import PRODUCT
from ops import git
from ops.images import packer
from ops.images.ingredients import MODEL, Ingredients
from ops.settings import REPOSITORY, OpsSettings

Say = Callable[[str], None]
WORK = REPOSITORY / ".local" / "image"


def bake(
    settings: OpsSettings,
    ingredients: Ingredients,
    say: Say,
    *,
    templates: Path = packer.TEMPLATES,
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run Packer and report its progress; returns the AMI's id. Raises OpsError when a step or a check fails."""
    WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK, prefix=".bake-") as scratch:
        roles = Path(scratch) / "roles.json"
        roles.write_text(json.dumps(ingredients.variables(), indent=2))
        manifest = Path(scratch) / "manifest.json"
        variables = {
            "region": settings.aws_region,
            "instance_type": settings.instance_type,
            "subnet_id": settings.subnet_id,
            "image_name": f"{PRODUCT}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            "git_revision": git.revision(),
            "processor_version": ingredients.built.release.version,
            "model": f"{EngineName.FASTER_WHISPER}/{MODEL}",
            "model_sha256": ingredients.model_sha256,
            "ansible_playbook": str(packer.IMAGE_VENV / "ansible-playbook"),
            "ansible_variables": str(roles),
            "verify_command": f"cd '{REPOSITORY}' && '{sys.executable}' -m ops verify-baked",
            "manifest": str(manifest),
        } | dict(overrides or {})
        chosen = Path(scratch) / "chosen.pkrvars.json"
        chosen.write_text(json.dumps(variables, indent=2))
        packer.build(templates, chosen, environment or {}, say)
        builds = json.loads(manifest.read_text())["builds"]
    return str(builds[-1]["artifact_id"]).rsplit(":", 1)[-1]
