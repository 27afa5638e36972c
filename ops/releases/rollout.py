"""Bring a release or settings to the appliances: to running ones in turn, to stopped ones at their next boot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError

from contracts.names import SERVICE
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG, REPLACEMENT_TAG
from ops.aws import run_command
from ops.aws.connection import Connection, tags_of
from ops.capacity.holds import hold_from_now
from ops.errors import OpsError
from ops.releases import settings, store
from ops.releases.archive import BuiltRelease
from ops.releases.lock import LASTS, DeployLock, deploying
from ops.waiting import Tell, TooLong, every, wait_until
from whisper_processor.releases import Release, UpdateReport, UpdateResult

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

Say = Callable[[str], None]
UPDATE = "/opt/whisper/proven/bin/update"
_BOOT_SECONDS = 300.0
_ONLINE_SECONDS = 300.0
_UPDATE_SECONDS = 1500.0
_COME_BACK_SECONDS = 60.0
_POLL_SECONDS = 2.0
_GOING_DOWN_SECONDS = 15.0
_TELL_SECONDS = 10.0


class Failed(OpsError):
    """An appliance could not take the change; it runs what it ran before."""


class Stopped(Exception):
    """The machine stopped meanwhile; its next boot takes the change."""


def deploy_processor(aws: Connection, build: Callable[[], BuiltRelease], say: Say) -> None:
    """Build, publish, set it as wanted, and bring it to all appliances. Raises OpsError at the first failure."""
    store.read_wanted(aws)
    with deploying(aws, "deploy-processor", say) as lock:
        built = build()
        store.publish(aws, built, say)
        bring(aws, built.release, lock, say)
        _prune(aws, say)


def rollback(aws: Connection, asked: str, say: Say) -> None:
    """Return to the named release, or to the one that was wanted before. Raises OpsError."""
    with deploying(aws, "rollback", say) as lock:
        wanted = store.read_wanted(aws)
        name = asked or (wanted.previous if wanted else None)
        if name is None:
            raise OpsError("nothing was wanted before: name a release with VERSION=…, `make versions` lists them")
        bring(aws, store.find_release(store.published(aws), name), lock, say)


def bring(aws: Connection, release: Release, lock: DeployLock, say: Say) -> None:
    """Point at the release and install it wherever an appliance runs.

    Raises OpsError at the first appliance that fails. A release that failed is no longer wanted, because the
    stopped appliances would fail with it at their next boot.
    """
    before = store.read_wanted(aws)
    store.set_wanted(aws, release, before)
    say(f"{release.name} is wanted" + (f", {before.release.name} was" if before else ""))
    if store.on_processes(aws):
        say("LOCAL_MACHINE=process: the machines here run the checkout, nothing is installed on them;")
        say("an appliance that installs releases is behind LOCAL_MACHINE=nspawn (`make rehearse-deploy`)")
        return
    try:
        _in_turn(aws, lambda instance_id: _update(aws, instance_id, say), f"installs {release.name}", lock, say)
    except Failed as error:
        if before is None or before.release.name != release.name:
            store.write_wanted(aws, before)
            says = f"{before.release.name} is wanted again" if before else "no release is wanted any more"
            raise OpsError(f"{error}; {says}") from error
        raise


def deploy_config(aws: Connection, wanted: Mapping[str, str], say: Say) -> None:
    """Send the settings, and let the running appliances read them. Put the old ones back when a worker does not
    come up with them. Raises OpsError; an invalid setting changes nothing at all."""
    settings.validate_settings(wanted)
    with deploying(aws, "deploy-config", say) as lock:
        before = settings.stored_settings(aws)
        settings.write_settings(aws, wanted, say)
        if settings.stored_settings(aws) == before:
            say("the settings are as they were")
            return

        def restart(instance_id: str) -> None:
            _restart(aws, instance_id, say)

        try:
            _in_turn(aws, restart, "reads them", lock, say)
        except Failed as error:
            settings.write_settings(aws, before, say)
            say("the settings from before are back")
            _in_turn(aws, restart, "reads them", lock, say)
            raise OpsError(f"{error}; the settings from before are back") from error


def _in_turn(aws: Connection, act: Callable[[str], None], what: str, lock: DeployLock, say: Say) -> None:
    """One after the other, stopping at the first that fails."""
    found = aws.instances()
    if not found:
        say("there is no appliance yet")
    for instance in found:
        instance_id = instance["InstanceId"]
        if part := tags_of(instance).get(REPLACEMENT_TAG):
            say(f"{instance_id} is left alone: `make replace` has it {part}")
            continue
        state: str = instance["State"]["Name"]
        lock.renew()
        if state == "pending":
            say(f"{instance_id} is pending: waiting until it runs")
            state = _wait_while_pending(aws, instance_id)
        if state != "running":
            say(f"{instance_id} is {state}: it {what} at its next boot")
            continue
        try:
            with _held(aws, instance):
                act(instance_id)
        except Stopped:
            say(f"{instance_id} stopped meanwhile: it {what} at its next boot")


def _update(aws: Connection, instance_id: str, say: Say) -> None:
    report = _run(aws, instance_id, "now", say)
    if report.result is UpdateResult.UNCHANGED:
        say(f"{instance_id}: {report.reason}")
    elif report.result is UpdateResult.INSTALLED:
        say(f"{instance_id} runs {report.current}, after {report.seconds:.0f} s")
    else:
        raise Failed(f"{instance_id}: {report.result}, {report.reason}; it runs {report.current}")


def _restart(aws: Connection, instance_id: str, say: Say) -> None:
    if store.on_processes(aws):
        _restart_process(aws, instance_id, say)
        return
    report = _run(aws, instance_id, "restart", say)
    if report.result is not UpdateResult.INSTALLED:
        raise Failed(f"{instance_id}: the worker does not come up with these settings: {report.reason}")
    say(f"{instance_id}: {report.reason}")


def _restart_process(aws: Connection, instance_id: str, say: Say) -> None:
    """The checkout's processor does not check itself; its first heartbeat shows that it works."""
    say(f"{instance_id}: the worker leaves its lesson, and starts anew")
    run_command.wait_online(aws, instance_id, _ONLINE_SECONDS)

    def systemctl(verb: str) -> None:
        watch = _watch(aws, instance_id, say)
        run_command.execute(aws, instance_id, f"systemctl {verb} {SERVICE}", _UPDATE_SECONDS, watch)

    systemctl("stop")
    last = tags_of(_look(aws, instance_id)).get(HEARTBEAT_TAG)  # the old worker's last heartbeat
    systemctl("start")
    try:
        wait_until(
            lambda: tags_of(_look(aws, instance_id)).get(HEARTBEAT_TAG) != last,
            _COME_BACK_SECONDS,
            poll=_POLL_SECONDS,
        )
    except TooLong:
        raise Failed(f"{instance_id}: the worker does not come up with these settings: see `make logs`") from None
    say(f"{instance_id}: the worker runs with them")


