"""What the distribution brings."""

from __future__ import annotations

import pytest
from testinfra.host import Host

from tests.image.roles import items, text

PACKAGES = [*items("base_packages"), *items("python_packages"), *items("ffmpeg_packages")]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_package_is_installed(host: Host, name: str) -> None:
    assert host.package(name).is_installed


def test_python_has_the_wanted_version(host: Host) -> None:
    told = host.check_output(f"{text('python_executable')} --version")
    assert told.split()[1].startswith(f"{text('python_version')}.")


def test_the_systems_python3_is_the_distributions(host: Host) -> None:
    """apt and cloud-init are written for it; linking it elsewhere breaks them."""
    assert host.check_output("dpkg --search /usr/bin/python3").startswith("python3-minimal:")
    assert host.run("dpkg --verify python3-minimal").stdout == ""
    assert not host.file("/usr/local/bin/python3").exists
    assert not host.file("/usr/local/bin/python3.11").exists


@pytest.mark.parametrize("decoder", items("ffmpeg_decoders"))
def test_ffmpeg_has_the_decoder(host: Host, decoder: str) -> None:
    assert host.check_output(f"ffmpeg -v error -h decoder={decoder}").startswith(f"Decoder {decoder} ")


@pytest.mark.parametrize("codec", ["libmp3lame -f mp3", "aac -f adts", "flac -f flac"])
def test_ffmpeg_decodes(host: Host, codec: str) -> None:
    """A second of tone, encoded and decoded again: 16,000 samples, give or take the codec's padding."""
    encode = f"ffmpeg -v error -f lavfi -i sine=duration=1:sample_rate=16000 -c:a {codec} -"
    samples = int(host.check_output(f"{encode} | ffmpeg -v error -i - -f s16le -ac 1 -ar 16000 - | wc -c")) // 2
    assert 15_900 < samples < 19_000


def test_security_upgrades_come_by_themselves(host: Host) -> None:
    settings = host.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings
    assert host.service("unattended-upgrades").is_enabled


def test_the_journal_is_bounded(host: Host) -> None:
    shown = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert f"SystemMaxUse={text('base_journal_max_use')}" in shown
    assert "Storage=persistent" in shown


def test_time_comes_from_amazon(host: Host) -> None:
    assert f"server {text('base_ntp_server')} " in host.file("/etc/chrony/conf.d/appliance.conf").content_string
    assert host.service("chrony").is_enabled
