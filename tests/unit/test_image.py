"""What goes into a bake, and what an old Packer is spared."""

from __future__ import annotations

import socket
import ssl
import tarfile
from pathlib import Path

import pytest

from local.machines.namespaces import Relay
from ops.errors import OpsError
from ops.images import packer
from ops.releases import wheelhouse
from ops.releases.archive import ANSIBLE
from tests.image.roles import defaults, text


def test_an_old_packer_is_spared_just_what_it_does_not_know(tmp_path: Path) -> None:
    left_out = packer.without_what_old_packer_lacks(tmp_path)
    source = (tmp_path / "sources.pkr.hcl").read_text()
    assert "metadata_options" not in source
    assert "imds_support" not in source
    assert not (tmp_path / "plugins.pkr.hcl").exists()
    assert len(left_out) == 2
    for name in ("build.pkr.hcl", "variables.pkr.hcl"):
        assert (tmp_path / name).read_bytes() == (packer.TEMPLATES / name).read_bytes()


def test_a_template_without_imdsv2_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "packer"
    changed.mkdir()
    (changed / "sources.pkr.hcl").write_text('source "amazon-ebs" "appliance" {\n}\n')
    monkeypatch.setattr(packer, "TEMPLATES", changed)
    with pytest.raises(OpsError, match="imds_support"):
        packer.without_what_old_packer_lacks(tmp_path / "copy")


def test_imdsv2_is_required_while_baking_and_afterwards() -> None:
    source = (packer.TEMPLATES / "sources.pkr.hcl").read_text()
    assert 'http_tokens                 = "required"' in source
    assert 'imds_support = "v2.0"' in source


def test_the_same_sources_give_the_same_wheel(tmp_path: Path) -> None:
    first, second = (wheelhouse.build_processor(tmp_path / name) for name in ("a", "b"))
    assert first.sha256 == second.sha256
    assert first.path.name.startswith(f"whisper_processor-{first.version}-")


def test_the_same_wheels_give_the_same_archive(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("b.whl", "a.whl"):
        (wheels / name).write_text(name)
    archives = [tmp_path / "first.tar", tmp_path / "second.tar"]
    for number, archive in enumerate(archives):
        (wheels / "a.whl").touch()
        (wheels / "a.whl").chmod(0o600 + number)
        wheelhouse.pack({path.name: path for path in wheels.iterdir()}, archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        assert tar.getnames() == ["a.whl", "b.whl"]


def test_the_defaults_of_the_roles_fill_each_other_in() -> None:
    assert text("whisper_models_dir") == "/opt/whisper/models"
    assert text("processor_current") == "/opt/whisper/current"


def test_the_databases_certificates_are_those_the_role_names() -> None:
    path = ANSIBLE / "roles" / "aws" / "files" / "rds-authorities.crt"
    assert wheelhouse.sha256(path) == defaults()["aws_database_ca_sha256"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    subjects = [str(ca["subject"]) for ca in context.get_ca_certs()]
    assert len(subjects) == path.read_text().count("BEGIN CERTIFICATE")
    assert any("Amazon RDS us-east-1 Root CA" in subject for subject in subjects)


def test_a_relay_passes_bytes_both_ways_and_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as service, socket.create_server(("127.0.0.1", 0)) as front:
        relay = Relay(front, lambda: socket.create_connection(service.getsockname()))
        with socket.create_connection(front.getsockname(), timeout=5) as client:
            inside, _ = service.accept()
            client.sendall(b"question")
            assert inside.recv(100) == b"question"
            inside.sendall(b"answer")
            assert client.recv(100) == b"answer"
            inside.close()
            assert client.recv(100) == b""
        relay.close()