def _run(aws: Connection, instance_id: str, mode: str, say: Say) -> UpdateReport:
    """Run the machine's updater. Raises Failed when it returns no report, Stopped when the machine stops."""
    if not run_command.is_online(aws, instance_id):
        say(f"{instance_id}: waiting until SSM reaches it")
    try:
        run_command.wait_online(aws, instance_id, _ONLINE_SECONDS)
        say(f"{instance_id}: its updater is at work")
        ended = run_command.execute(
            aws, instance_id, f"{UPDATE} {mode}", _UPDATE_SECONDS, _watch(aws, instance_id, say)
        )
    except run_command.NotReachable as error:
        _raise_if_it_goes_down(aws, instance_id)
        raise Failed(str(error)) from error
    try:
        return UpdateReport.model_validate_json(ended.stdout.strip())
    except ValidationError as error:
        _raise_if_it_goes_down(aws, instance_id)
        said = " ".join((ended.stderr or ended.stdout).split())[:300] or ended.status
        if "not found" in said:
            said = "its image has no updater: bake one that has (`make ami`) and launch from it"
        raise Failed(f"{instance_id}: {said}") from error


def _watch(aws: Connection, instance_id: str, say: Say) -> Tell:
    """Says now and then how long it takes. Raises Stopped once the machine stops."""

    def watch(waited: float) -> None:
        _raise_if_stopped(aws, instance_id)
        say(f"{instance_id}: for {waited:.0f} s")

    return every(_TELL_SECONDS, watch)


@contextmanager
def _held(aws: Connection, instance: InstanceTypeDef) -> Iterator[None]:
    """Hold the machine, so that neither worker nor autoscaler stops it. Restores an operator's hold."""
    instance_id = instance["InstanceId"]
    before = tags_of(instance).get(HOLD_TAG)
    ours = hold_from_now(LASTS, "deploy")[0]
    aws.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG, "Value": ours}])
    try:
        yield
    finally:
        now = tags_of(_look(aws, instance_id)).get(HOLD_TAG)
        if now == ours:  # otherwise an operator has set a hold meanwhile
            if before is None:
                aws.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG}])
            else:
                aws.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG, "Value": before}])


def _wait_while_pending(aws: Connection, instance_id: str) -> str:
    with suppress(TooLong):
        wait_until(lambda: _state(aws, instance_id) != "pending", _BOOT_SECONDS, poll=_POLL_SECONDS)
    return _state(aws, instance_id)


def _raise_if_stopped(aws: Connection, instance_id: str) -> None:
    if _state(aws, instance_id) != "running":
        raise Stopped


def _raise_if_it_goes_down(aws: Connection, instance_id: str) -> None:
    """A command without a report may mean that the machine stops. Raises Stopped if it does."""
    with suppress(TooLong):
        wait_until(lambda: _state(aws, instance_id) != "running", _GOING_DOWN_SECONDS, poll=_POLL_SECONDS)
        raise Stopped


def _state(aws: Connection, instance_id: str) -> str:
    return _look(aws, instance_id)["State"]["Name"]


def _look(aws: Connection, instance_id: str) -> InstanceTypeDef:
    return aws.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def _prune(aws: Connection, say: Say) -> None:
    running = {name for name in map(store.running_release, aws.instances()) if name}
    store.prune(aws, aws.settings.releases_kept, running, say)
