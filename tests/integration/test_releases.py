"""Releases in the bucket, the pointer, the lock, and the verbs about them, against the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.keys import DEPLOY_LOCK_KEY, RELEASES_PREFIX, WHEELHOUSES_PREFIX
from contracts.names import WANTED_PARAMETER
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG, PROCESSOR_TAG
from ops.aws.connection import Connection
from ops.capacity import appliance
from ops.cli import tables
from ops.errors import OpsError
from ops.observability import status
from ops.releases import rollout, store
from ops.releases import settings as appliance_settings
from ops.releases.archive import BuiltRelease, build_release
from ops.releases.lock import LASTS, deploying
from ops.releases.settings import stored_settings
from ops.releases.wheelhouse import PROCESSOR, Artefact, sha256
from ops.settings import REPOSITORY
from testbed.cloud import quiet
from testbed.system import SHORT_POLLS, kept_up
from whisper_processor.releases import Wanted


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuiltRelease:
    """This checkout's release, on a wheelhouse of a few bytes."""
    folder = tmp_path_factory.mktemp("built")
    wheelhouse = folder / "wheelhouse.tar"
    wheelhouse.write_text("wheels")
    return build_release(Artefact(wheelhouse, sha256(wheelhouse)), source=PROCESSOR, folder=folder)


@pytest.fixture
def aws(deployed: Connection) -> Iterator[Connection]:
    """Without any release, before and after."""
    empty(deployed)
    yield deployed
    empty(deployed)


def empty(aws: Connection) -> None:
    store.write_wanted(aws, None)
    for key in keys(aws, "scripts/releases/", "scripts/wheelhouses/", DEPLOY_LOCK_KEY):
        aws.s3.delete_object(Bucket=aws.foundation["BucketName"], Key=key)


def keys(aws: Connection, *prefixes: str) -> list[str]:
    bucket = aws.foundation["BucketName"]
    pages = [aws.s3.list_objects_v2(Bucket=bucket, Prefix=prefix) for prefix in prefixes]
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def variant(built: BuiltRelease, version: str, *, wheels: str = "wheels") -> BuiltRelease:
    """Another release, as far as the bucket can tell."""
    archive = built.archive.path.with_name(f"{version}.tar")
    archive.write_text(version)
    packages = built.archive.path.with_name(f"{wheels.replace(' ', '-')}.tar")
    packages.write_text(wheels)
    digest = sha256(archive)
    name = f"{version}-{digest[:12]}"
    release = built.release.model_copy(
        update={
            "name": name,
            "version": version,
            "archive": built.release.archive.model_copy(
                update={"key": f"{RELEASES_PREFIX}{name}/release.tar", "sha256": digest}
            ),
            "wheelhouse": built.release.wheelhouse.model_copy(
                update={"key": f"{WHEELHOUSES_PREFIX}{sha256(packages)[:12]}.tar", "sha256": sha256(packages)}
            ),
        }
    )
    return replace(
        built,
        release=release,
        archive=Artefact(archive, digest),
        wheelhouse=Artefact(packages, release.wheelhouse.sha256),
    )


def test_the_same_sources_give_the_same_release(built: BuiltRelease, tmp_path: Path) -> None:
    again = build_release(built.wheelhouse, source=PROCESSOR, folder=tmp_path)
    assert again.release == built.release
    assert again.archive.path.read_bytes() == built.archive.path.read_bytes()


def test_a_release_holds_the_wheel_and_the_roles_that_bake_images(built: BuiltRelease) -> None:
    listed = subprocess.run(["tar", "tf", built.archive.path], capture_output=True, text=True, check=True)
    names = set(listed.stdout.splitlines())
    assert {"release.json", built.processor.path.name, "ansible/release.yml", "ansible/ansible.cfg"} <= names
    roles = REPOSITORY / "ansible" / "roles"
    for role in ("whisper", "processor"):
        expected = {f"ansible/roles/{p.relative_to(roles)}" for p in (roles / role).rglob("*") if p.is_file()}
        assert expected <= names


def test_a_published_release_is_found_by_name_and_by_version(aws: Connection, built: BuiltRelease) -> None:
    store.publish(aws, built, quiet)
    there = store.published(aws)
    assert [one.release for one in there] == [built.release]
    for asked in (built.release.name, built.release.version):
        assert store.find_release(there, asked) == built.release
    with pytest.raises(OpsError, match=f"there: {built.release.name}"):
        store.find_release(there, "9.9.9")


