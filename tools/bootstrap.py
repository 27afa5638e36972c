"""Install what a fresh machine lacks. Runs before there is a venv, so it uses the standard library only.

`python3.11 tools/bootstrap.py` sets up the demo; `--tests` adds what the tests need (torch, the linters),
`--image` what bakes and boots the appliance's image, `--planner` what `make plan` needs.
What is already in place is left alone, so it runs in an instant the second time. Installations run in parallel.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
VENV = REPOSITORY / ".venv"
LOCAL = REPOSITORY / ".local"
PROCESSOR = REPOSITORY / "processor"
UV_VARIABLES = {  # pip's options, and the variables that mean the same to uv
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_OFFLINE",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}
UNFINISHED = ".unfinished"  # a file in an environment while packages are installed into it
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class BootstrapError(Exception):
    """What is missing and how to get it, in one line."""


@dataclass(frozen=True)
class SystemPackage:
    names: tuple[str, ...]  # in order of preference, because distributions differ
    program: str
    why: str


VENV_PACKAGE = SystemPackage(("python3.11-venv",), "ensurepip", "makes the project's own Python environments")
# The server alone (-core), not mariadb-server: that would also start a database service on this machine.
DEMO_PACKAGES = (
    SystemPackage(
        ("mariadb-client-core", "mariadb-client-core-10.6"),
        "my_print_defaults",
        "what makes the database's first data directory needs it",
    ),
    SystemPackage(
        ("mariadb-server-core", "mariadb-server-core-10.6", "mariadb-server"),
        "mariadb-install-db",
        "the database that stands in for Aurora MySQL",
    ),
    SystemPackage(("ffmpeg",), "ffprobe", "decodes the recordings"),
)
IMAGE_PACKAGES = (
    SystemPackage(("packer",), "packer", "bakes the appliance's image"),
    SystemPackage(("debootstrap",), "debootstrap", "makes the Debian root that the rehearsal bakes"),
    SystemPackage(("systemd-container",), "systemd-nspawn", "boots that root, and the appliance's copies"),
    SystemPackage(("openssh-client",), "ssh-keygen", "Packer, Ansible and the image's tests come in by SSH"),
    SystemPackage(("iproute2",), "ip", "gives each of those machines a network of its own"),
)
TEST_PACKAGES = (
    SystemPackage(("shellcheck",), "shellcheck", "checks the shell scripts"),
    SystemPackage(("openssl",), "openssl", "makes the certificate of a local cloud that speaks TLS"),
)


@dataclass(frozen=True)
class Uv:
    """The installer. It reads no pip.conf, so it is given pip's package sources as environment variables."""

    program: Path
    sources: Mapping[str, str]

    def run(self, what: str, *arguments: str | Path, **variables: str) -> None:
        _run(what, [str(self.program), *map(str, arguments)], {**self.sources, **os.environ, **variables})

    def install(self, what: str, folder: Path, *arguments: str | Path, **variables: str) -> None:
        # Compiled now, as pip does: with PYTHONDONTWRITEBYTECODE set, every process would compile what it imports.
        command = ("pip", "install", "--compile-bytecode", "--python", folder / "bin" / "python")
        self.run(f"{what} ({folder.relative_to(REPOSITORY)})", *command, *arguments, **variables)


