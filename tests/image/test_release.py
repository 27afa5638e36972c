"""The release, its packages and its models, and the commands the documentation promises."""

from __future__ import annotations

import json

import pytest
from testinfra.host import Host

from contracts.jobs import EngineName
from tests.image.roles import text
from whisper_processor.models import catalogue, known

HOME = text("processor_home")
CURRENT = text("processor_current")


def test_current_is_a_complete_release(host: Host) -> None:
    release = host.check_output(f"readlink {CURRENT}")
    assert release.startswith(f"{text('processor_releases')}/")
    sha256 = host.file(f"{release}/.complete").content_string.strip()
    assert release.endswith(sha256[:12])


@pytest.mark.parametrize("link", ["proven", "current"])
def test_the_links_name_the_image_s_release(host: Host, link: str) -> None:
    assert host.check_output(f"readlink {text(f'processor_{link}')}") == host.check_output(f"readlink {CURRENT}")


def test_what_installs_releases_is_there(host: Host) -> None:
    told = host.check_output(f"{text('processor_ansible')}/bin/ansible-playbook --version")
    assert told.startswith("ansible-playbook [core ")


def test_what_installs_releases_has_no_packages_of_the_worker(host: Host) -> None:
    listed = host.check_output(f"{text('processor_ansible')}/bin/pip list --disable-pip-version-check")
    assert "faster-whisper" not in listed


def test_the_release_has_the_version_of_its_name(host: Host) -> None:
    code = "import importlib.metadata as m; print(m.version('whisper-processor'))"
    version = host.check_output(f'{CURRENT}/bin/python -c "{code}"')
    assert host.check_output(f"readlink {CURRENT}").rsplit("/", 1)[-1].startswith(f"{version}-")


def test_the_runtime_has_just_the_locked_packages(host: Host) -> None:
    runtime = host.check_output(f"readlink {CURRENT}/runtime")
    locked = {line.split(" ")[0] for line in host.file(f"{runtime}/requirements.txt").content_string.splitlines()}
    listed = json.loads(host.check_output(f"{runtime}/bin/pip list --format json --disable-pip-version-check"))
    # pip knows torch by its local version
    found = {
        f"{package['name'].lower().replace('_', '-').replace('.', '-')}=={package['version']}"
        for package in listed
    }
    assert {name for name in found if not name.startswith("pip==")} == locked


def test_the_documented_imports_work(host: Host) -> None:
    told = host.check_output("""python3.11 -c "import whisper; import boto3; print('All imports OK')" """)
    assert told == "All imports OK"


def test_other_pythons_do_not_see_the_release(host: Host) -> None:
    """apt's and cloud-init's python3 must never meet our packages."""
    code = "import sys; sys.exit(any('whisper' in entry for entry in sys.path))"
    assert host.run(f'/usr/bin/python3 -c "{code}"').rc == 0


def test_processor_py_says_what_is_wrong_without_aws(host: Host) -> None:
    """By hand, as documented; nothing answers at the endpoint, so it must end with a line that says so."""
    nowhere = (
        "AWS_ENDPOINT_URL=http://127.0.0.1:1 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x"
    )
    told = host.run(f"cd {HOME} && {nowhere} timeout 120 python3.11 processor.py")
    assert told.rc not in {0, 124}
    assert "settings cannot be read" in told.stdout + told.stderr


@pytest.mark.parametrize("engine", list(catalogue()))
def test_the_model_has_the_catalogues_bytes(host: Host, engine: EngineName) -> None:
    folder = f"{text('whisper_models_dir')}/{engine}/base"
    verified = json.loads(host.file(f"{folder}/verified.json").content_string)
    for name, pin in known("base", engine).files.items():
        sha256 = host.check_output(f"sha256sum {folder}/{name}").split()[0]
        assert sha256 == verified["files"][name]["sha256"]
        if not verified["origin"].startswith("converted "):  # those have bytes of their own, and say so
            assert sha256 == pin.sha256


def test_each_engine_was_warmed_up(host: Host) -> None:
    heard = json.loads(host.file(f"{CURRENT}/runtime/.warmed-up").content_string)
    assert sorted(heard) == sorted(f"{engine}/base" for engine in catalogue())
    assert all(len(words.split()) > 20 for words in heard.values())


def test_the_databases_certificates_are_there(host: Host) -> None:
    certificates = host.file(text("aws_database_ca"))
    assert certificates.sha256sum == text("aws_database_ca_sha256")
    assert certificates.mode == 0o644
