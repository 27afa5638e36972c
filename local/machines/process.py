"""A machine that is a process: the checkout's processor, run by the invoking user in the instance's folder.

It boots at once and needs no root. It is not a machine: docs/architecture.md says what that leaves out.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from local.machines.base import Blueprint, Execution, Shell
from local.machines.unit import Unit
from local.platform.channel import ChannelServer, Message
from local.platform.processes import spawn

_HALT_SECONDS = 30.0
_CUT_OFF = 124  # timeout(1)'s exit code
_PROCESSOR = Path("ansible/roles/processor/files/processor.py")
_PASSED = ("PATH", "HOME", "LANG", "TMPDIR", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "DATABASE_CA")


class ProcessMachine:
    def __init__(self, blueprint: Blueprint) -> None:
        self._folder = blueprint.folder
        notice = self._folder / "spot-notice"
        notice.unlink(missing_ok=True)
        self._metadata = blueprint.serve_metadata(notice)
        self._environment = _install(blueprint, self._metadata.endpoint)
        self._unit = Unit([sys.executable, "processor.py"], self._environment, self._folder, blueprint.log)
        self._commands: set[subprocess.Popen[str]] = set()
        self._systemd = ChannelServer(self._folder, self._control)
        self._unit.start()

    def halt(self) -> None:
        self._unit.stop(_HALT_SECONDS)
        for command in list(self._commands):
            _kill(command)
        self._systemd.close()
        self._metadata.close()

    def powered_off(self) -> bool:
        """Never: nothing that runs on it can switch the host off."""
        return False

    def execute(self, script: str, timeout: float) -> Execution:
        with spawn(["/bin/sh", "-c", script], cwd=self._folder, env=self._environment) as command:
            self._commands.add(command)
            try:
                stdout, stderr = command.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                _kill(command)
                stdout, stderr = command.communicate()
                return Execution(_CUT_OFF, stdout, f"{stderr}\nended after {timeout:.0f} s")
            finally:
                self._commands.discard(command)
        return Execution(command.returncode, stdout, stderr)

    def shell(self) -> Shell:
        return Shell(["/bin/bash", "--norc", "-i"], str(self._folder), self._environment | {"PS1": "appliance$ "})

    def _control(self, request: Message) -> Message:
        code, text = self._unit.control(request["verb"])
        return {"code": code, "text": text}


def _install(blueprint: Blueprint, metadata_endpoint: str) -> dict[str, str]:
    """Install the appliance's files as far as there are any. Returns the environment of all that runs on it.

    Only what a booted appliance would know is passed on. Credentials come from the metadata service.
    """
    folder = blueprint.folder
    binaries = folder / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    checkout = Path(__file__).resolve().parent.parent.parent
    systemctl = binaries / "systemctl"
    systemctl.write_text(
        "#!/bin/sh\n"
        f"PYTHONPATH={shlex.quote(str(checkout))} exec {shlex.quote(sys.executable)}"
        f' -m local.machines.systemctl {shlex.quote(str(folder))} "$@"\n'
    )
    systemctl.chmod(0o755)
    shutil.copyfile(checkout / _PROCESSOR, folder / "processor.py")
    current = folder / "current"  # the release, where processor.py looks for its interpreter
    current.unlink(missing_ok=True)
    current.symlink_to(sys.prefix)
    baked = folder.parent.parent / "images" / blueprint.identity.image_id
    if baked.is_dir():  # an image here is a set of files that replace the checkout's
        shutil.copytree(baked, folder, dirs_exist_ok=True)
    search = [str(binaries), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
        "PATH": os.pathsep.join(search),
        "WHISPER_HOME": str(folder),
        "WHISPER_MODELS_DIR": str(blueprint.models_dir),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata_endpoint,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONUNBUFFERED": "1",
    }


def _kill(command: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(command.pid, signal.SIGKILL)
