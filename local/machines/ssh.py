"""SSH into a machine booted on this one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SSH_UNIT = """[Unit]
Description=SSH for the rehearsal alone

[Service]
RuntimeDirectory=sshd
ExecStart=/usr/sbin/sshd -D -e -f /dev/null -p {port} -h /run/rehearsal/host_key -o ListenAddress=127.0.0.1 \
 -o AuthorizedKeysFile=/run/rehearsal/authorized_keys -o StrictModes=no -o PidFile=none -o UsePAM=no \
 -o PasswordAuthentication=no -o "Subsystem=sftp internal-sftp"
"""


def ssh_access(folder: Path, port: int, *, worker: bool = True) -> tuple[dict[Path, str], dict[str, str], Path]:
    """What lets SSH into a booted root without leaving a trace in it: binds, environment, and the client's key.

    The appliance itself runs no SSH server. This server's unit, keys and settings are in /run, and go with it.
    Pass `worker=False` when there is no cloud around: the worker would crash, and stop the machine as it should.
    """
    shutil.rmtree(folder, ignore_errors=True)
    units = folder / "units"
    wants = units / "multi-user.target.wants"
    wants.mkdir(parents=True)
    (units / "rehearsal-ssh.service").write_text(_SSH_UNIT.format(port=port))
    (wants / "rehearsal-ssh.service").symlink_to("../rehearsal-ssh.service")
    if not worker:
        drop_in = units / "whisper-processor.service.d" / "idle.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Unit]\nConditionPathExists=/run/a-cloud\n")
    key = folder.with_name(f"{folder.name}-key") / "key"
    shutil.rmtree(key.parent, ignore_errors=True)
    key.parent.mkdir(mode=0o700)
    # RSA in PEM: the oldest Packer in use reads no newer format.
    for path, kind in ((key, ("rsa", "-b", "3072", "-m", "PEM")), (folder / "host_key", ("ed25519",))):
        command = ["ssh-keygen", "-q", "-N", "", "-C", "rehearsal", "-f", str(path), "-t", *kind]
        subprocess.run(command, check=True, capture_output=True)
    shutil.copy(key.with_suffix(".pub"), folder / "authorized_keys")
    return {folder: "/run/rehearsal"}, {"SYSTEMD_UNIT_PATH": "/run/rehearsal/units:"}, key
