"""Install a release with the Ansible roles it contains, the same ones that bake an image."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from whisper_processor.releases import Release, ReleaseManifest

_INSTALL_SECONDS = 900.0
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class InstallFailed(Exception):
    """The roles failed; the message names the task."""


@dataclass(frozen=True)
class Installer:
    ansible: Path
    """The virtual environment with Ansible."""

    def install(self, release: Release, archive: Path, wheelhouse: Path, scratch: Path) -> None:
        """Install the release beside the others; no link changes. `wheelhouse` is read only when its runtime is
        missing. Raises InstallFailed."""
        unpacked = scratch / "release"
        manifest = unpack(archive, unpacked)
        if manifest.version != release.version or manifest.wheelhouse_sha256 != release.wheelhouse.sha256:
            raise InstallFailed("the archive is not the release that the pointer describes")
        variables = scratch / "variables.json"
        variables.write_text(
            json.dumps(
                {
                    "ansible_become": False,
                    "processor_wheel": str(unpacked / manifest.wheel),
                    "processor_wheel_sha256": manifest.wheel_sha256,
                    "processor_release_name": release.name,
                    "processor_release_sha256": release.archive.sha256,
                    "whisper_wheelhouse": str(wheelhouse),
                    "whisper_wheelhouse_sha256": release.wheelhouse.sha256,
                }
            )
        )
        command = [str(self.ansible / "bin" / "ansible-playbook"), "--connection=local", "--inventory=localhost,"]
        command += ["--extra-vars", f"@{variables}", str(unpacked / "ansible" / "release.yml")]
        environment = {
            "PATH": f"{self.ansible / 'bin'}{os.pathsep}{_SYSTEM_PATH}",
            "HOME": str(scratch),
            "LANG": "C.UTF-8",
            "ANSIBLE_CONFIG": str(unpacked / "ansible" / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(scratch / "ansible"),
            "ANSIBLE_REMOTE_TEMP": str(scratch / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "True",  # modules go through a pipe instead of files, in half the time
        }
        try:
            ended = subprocess.run(
                command,
                cwd=unpacked / "ansible",
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise InstallFailed(f"its roles did not end within {_INSTALL_SECONDS:.0f} s") from error
        except OSError as error:
            raise InstallFailed(f"Ansible cannot be run: {error}") from error
        if ended.returncode != 0:
            raise InstallFailed(f"its roles failed: {failed_task(ended.stdout, ended.stderr)}")


def unpack(archive: Path, target: Path) -> ReleaseManifest:
    """Raises InstallFailed for anything but plain files inside the archive, and for a missing manifest."""
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                parts = Path(member.name).parts
                if not member.isreg() or member.name.startswith("/") or ".." in parts:
                    raise InstallFailed(f"the archive holds {member.name!r}, which is no plain file inside it")
            tar.extractall(target, members)  # noqa: S202 - each was checked above
        return ReleaseManifest.model_validate_json((target / "release.json").read_text())
    except (tarfile.TarError, OSError) as error:
        raise InstallFailed(f"the archive cannot be unpacked: {error}") from error
    except ValidationError as error:
        raise InstallFailed("the archive's release.json cannot be read") from error


def failed_task(stdout: str, stderr: str) -> str:
    """Which task failed, and its message, on one line."""
    task, message = "", ""
    lines = stdout.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("TASK "):
            task = line.removeprefix("TASK ").strip("[]* ")
        elif line.startswith(("fatal:", "failed:", "[ERROR]")):
            message = " ".join(part.strip() for part in lines[number : number + 6] if not part.startswith("PLAY"))
            break
    said = message or " ".join(stderr.split()) or "it said nothing"
    return f"{task}: {said}"[:600] if task else said[:600]