@dataclass(frozen=True)
class Part:
    """Packages that are installed into an environment together, and the files that pin them."""

    name: str
    pins: Sequence[Path]
    install: Callable[[Uv, Path], None]

    def up_to_date(self, folder: Path) -> bool:
        marker = folder / f".{self.name}.sha256"
        return marker.exists() and marker.read_text() == self._digest()

    def remember(self, folder: Path) -> None:
        (folder / f".{self.name}.sha256").write_text(self._digest())

    def _digest(self) -> str:
        return hashlib.sha256(b"".join(pin.read_bytes() for pin in self.pins)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", action="store_true", help="also install what the tests need")
    parser.add_argument("--image", action="store_true", help="also install what bakes and boots the image")
    parser.add_argument("--planner", action="store_true", help="also install what the planner needs")
    options = parser.parse_args()
    try:
        if importlib.util.find_spec("ensurepip") is None:
            install_system_packages([VENV_PACKAGE])
        set_up(tests=options.tests, image=options.image, planner=options.planner)
    except BootstrapError as error:
        sys.exit(f"error: {error}")


def set_up(*, tests: bool, image: bool, planner: bool) -> None:
    packages = [*DEMO_PACKAGES, *(TEST_PACKAGES if tests else ()), *(IMAGE_PACKAGES if image else ())]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    missing = [package for package in packages if not shutil.which(package.program, path=path)]
    project = [Part("project", [REQUIREMENTS / "project.lock", PROCESSOR / "pyproject.toml"], _install_project)]
    if tests or image:  # baking converts the reference engine's model where its host is out of reach
        pins = [REQUIREMENTS / "torch.txt", REQUIREMENTS / "openai-whisper.lock"]
        project.append(Part("openai-whisper", pins, _install_reference_engine))
    if tests or planner:  # into .venv, because the planner calls the project's own code
        project.append(_locked("planner", "simulation and plots"))
    apart = {"emulator": "the AWS emulator"}
    if tests:
        apart |= {"awscli": "the AWS CLI", "chaos": "the fault proxy of tests/scenarios/chaos"}
    if image:
        apart |= {"image": "Ansible, its linter, and the EC2 the rehearsal's Packer speaks to"}
    environments = partial(install_environments, {VENV: project, **_apart(apart)})
    _in_parallel([partial(install_system_packages, missing), environments])


def install_apart(name: str, what: str) -> None:
    """.local/NAME-venv from requirements/NAME.lock: a tool that cannot share the project's botocore."""
    install_environments(_apart({name: what}))


def install_system_packages(missing: Sequence[SystemPackage]) -> None:
    if not missing:
        return
    if not shutil.which("apt-get"):
        names = ", ".join(package.program for package in missing)
        raise BootstrapError(f"this machine has no apt-get: install by hand what provides {names}")
    if any(not _known_to_apt(package.names) for package in missing):
        _run("apt-get update", _as_root("apt-get", "update", "-q"))
    wanted: list[str] = []
    for package in missing:
        name = _known_to_apt(package.names)
        if name is None:
            raise BootstrapError(f"apt knows none of {', '.join(package.names)}: {package.why}")
        _say(f"{name}: {package.why}")
        wanted.append(name)
    install = ("apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted)
    try:
        _run(f"apt-get install {' '.join(wanted)}", _as_root(*install))
    except BootstrapError:  # package lists may be older than the archive
        _run("apt-get update", _as_root("apt-get", "update", "-q"))
        _run(f"apt-get install {' '.join(wanted)}", _as_root(*install))


def install_environments(environments: Mapping[Path, Sequence[Part]]) -> None:
    stale = {folder: parts for folder, parts in environments.items() if _stale(folder, parts)}
    if stale:
        uv = prepare_uv()
        _in_parallel([partial(_install_environment, uv, *environment) for environment in stale.items()])


def _stale(folder: Path, parts: Sequence[Part]) -> bool:
    return (folder / UNFINISHED).exists() or not all(part.up_to_date(folder) for part in parts)


def _install_environment(uv: Uv, folder: Path, parts: Sequence[Part]) -> None:
    unfinished = folder / UNFINISHED
    if unfinished.exists() or not (folder / "bin" / "python").exists():
        # An interrupted installation may leave packages that lack files but count as installed: start afresh.
        uv.run(f"environment {folder.name}", "venv", "--clear", "--python", sys.executable, folder)
    unfinished.touch()
    for part in parts:
        if not part.up_to_date(folder):
            part.install(uv, folder)
            part.remember(folder)
    unfinished.unlink()


def _apart(tools: Mapping[str, str]) -> dict[Path, Sequence[Part]]:
    return {LOCAL / f"{name}-venv": [_locked(name, what)] for name, what in tools.items()}


def _locked(name: str, what: str) -> Part:
    lock = REQUIREMENTS / f"{name}.lock"
    return Part(name, [lock], lambda uv, folder: uv.install(what, folder, "--require-hashes", "-r", lock))


def _install_project(uv: Uv, folder: Path) -> None:
    """The processor, the operator's commands, the test tools."""
    uv.install("Python packages of the project", folder, "--require-hashes", "-r", REQUIREMENTS / "project.lock")
    uv.install("the processor itself", folder, "--no-deps", "--no-build-isolation", "-e", PROCESSOR)


def _install_reference_engine(uv: Uv, folder: Path) -> None:
    """openai-whisper and the CPU build of torch, for the tests that compare the engines."""
    torch = ("--no-deps", "-r", REQUIREMENTS / "torch.txt")
    once = {"UV_HTTP_TIMEOUT": "5", "UV_HTTP_RETRIES": "0"}
    try:
        uv.install("torch, CPU build", folder, *torch, UV_DEFAULT_INDEX=TORCH_CPU_INDEX, UV_INDEX="", **once)
    except BootstrapError:
        # Never the general index, whose torch is gigabytes of CUDA: only the wheels this machine offers pip.
        uv.install("torch, from this machine's own wheels", folder, *torch, "--no-index")
    lock = ("--require-hashes", "-r", REQUIREMENTS / "openai-whisper.lock")
    uv.install("openai-whisper", folder, "--no-deps", "--no-build-isolation", *lock)


def prepare_uv() -> Uv:
    """In an environment of its own, by pip and hash, because it creates the others."""
    folder = LOCAL / "uv-venv"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    part = Part("uv", [REQUIREMENTS / "uv.lock"], lambda _uv, _folder: None)
    if not part.up_to_date(folder):
        _run("environment uv-venv", [sys.executable, "-m", "venv", "--clear", str(folder)])
        _run("uv, which installs the rest", [*pip, "-q", "install", "--require-hashes", "-r", str(part.pins[0])])
        part.remember(folder)
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=False)
    return Uv(folder / "bin" / "uv", _uv_variables(listed.stdout))


def _uv_variables(pip_config: str) -> dict[str, str]:
    """What `pip config list` shows, as the variables that uv reads. Later sections win, as they do in pip."""
    # All indexes count, as in pip. That is safe, because the hashes decide.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never"}
    for section in ("global", "install", ":env:"):
        for option, value in re.findall(rf"^{section}\.([a-z-]+)=(.+)$", pip_config, re.MULTILINE):
            if option in UV_VARIABLES:
                separator = "," if option == "find-links" else " "
                variables[UV_VARIABLES[option]] = separator.join(ast.literal_eval(value).split())
    return variables


def _in_parallel(jobs: Sequence[Callable[[], None]]) -> None:
    """Run every job to its end, then raise what the first failed one raised."""
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:  # not its map(), which cancels what has not begun
        started = [pool.submit(job) for job in jobs]
    for job in started:
        job.result()


def _known_to_apt(names: tuple[str, ...]) -> str | None:
    for name in names:
        shown = subprocess.run(["apt-cache", "show", name], capture_output=True, check=False)
        if shown.returncode == 0 and shown.stdout:
            return name
    return None


def _as_root(*command: str) -> list[str]:
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", *command]
    if os.geteuid() == 0:
        return quiet
    if shutil.which("sudo"):
        return ["sudo", *quiet]
    raise BootstrapError(f"root is needed once: run `{' '.join(command)}` as root")


def _run(what: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Run quietly, telling every ten seconds that it still does; on failure show the last lines."""
    started = time.monotonic()
    _say(what)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as child:
        while True:
            try:
                output, _ = child.communicate(timeout=10)
                break
            except subprocess.TimeoutExpired:
                _say(f"  {what}: {time.monotonic() - started:.0f} s")
    if child.returncode != 0:
        raise BootstrapError(f"{what} failed: {' | '.join(output.strip().splitlines()[-3:])}")


def _say(text: str) -> None:
    print(f"setup: {text}\n", end="", flush=True)  # noqa: T201 - one write, because threads share the screen


if __name__ == "__main__":
    main()