def test_a_version_that_two_releases_have_must_be_named(aws: Connection, built: BuiltRelease) -> None:
    other = built.release.model_copy(update={"name": f"{built.release.version}-0123456789ab"})
    both = [store.Published(release, datetime.now(UTC)) for release in (built.release, other)]
    with pytest.raises(OpsError, match="several releases"):
        store.find_release(both, built.release.version)


def test_packages_are_uploaded_once(aws: Connection, built: BuiltRelease) -> None:
    said: list[str] = []
    store.publish(aws, built, said.append)
    store.publish(aws, variant(built, "9.0.0"), said.append)
    assert sum("uploading its packages" in line for line in said) == 1
    assert len(keys(aws, WHEELHOUSES_PREFIX)) == 1


def test_the_pointer_remembers_what_was_wanted_before(aws: Connection, built: BuiltRelease) -> None:
    first, second = built.release, variant(built, "9.0.0").release
    assert store.set_wanted(aws, first, None).previous is None
    store.set_wanted(aws, second, store.read_wanted(aws))
    store.set_wanted(aws, second, store.read_wanted(aws))
    wanted = store.read_wanted(aws)
    assert wanted is not None
    assert (wanted.release, wanted.previous) == (second, first.name)
    stored = aws.ssm.get_parameter(Name=WANTED_PARAMETER)["Parameter"]["Value"]
    assert Wanted.model_validate_json(stored) == wanted
    assert len(stored) < 4096, "a standard parameter holds no more"
    assert status.read_status(aws).version.wanted == second.name


def test_a_pointer_that_cannot_be_read_is_a_finding_not_a_crash(aws: Connection) -> None:
    aws.ssm.put_parameter(Name=WANTED_PARAMETER, Value="0.1.0", Type="String", Overwrite=True)
    assert any("cannot be read" in problem for problem in status.read_status(aws).problems)


def test_only_what_nothing_needs_is_pruned(aws: Connection, built: BuiltRelease) -> None:
    old = [variant(built, f"9.0.{number}", wheels=f"wheels {number}") for number in range(5)]
    for one in old:
        store.publish(aws, one, quiet)
    store.set_wanted(aws, old[0].release, None)
    store.set_wanted(aws, old[1].release, store.read_wanted(aws))
    store.prune(aws, 1, {old[2].release.name}, quiet)
    left = {one.release.name for one in store.published(aws)}
    assert {old[number].release.name for number in (0, 1, 2)} <= left
    assert len(left) == 4, "and the newest one"
    assert len(keys(aws, WHEELHOUSES_PREFIX)) == 4, "packages go with the last release on them"


def test_two_deploys_exclude_each_other(aws: Connection) -> None:
    with (
        deploying(aws, "deploy-processor", quiet),
        pytest.raises(OpsError, match="runs deploy-processor since"),
        deploying(aws, "rollback", quiet),
    ):
        pass
    with deploying(aws, "rollback", quiet):
        assert keys(aws, DEPLOY_LOCK_KEY) == [DEPLOY_LOCK_KEY]
    assert keys(aws, DEPLOY_LOCK_KEY) == []


def test_a_lock_whose_deploy_died_is_taken_over_and_named(aws: Connection) -> None:
    said: list[str] = []
    long_ago = datetime.now(UTC) - LASTS - timedelta(seconds=1)
    with deploying(aws, "deploy-processor", quiet, now=long_ago) as dead:
        with deploying(aws, "rollback", said.append):
            assert "never ended" in said[0]
            with pytest.raises(OpsError, match="taken over"):
                dead.renew()
            with pytest.raises(OpsError, match="runs rollback"), deploying(aws, "deploy-config", quiet):
                pass
        assert keys(aws, DEPLOY_LOCK_KEY) == []


def test_the_one_who_was_taken_over_does_not_end_the_others_lock(aws: Connection) -> None:
    long_ago = datetime.now(UTC) - LASTS - timedelta(seconds=1)
    first = deploying(aws, "deploy-processor", quiet, now=long_ago)
    second = deploying(aws, "rollback", quiet)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert keys(aws, DEPLOY_LOCK_KEY) == [DEPLOY_LOCK_KEY]
    second.__exit__(None, None, None)
    assert keys(aws, DEPLOY_LOCK_KEY) == []


def test_a_lock_that_cannot_be_read_does_not_block_for_ever(aws: Connection) -> None:
    aws.s3.put_object(Bucket=aws.foundation["BucketName"], Key=DEPLOY_LOCK_KEY, Body=b"?")
    with deploying(aws, "rollback", quiet):
        pass


