"""One booted root: systemd-nspawn on a copy-on-write clone (or on the root itself), in a cgroup of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local.errors import LocalError
from local.machines.base import Execution
from local.platform.processes import Service, spawn

_CGROUPS = Path("/sys/fs/cgroup")
_BOOT_SECONDS = 120.0
_HALT_SECONDS = 150.0
_CUT_OFF = 124  # timeout(1)'s exit code
_REBOOT = 133
_LONG_JOB = "whisper-processor-update.service"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def obstacle() -> str | None:
    """Why no container can boot here. None when one can."""
    if sys.platform != "linux":
        return "only Linux has systemd-nspawn"
    if os.geteuid() != 0:
        return "it takes root"
    missing = [name for name in ("systemd-nspawn", "debootstrap", "nsenter", "ip") if not shutil.which(name)]
    return f"{', '.join(missing)} is missing: run `make setup-image`" if missing else None


@dataclass(frozen=True)
class Container:
    """A booted root. `name` becomes its host name, and must be unique on this host."""

    name: str
    root: Path
    folder: Path
    """Process records, the console's log."""
    network: Path | None = None
    """A network namespace. None shares the host's."""
    binds: Mapping[Path, str] = field(default_factory=dict)
    """Folders of the host, read-only in the machine."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the machine's systemd."""

    @property
    def service(self) -> Service:
        return Service(self.name, self.folder / "run", self.folder / "console.log")

    def start(self) -> None:
        """Boot, and return once systemd answers. Raises LocalError."""
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--link-journal=no"]
        argv += [f"--directory={self.root}", f"--machine={self.name}", f"--hostname={self.name}"]
        argv += ["--timezone=off", "--console=read-only"]
        argv.append("--resolv-conf=off" if self.network else "--resolv-conf=copy-host")
        if self.network:
            argv.append(f"--network-namespace-path={self.network}")
        argv += [f"--bind-ro={source}:{target}" for source, target in self.binds.items()]
        argv += [f"--setenv={name}={value}" for name, value in self.environment.items()]
        join = " ".join(f"echo $$ >{folder}/cgroup.procs;" for folder in _make_cgroups(self.name))
        once = ["/bin/sh", "-c", f'{join} exec "$@"', "sh", *argv]
        # nspawn leaves a reboot to whoever started it.
        loop = f'until "$@"; do code=$?; [ $code -eq {_REBOOT} ] || exit $code; done'
        self.service.start(["/bin/sh", "-c", loop, "sh", *once], {"PATH": os.environ["PATH"]})
        deadline = time.monotonic() + _BOOT_SECONDS
        while not self._booted():
            if not self.running() or time.monotonic() > deadline:
                last = self.service.last_words()
                self.stop()
                raise LocalError(f"{self.name} did not boot: {last}")
            time.sleep(0.2)

    def _booted(self) -> bool:
        """Up, or installing an update before the worker starts. SSM reaches an appliance then, too."""
        told = self.execute(f"systemctl is-system-running; systemctl is-active {_LONG_JOB}", 10).stdout.split()
        return bool(told) and (told[0] in {"running", "degraded"} or told[-1] == "activating")

    def running(self) -> bool:
        return self.service.process() is not None

    def stop(self, seconds: float = _HALT_SECONDS) -> None:
        """Shut down cleanly, kill after `seconds`. Safe to repeat."""
        with suppress(psutil.NoSuchProcess):
            leader = self._leader()
            if leader is not None:
                leader.send_signal(signal.SIGRTMIN + 4)  # systemd's poweroff
                psutil.wait_procs([leader], seconds)
        process = self.service.process()
        if process is not None and psutil.wait_procs([process], 5)[1]:
            for child in reversed(process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        self.service.stop(10)
        _remove_cgroups(self.name)

    def cut_power(self) -> None:
        """Kill the machine without warning. What it wrote to its disk stays."""
        leader = self._leader()
        if leader is not None:
            leader.kill()  # the kernel ends all of its processes with it

    def execute(self, script: str, timeout: float) -> Execution:
        """Run a script inside, as root. The exit code is 124 after `timeout` seconds, 255 when it does not run."""
        leader = self._leader()
        if leader is None:
            return Execution(255, "", f"{self.name} does not run")
        with spawn([*self._enter(leader.pid), "/bin/sh", "-c", script]) as command:
            try:
                stdout, stderr = command.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(command.pid, signal.SIGKILL)
                stdout, stderr = command.communicate()
                return Execution(_CUT_OFF, stdout, f"{stderr}\nended after {timeout:.0f} s")
        return Execution(command.returncode, stdout, stderr)

    def shell(self) -> Sequence[str]:
        leader = self._leader()
        if leader is None:
            raise LocalError(f"{self.name} does not run")
        return [*self._enter(leader.pid), "/bin/bash", "-l"]

    def _leader(self) -> psutil.Process | None:
        """The machine's first process, which is nspawn's only child."""
        process = self.service.process()
        if process is None:
            return None
        with suppress(psutil.NoSuchProcess):
            for nspawn in process.children():
                for child in nspawn.children():
                    if child.name() == "systemd":
                        return child
        return None

    @staticmethod
    def _enter(pid: int) -> list[str]:
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")
        clean = ["/usr/bin/env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm"]
        return ["nsenter", f"--target={pid}", *spaces, "--", *clean]


def mount_clone(base: Path, folder: Path) -> Path:
    """A writable view of `base`. What is written is kept in `folder`. Returns the merged root."""
    upper, work, merged = (folder / name for name in ("upper", "work", "root"))
    for path in (upper, work, merged):
        path.mkdir(parents=True, exist_ok=True)
    if not merged.is_mount():
        options = f"lowerdir={base},upperdir={upper},workdir={work}"
        command = ["mount", "-t", "overlay", f"whisper-{folder.name}", "-o", options, str(merged)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise LocalError(f"no copy-on-write clone of {base}: {result.stderr.strip()}")
    return merged


def unmount_clone(folder: Path) -> None:
    """Remove the view. What was written stays. Does nothing when there is no view."""
    merged = folder / "root"
    if merged.is_mount():
        subprocess.run(["umount", "--lazy", str(merged)], check=False, capture_output=True)


def _make_cgroups(name: str) -> list[Path]:
    """A cgroup in each hierarchy of this host. Two machines in one cgroup would stop each other's services."""
    made = []
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        with suppress(OSError):  # one that is mounted read-only is none the container could use
            folder.mkdir(exist_ok=True)
            if hierarchy.name == "cpuset":
                for setting in ("cpuset.cpus", "cpuset.mems"):
                    (folder / setting).write_text((hierarchy / setting).read_text())
            made.append(folder)
    return made


def _remove_cgroups(name: str) -> None:
    """The kernel releases a cgroup a moment after its last process."""
    deadline = time.monotonic() + 3
    left = [hierarchy / name for hierarchy in _hierarchies()]
    while left and time.monotonic() < deadline:
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
        left = [top for top in left if top.exists()]
        if left:
            time.sleep(0.1)


def _hierarchies() -> list[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [
        path for path in sorted(_CGROUPS.iterdir()) if not path.is_symlink() and (path / "cgroup.procs").exists()
    ]
