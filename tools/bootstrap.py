"""Install what a fresh machine lacks. Runs before there is a venv, so it uses the standard library only.

`python3.11 tools/bootstrap.py` sets up the demo; `--tests` adds what the tests need (torch, the linters),
`--image` what bakes and boots the appliance's image, `--planner` what `make plan` needs.
What is already in place is left alone, so it runs in an instant the second time.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = REPOSITORY / "requirements"
VENV = REPOSITORY / ".venv"
LOCAL = REPOSITORY / ".local"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class BootstrapError(Exception):
    """What is missing and how to get it, in one line."""


@dataclass(frozen=True)
class SystemPackage:
    names: tuple[str, ...]
    """Package names in order of preference; distributions differ."""
    program: str
    why: str


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", action="store_true", help="also install what the tests need")
    parser.add_argument("--image", action="store_true", help="also install what bakes and boots the image")
    parser.add_argument("--planner", action="store_true", help="also install what the planner needs")
    options = parser.parse_args()
    tests, image = options.tests, options.image
    try:
        chosen = [*DEMO_PACKAGES, *(TEST_PACKAGES if tests else ()), *(IMAGE_PACKAGES if image else ())]
        install_system_packages(chosen)
        install_project()
        install_apart("emulator", "the AWS emulator")
        if tests or image:  # baking converts the reference engine's model where its host is out of reach
            install_reference_engine()
        if tests or options.planner:
            install_planner()
        if tests:
            install_apart("awscli", "the AWS CLI")
            install_apart("chaos", "the fault proxy of tests/scenarios/chaos")
        if image:
            install_apart("image", "Ansible, its linter, and the EC2 the rehearsal's Packer speaks to")
    except BootstrapError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - there is no console library yet
        return 1
    return 0


def install_system_packages(packages: list[SystemPackage]) -> None:
    missing = [package for package in packages if not _program(package.program)]
    wanted: list[str] = []
    if importlib.util.find_spec("ensurepip") is None:
        wanted.append("python3.11-venv")
        _say("python3.11-venv: makes the project's own Python environments")
    if not missing and not wanted:
        return
    if not shutil.which("apt-get"):
        names = ", ".join(package.program for package in missing) or "python3.11-venv"
        raise BootstrapError(f"this machine has no apt-get: install by hand what provides {names}")
    if any(not _known_to_apt(package.names) for package in missing):
        _run("apt-get update", _as_root("apt-get", "update", "-q"))
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


def install_project() -> None:
    """.venv: the processor, the operator's commands, the test tools; every package by hash."""
    sources = [REQUIREMENTS / "project.lock", REPOSITORY / "processor" / "pyproject.toml"]
    if _up_to_date(VENV, "project", sources):
        return
    pip = _make_venv(VENV)
    lock = str(REQUIREMENTS / "project.lock")
    _run("Python packages of the project (.venv)", [*pip, "install", "--require-hashes", "-r", lock])
    editable = ["install", "--no-deps", "--no-build-isolation", "-e", str(REPOSITORY / "processor")]
    _run("the processor itself", [*pip, *editable])
    _remember(VENV, "project", sources)


def install_apart(name: str, what: str) -> None:
    """.local/NAME-venv from requirements/NAME.lock: a tool that cannot share the project's botocore."""
    folder = LOCAL / f"{name}-venv"
    sources = [REQUIREMENTS / f"{name}.lock"]
    if _up_to_date(folder, name, sources):
        return
    pip = _make_venv(folder)
    _run(f"{what} (.local/{folder.name})", [*pip, "install", "--require-hashes", "-r", str(sources[0])])
    _remember(folder, name, sources)


def install_planner() -> None:
    """Into .venv as well: the planner calls the project's own code. Its lock is compiled to fit project.lock."""
    sources = [REQUIREMENTS / "planner.lock"]
    if _up_to_date(VENV, "planner", sources):
        return
    pip = _make_venv(VENV)
    _run("simulation and plots (.venv)", [*pip, "install", "--require-hashes", "-r", str(sources[0])])
    _remember(VENV, "planner", sources)


def install_reference_engine() -> None:
    """openai-whisper and the CPU build of torch, for the tests that compare the engines."""
    sources = [REQUIREMENTS / "torch.txt", REQUIREMENTS / "openai-whisper.lock"]
    if _up_to_date(VENV, "openai-whisper", sources):
        return
    pip = _make_venv(VENV)
    torch = [*pip, "install", "--no-deps", "-r", str(sources[0])]
    try:
        _run("torch, CPU build", [*torch, "--index-url", TORCH_CPU_INDEX, "--timeout", "5", "--retries", "0"])
    except BootstrapError:
        # Never the general index, whose torch is gigabytes of CUDA: only what this machine offers pip itself.
        _run("torch, from this machine's own wheels", [*torch, "--no-index"])
    _run(
        "openai-whisper",
        [*pip, "install", "--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(sources[1])],
    )
    _remember(VENV, "openai-whisper", sources)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


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


def _make_venv(folder: Path) -> list[str]:
    python = folder / "bin" / "python"
    if not python.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted setup left
        _run(f"environment {folder.name}", [sys.executable, "-m", "venv", str(folder)])
    return [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]


def _marker(folder: Path, part: str) -> Path:
    return folder / f".{part}.sha256"


def _digest(sources: list[Path]) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _up_to_date(folder: Path, part: str, sources: list[Path]) -> bool:
    marker = _marker(folder, part)
    return marker.exists() and marker.read_text() == _digest(sources)


def _remember(folder: Path, part: str, sources: list[Path]) -> None:
    _marker(folder, part).write_text(_digest(sources))


def _run(what: str, command: list[str]) -> None:
    """Run quietly, telling every ten seconds that it still does; on failure show the last lines."""
    started = time.monotonic()
    _say(what)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=10)
                break
            except subprocess.TimeoutExpired:
                _say(f"  ... {time.monotonic() - started:.0f} s")
    if process.returncode != 0:
        raise BootstrapError(f"{what} failed: {' | '.join(output.strip().splitlines()[-3:])}")


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)  # noqa: T201 - there is no console library yet


if __name__ == "__main__":
    sys.exit(main())