def test_a_machine_that_is_a_process_is_told_apart(aws: Connection, built: BuiltRelease) -> None:
    said: list[str] = []
    rollout.deploy_processor(aws, lambda: built, said.append)
    assert any("LOCAL_MACHINE=process" in line for line in said)
    wanted = store.read_wanted(aws)
    assert wanted is not None
    assert wanted.release == built.release


def test_rollback_goes_to_the_release_before_and_to_a_named_one(aws: Connection, built: BuiltRelease) -> None:
    first, second = built, variant(built, "9.0.0")
    with pytest.raises(OpsError, match="nothing was wanted before"):
        rollout.rollback(aws, "", quiet)
    for one in (first, second):
        rollout.deploy_processor(aws, lambda one=one: one, quiet)  # type: ignore[misc]
    rollout.rollback(aws, "", quiet)
    assert wanted_name(aws) == first.release.name
    rollout.rollback(aws, "9.0.0", quiet)
    assert wanted_name(aws) == second.release.name
    with pytest.raises(OpsError, match=r"no release 1\.2\.3"):
        rollout.rollback(aws, "1.2.3", quiet)
    assert wanted_name(aws) == second.release.name


def wanted_name(aws: Connection) -> str | None:
    wanted = store.read_wanted(aws)
    return wanted.release.name if wanted else None


def test_versions_tell_what_is_there_wanted_and_running(
    aws: Connection, built: BuiltRelease, command_environment: dict[str, str]
) -> None:
    first, second = built, variant(built, "9.0.0")
    for one in (first, second):
        rollout.deploy_processor(aws, lambda one=one: one, quiet)  # type: ignore[misc]
    instance_id = aws.instance()["InstanceId"]
    before = store.running_release(aws.instance())
    aws.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": PROCESSOR_TAG, "Value": first.release.name}])
    try:
        told = subprocess.run(
            [sys.executable, "-m", "ops", "versions", "--json"],
            cwd=REPOSITORY,
            env=command_environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(told.stdout)
        assert found["wanted"] == second.release.name
        rows = {row["name"]: row for row in found["releases"]}
        assert rows[second.release.name]["wanted"]
        assert rows[first.release.name]["previous"]
        assert [runner["instance_id"] for runner in rows[first.release.name]["on"]] == [instance_id]
        tables.show_versions(store.versions(aws))
    finally:
        aws.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": PROCESSOR_TAG, "Value": before or "-"}])


def test_settings_reach_a_running_worker_at_once(aws: Connection) -> None:
    with kept_up(aws):
        before = tag_of(aws, HEARTBEAT_TAG)
        hold = tag_of(aws, HOLD_TAG)
        said: list[str] = []
        wanted = SHORT_POLLS | {"EMPTY_POLLS": "1000", "MAX_ATTEMPTS": "4"}
        rollout.deploy_config(aws, wanted, said.append)
        assert tag_of(aws, HEARTBEAT_TAG) > before, "its worker has started anew"
        assert tag_of(aws, HOLD_TAG) == hold, "a person's hold is as it was"
        said.clear()
        rollout.deploy_config(aws, wanted, said.append)
        assert said == ["the settings are as they were"]


def test_settings_the_worker_cannot_run_with_are_put_back(
    aws: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DATABASE_TLS needs certificates, which the process's environment names; without them the worker refuses."""
    with kept_up(aws):
        before = stored_settings(aws)
        monkeypatch.setattr(rollout, "_COME_BACK_SECONDS", 8.0)
        monkeypatch.setattr(appliance_settings, "validate_settings", lambda _wanted: None)
        wrong = before | {"MAX_ATTEMPTS": "none at all"}
        with pytest.raises(OpsError, match="the settings from before are back"):
            rollout.deploy_config(aws, wrong, quiet)
        assert stored_settings(aws) == before


def test_an_invalid_setting_changes_nothing(aws: Connection) -> None:
    before = stored_settings(aws)
    with pytest.raises(OpsError, match="MAX_ATTEMPTS"):
        rollout.deploy_config(aws, before | {"MAX_ATTEMPTS": "0"}, quiet)
    assert stored_settings(aws) == before
    assert keys(aws, DEPLOY_LOCK_KEY) == []


def test_a_stopped_appliance_reads_its_settings_at_its_next_boot(aws: Connection) -> None:
    said: list[str] = []
    before = stored_settings(aws)
    appliance.wait_for(aws, "stopped", 60)
    rollout.deploy_config(aws, before | {"MAX_ATTEMPTS": "4"}, said.append)
    assert any("at its next boot" in line for line in said)
    rollout.deploy_config(aws, before, quiet)


def tag_of(aws: Connection, key: str) -> str:
    return next((tag["Value"] for tag in aws.instance()["Tags"] if tag["Key"] == key), "")
