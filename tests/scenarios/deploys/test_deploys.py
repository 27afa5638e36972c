"""The cases, in the order in which they run. Each begins with an appliance that runs and has nothing to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from contracts.keys import DEPLOY_LOCK_KEY
from local.images.current import Baked
from ops.aws.connection import Connection
from ops.capacity import appliance
from ops.errors import OpsError
from ops.releases import rollout, store
from ops.releases.lock import deploying
from ops.releases.settings import stored_settings
from testbed.waiting import wait_until
from tests.scenarios.deploys.stage import SETTINGS, Stage, in_background, open_stage

pytestmark = [pytest.mark.appliance, pytest.mark.timeout(1800)]
Detail = Callable[[str], None]


@pytest.fixture(scope="module")
def stage(image: Baked) -> Iterator[Stage]:
    """Its appliance boots from the image, which is therefore baked first."""
    with open_stage(print) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _running(case: str, stage: Stage) -> None:
    """The case before may have left the appliance stopped."""
    stage.say(case)
    if stage.aws.instance()["State"]["Name"] != "running":
        stage.start()


@pytest.fixture
def wanted(stage: Stage) -> str:
    """The release that is wanted when the case begins. A case that runs alone deploys one first."""
    if (name := stage.wanted()) is None:
        stage.deploy(stage.variants.build("9.1.0"))
        name = stage.wanted()
    assert name is not None
    return name


@pytest.fixture
def previous(stage: Stage, wanted: str) -> str:
    """The release that was wanted before that one."""
    pointer = store.read_wanted(stage.aws)
    if pointer is None or pointer.previous is None:
        stage.deploy(stage.variants.build("9.1.1"))
        return wanted
    return pointer.previous


def refusal(words: str) -> pytest.RaisesExc[OpsError]:
    return pytest.raises(OpsError, match=re.escape(words))


def test_upgrade_while_lessons_are_transcribed(stage: Stage, detail: Detail) -> None:
    built = stage.variants.build("9.0.1")
    with in_background(lambda: stage.deploy(built)) as deployment:
        *earlier, under_way = stage.busy_until(lambda: stage.link("current") == built.release.name)
    assert not deployment.errors
    for job in earlier:
        stage.done_by(job)
    assert stage.done_by(under_way) == built.release.name
    detail(f"{len(earlier)} done before; the one in hand given back, done once, by the new release")


def test_two_deploys_at_once(stage: Stage, detail: Detail) -> None:
    built = stage.variants.build("9.0.2")
    other = Connection(stage.aws.settings)
    bucket = other.foundation["BucketName"]
    with in_background(lambda: stage.deploy(built)) as first:
        wait_until("the first one has the lock", lambda: store.size_of(other, bucket, DEPLOY_LOCK_KEY), 480)
        second = stage.verb("deploy-processor")
    assert not first.errors
    (line,) = [line for line in second.stderr.splitlines() if line.strip()]
    assert second.returncode == 1
    assert "runs deploy-processor since" in line
    assert stage.link("current") == built.release.name
    detail("the second is refused in one line, the first goes through")


def test_upgrade_while_stopped(stage: Stage, detail: Detail) -> None:
    stage.stop()
    built = stage.variants.build("9.0.3")
    assert any("at its next boot" in line for line in stage.deploy(built))
    job = stage.submit(stage.short)
    stage.start()
    assert stage.done_by(job) == built.release.name
    detail("installed at the boot, the lesson done by the new release")


def test_corrupted_artefact(stage: Stage, wanted: str, detail: Detail) -> None:
    built = stage.variants.build("9.0.4")
    release = built.release
    with refusal("has sha256"), deploying(stage.aws, "deploy-processor", stage.say) as lock:
        store.publish(stage.aws, built, stage.say)
        body = bytearray(built.archive.path.read_bytes())
        body[len(body) // 2] ^= 1
        bucket = stage.aws.foundation["BucketName"]
        stage.aws.s3.put_object(Bucket=bucket, Key=release.archive.key, Body=bytes(body))
        rollout.bring(stage.aws, release, lock, stage.say)
    assert stage.done_by(stage.submit(stage.short)) == wanted == stage.wanted()
    detail("one bit is enough to be refused; the old release works on")


def test_broken_release(stage: Stage, wanted: str, detail: Detail) -> None:
    built = stage.variants.build("9.0.5", broken=True)
    with in_background(lambda: stage.deploy(built)) as deployment:
        jobs = stage.busy_until(lambda: stage.link("current") == built.release.name)
    assert "its check failed" in str(deployment.errors)
    assert stage.link("current") == wanted == stage.wanted()
    assert {stage.done_by(job) for job in jobs} == {wanted}
    detail("fails its check, rolled back; the lesson in hand done by the old one")


def test_broken_release_at_a_boot(stage: Stage, wanted: str, detail: Detail) -> None:
    reported = stage.failures_told()
    stage.stop()
    stage.deploy(stage.variants.build("9.0.6", broken=True))
    job = stage.submit(stage.short)
    stage.start()
    assert stage.done_by(job) == wanted
    assert stage.failures_told() > reported, "the machine did not report it: no alarm would come of it"
    detail("the boot falls back and reports it; the lesson done by the old one")


def test_power_cut_in_the_middle_of_the_flip(stage: Stage, detail: Detail) -> None:
    built = stage.variants.build("9.0.7")
    with in_background(lambda: stage.deploy(built)) as deployment:
        jobs = stage.busy_until(lambda: stage.link("current") == built.release.name)
        assert stage.link("proven") != built.release.name, "the check was over already"
        stage.cut_power()
    assert not deployment.errors
    assert any("at its next boot" in line for line in stage.told)
    appliance.wait_for(stage.aws, "stopped", 120)
    stage.start()
    for job in jobs[:-1]:
        stage.done_by(job)
    assert stage.done_by(jobs[-1]) == built.release.name
    assert stage.link("proven") == built.release.name
    detail("killed between flip and check; the next boot goes back, and on with it")


def test_ssm_not_ready_yet(stage: Stage, detail: Detail) -> None:
    built = stage.variants.build("9.0.8")
    stage.stop()
    stage.aws.ec2.start_instances(InstanceIds=[stage.instance_id])
    assert any("waiting until" in line for line in stage.deploy(built))
    assert stage.link("current") == built.release.name
    assert stage.done_by(stage.submit(stage.short)) == built.release.name
    detail("waited for, then installed")


def test_rollback(stage: Stage, previous: str, detail: Detail) -> None:
    rollout.rollback(stage.aws, "", stage.say)
    assert stage.done_by(stage.submit(stage.short)) == previous == stage.link("current")
    detail("the release before runs again")


def test_settings_the_worker_cannot_run_with(stage: Stage, detail: Detail) -> None:
    bad = SETTINGS | {"WHISPER_MODEL": "large-v3"}
    with refusal("the settings from before are back"):
        rollout.deploy_config(stage.aws, bad, stage.say)
    assert stored_settings(stage.aws) == SETTINGS
    stage.done_by(stage.submit(stage.short))
    detail("put back, and the worker runs with the old ones")


@pytest.mark.full
def test_a_release_on_other_packages(stage: Stage, detail: Detail) -> None:
    """Only by its verb: it takes some minutes to install the same packages once more."""
    wheelhouse = stage.variants.other_wheelhouse()
    built = stage.variants.build("9.0.9", wheelhouse=wheelhouse)
    stage.deploy(built)
    assert stage.done_by(stage.submit(stage.short)) == built.release.name
    runtime = (stage.home / "releases" / built.release.name / "runtime").readlink().name
    assert runtime == wheelhouse.sha256[:12]
    detail("fetched by its sha256 and made beside the other runtime")
