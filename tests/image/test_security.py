"""Who may do what on the machine, and what listens."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from tests.image.roles import defaults, items, text

HOME = text("processor_home")
REHEARSAL = "/run/rehearsal"
"""Where the rehearsal's own SSH server lies; on AWS there is no such folder."""


def test_the_worker_has_an_account_nobody_can_log_in_to(host: Host) -> None:
    user = host.user(text("processor_user"))
    assert user.shell == "/usr/sbin/nologin"
    assert host.check_output(f"passwd --status {user.name}").split()[1] == "L"


@pytest.mark.parametrize("folder", [HOME, text("processor_releases"), text("whisper_runtimes")])
def test_the_worker_cannot_change_its_own_code(host: Host, folder: str) -> None:
    assert (host.file(folder).user, host.file(folder).mode) == ("root", 0o755)
    writable = host.check_output(
        f"find {HOME} -xdev ( -not -user root -o -perm /022 ) -not -type l".replace("(", r"\(").replace(")", r"\)")
    )
    assert writable == ""


def test_only_the_worker_reads_the_machines_settings(host: Host) -> None:
    folder = host.file(text("processor_environment_file").rsplit("/", 1)[0])
    assert (folder.user, folder.group, folder.mode) == ("root", text("processor_user"), 0o750)


def test_nothing_listens_but_what_is_expected(host: Host) -> None:
    """Sockets without a process are no program's of this machine (the rehearsal serves some from outside)."""
    found = set()
    for line in host.check_output("ss --no-header --listening --tcp --udp --numeric --processes").splitlines():
        protocol, local = line.split()[0], line.split()[4]
        program = re.search(r'users:\(\("([^"]+)",pid=(\d+)', line)
        if program and not _is_rehearsals(host, program[2]) and not _is_bakes_ssh(host, program[1]):
            found.add(f"{protocol}/{local.rsplit(':', 1)[1]}")
    assert found <= set(items("hardening_listening"))


def _is_rehearsals(host: Host, pid: str) -> bool:
    return REHEARSAL in host.run(f"tr '\\0' ' ' < /proc/{pid}/cmdline").stdout


def _is_bakes_ssh(host: Host, program: str) -> bool:
    """While it is baked, the machine is reached by SSH, which does not start at the next boot."""
    return program == "sshd" and not host.service("ssh.service").is_enabled


def test_ssh_does_not_start_at_boot(host: Host) -> None:
    for unit in items("hardening_disabled_units"):
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() != "enabled"


def test_the_kernels_settings_are_written(host: Host) -> None:
    """A container cannot apply them: they are the host's."""
    written = host.file("/etc/sysctl.d/90-appliance.conf").content_string
    for name, value in defaults()["hardening_sysctl"].items():
        assert f"{name} = {value}\n" in written
        if host.run("systemd-detect-virt --container --quiet").rc != 0:
            assert host.sysctl(name) == value


def test_no_program_gives_root_that_the_distribution_does_not(host: Host) -> None:
    """setuid programs come from packages alone; some packages still name /bin for /usr/bin."""
    found = host.check_output("find / -xdev -perm -4000 -type f").split()
    told = {path: host.run(f"dpkg --search {path} || dpkg --search {path.removeprefix('/usr')}") for path in found}
    assert [path for path, owner in told.items() if owner.failed] == []


def test_no_credentials_lie_about(host: Host) -> None:
    pattern = "AKIA[0-9A-Z]{16}|BEGIN (RSA|OPENSSH|EC) PRIVATE KEY"
    where = "/etc /opt /root /home /var/lib/whisper-processor"
    third_party = "--exclude-dir=runtimes --exclude-dir=updaters"
    flags = f"--recursive --files-with-matches --binary-files=without-match {third_party}"
    told = host.run(f"grep {flags} -E '{pattern}' {where}")
    assert [path for path in told.stdout.split() if not path.startswith("/etc/ssh/ssh_host_")] == []
