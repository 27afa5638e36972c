"""Run the appliance's tests (`tests/image`) against a machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ops.errors import OpsError
from ops.settings import REPOSITORY


def run_suite(hosts: str, markers: str, environment: Mapping[str, str], *, key: Path | None = None) -> None:
    """Run the tests that match the marker expression on each host. Raises OpsError when one fails."""
    settings = {**environment, "IMAGE_HOSTS": hosts}
    if key is not None:
        config = key.with_name("ssh_config")
        config.write_text(
            "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            f"  ControlMaster auto\n  ControlPersist 10s\n  ControlPath {key.with_name('c-%C')}\n"
        )
        settings |= {"IMAGE_SSH_IDENTITY_FILE": str(key), "IMAGE_SSH_CONFIG": str(config)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/image",
        "-p",
        "no:cacheprovider",
        "-m",
        markers,
        "-q",
        "-rs",
    ]
    result = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **settings}, check=False)
    if result.returncode != 0:
        raise OpsError("the machine is not as it should be: see the checks above")


def verify_baked(environment: Mapping[str, str]) -> None:
    """Test the machine inside a bake. Packer passes its address and its SSH key in IMAGE_* variables."""
    with tempfile.TemporaryDirectory(prefix="bake-") as scratch:
        key = Path(scratch) / "key"
        key.touch(mode=0o600)
        key.write_text(environment["IMAGE_KEY"].rstrip("\n") + "\n")
        user, host, port = (environment[f"IMAGE_{name}"] for name in ("USER", "HOST", "PORT"))
        run_suite(f"ssh://{user}@{host}:{port}", "not booted", {}, key=key)
