"""Replace the image: a second appliance shows that it works, takes over, and the old one leaves after its work.

All that has to be remembered is a tag on each of them. So a replacement that was interrupted, wherever it was,
goes on with the next `make replace`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from contracts.heartbeat import Heartbeat, is_silent, parse_heartbeat
from contracts.hold import parse_hold
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG, REPLACEMENT_TAG
from ops.aws.connection import Connection, in_group, tags_of
from ops.aws.logs import read_events
from ops.capacity import appliance, launch
from ops.capacity.image import image_id
from ops.errors import OpsError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

Say = Callable[[str], None]
_POLL_SECONDS = 1.0
_TELL_SECONDS = 15.0
_LISTED_SECONDS = 120.0
_GONE = {"shutting-down", "terminated"}


class Part(StrEnum):
    """The values of the tag; whoever looks after the appliance takes no notice of an instance that carries one."""

    TRIAL = "trial"
    """New, and not yet known to work."""
    LEAVING = "leaving"
    """Relieved; it ends what it has in hand."""


@dataclass(frozen=True)
class Model:
    """What an appliance is made of."""

    image_id: str
    instance_type: str

    def __str__(self) -> str:
        return f"{self.image_id} on {self.instance_type}"


@dataclass(frozen=True)
class Member:
    """An instance with the processor's role."""

    id: str
    model: Model
    launched: datetime
    part: str | None = None
    """None: nothing but the role tag, so it is in charge, if it is the newest such."""


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds."""

    trial: float = 900.0
    """A first boot reads its disk from S3; three empty polls take a minute more."""
    work: float = 7200.0
    """A long lesson with a slow model; a replacement that is repeated waits anew."""


@dataclass(frozen=True)
class Drop:
    """Trials of what is no longer wanted, or doubled."""

    members: Sequence[Member]


@dataclass(frozen=True)
class Launch:
    """A new one, on trial."""


@dataclass(frozen=True)
class Prove:
    """Wait for its sign of life, then let it relieve `old`."""

    new: Member
    old: Sequence[Member]


@dataclass(frozen=True)
class Retire:
    """Wait for the end of their work, then terminate them; `current` is in charge."""

    members: Sequence[Member]
    current: Member


@dataclass(frozen=True)
class Done:
    current: Member


Step = Drop | Launch | Prove | Retire | Done


class TrialFailed(Exception):
    """Why the new appliance does not take over."""


def next_step(members: Sequence[Member], wanted: Model) -> Step:
    """What a replacement by `wanted` has to do next, given what there is. Raises OpsError without an appliance."""
    newest_first = sorted(members, key=lambda member: (member.launched, member.id), reverse=True)
    trials = [member for member in newest_first if member.part == Part.TRIAL]
    fitting = [member for member in trials if member.model == wanted]
    plain = [member for member in newest_first if member.part is None]
    unwanted = [member for member in trials if member not in fitting[:1]]
    if unwanted:
        return Drop(unwanted)
    if fitting:
        return Prove(fitting[0], plain)
    if not plain:
        raise OpsError("there is no appliance to replace: run `make launch`")
    current = next((member for member in plain if member.model == wanted), None)
    if current is None:
        return Launch()
    # A plain one of another image beside it is what an interruption of the hand-over leaves.
    stale = [m for m in newest_first if m.part is not None or m.model != wanted]
    return Retire(stale, current) if stale else Done(current)


def replace(aws: Connection, say: Say, patience: Patience | None = None) -> None:
    """Replace the appliance by one of the launch template's newest version. Safe to repeat.

    Raises OpsError when the new one does not work: it is terminated then, and the old one stays in charge.
    """
    patience = patience or Patience()
    wanted = _wanted(aws)
    while True:
        match next_step(_members(aws), wanted):
            case Done(current):
                launch.watch_status_checks(aws, current.id)
                say(f"appliance {current.id} is {wanted}: nothing is left to do")
                return
            case Drop(unwanted):
                for member in unwanted:
                    say(f"{member.id} was on trial with {member.model}, which is no longer wanted")
                    _let_go(aws, member.id, patience, say)
            case Launch():
                _refuse_under_hold(aws)
                new_id = launch.run_appliance(aws, {REPLACEMENT_TAG: Part.TRIAL})
                say(f"{new_id} is launched, {wanted}, on trial")
                _wait_until_listed(aws, new_id)
            case Prove(new, old):
                _prove(aws, new, old, patience, say)
                _hand_over(aws, new, old, say)
            case Retire(leaving, current):
                launch.watch_status_checks(aws, current.id)
                for member in leaving:
                    _tag(aws, member.id, REPLACEMENT_TAG, Part.LEAVING)
                    _let_go(aws, member.id, patience, say)


def _wanted(aws: Connection) -> Model:
    """The launch template's newest version. Raises OpsError when that has not the image that was baked last."""
    versions = aws.ec2.describe_launch_template_versions(
        LaunchTemplateId=aws.foundation["LaunchTemplateId"], Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    data = versions[0]["LaunchTemplateData"]
    wanted = Model(data.get("ImageId", ""), data.get("InstanceType", ""))
    baked = image_id(aws)
    if wanted.image_id != baked:
        raise OpsError(f"the launch template has {wanted.image_id}, not {baked}: run `make deploy-infra` first")
    return wanted


def _members(aws: Connection) -> list[Member]:
    return [
        Member(
            instance["InstanceId"],
            Model(instance["ImageId"], instance["InstanceType"]),
            instance["LaunchTime"],
            tags_of(instance).get(REPLACEMENT_TAG),
        )
        for instance in aws.instances()
        if not in_group(instance)
    ]


def _wait_until_listed(aws: Connection, instance_id: str) -> None:
    """EC2's answers lag behind its deeds; a trial that is overlooked would be launched again. Raises OpsError."""
    deadline = time.monotonic() + _LISTED_SECONDS
    while instance_id not in {member.id for member in _members(aws)}:
        if time.monotonic() > deadline:
            raise OpsError(f"EC2 does not list {instance_id}: see `make status`, then run `make replace` again")
        time.sleep(_POLL_SECONDS)


def _refuse_under_hold(aws: Connection) -> None:
    hold = parse_hold(tags_of(aws.instance()).get(HOLD_TAG))
    if hold and hold.active_at(datetime.now(UTC)):
        raise OpsError(f"the appliance is held by {hold.by}: run `make resume` first")


def _prove(aws: Connection, new: Member, old: Sequence[Member], patience: Patience, say: Say) -> None:
    started, tell = time.monotonic(), appliance.every(_TELL_SECONDS, say, f"{new.id} is on trial")
    try:
        while True:
            found = _look(aws, new.id)
            if proof := _proof(aws, new, found):
                say(f"{new.id} works: {proof}")
                return
            waited = time.monotonic() - started
            if waited > patience.trial:
                state = found["State"]["Name"] if found else "gone"
                raise TrialFailed(f"it has shown no work after {waited:.0f} s; it is {state}")
            tell(waited)
            time.sleep(_POLL_SECONDS)
    except TrialFailed as failure:
        aws.ec2.terminate_instances(InstanceIds=[new.id])
        stays = f"{old[0].id} stays in charge" if old else "there is no other"
        raise OpsError(f"{new.id} ({new.model}) failed its trial and is terminated: {failure}; {stays}") from None


def _proof(aws: Connection, new: Member, found: InstanceTypeDef | None) -> str:
    """What shows that the instance took a job or could take one; empty: nothing yet. Raises TrialFailed."""
    if found is None:  # EC2 shows it a moment after its launch, and for an hour after its end
        return ""
    state = found["State"]["Name"]
    if state in _GONE:
        raise TrialFailed(f"EC2 ended it ({found.get('StateReason', {}).get('Message', 'no reason given')})")
    heartbeat = _heartbeat(found)
    if heartbeat is None or heartbeat.at < new.launched.replace(microsecond=0):
        if state == "stopped":
            raise TrialFailed("it stopped without a sign of life")
        return ""
    if heartbeat.crashed:
        raise TrialFailed("its worker crashed in a loop, see `make logs MINUTES=60`")
    if heartbeat.job:
        return f"it has taken job {heartbeat.job}"
    if state in {"stopping", "stopped"}:
        return "it found the queue empty and stopped itself"
    # Alive is not enough: a worker that SQS refuses is that too.
    words = {"poll_empty": "it asks the queue for lessons", "job_completed": "it has done a lesson"}
    for event in read_events(aws, new.launched):
        if event.source == new.id and event.fields.get("event") in words:
            return words[event.fields["event"]]
    return ""


def _hand_over(aws: Connection, new: Member, old: Sequence[Member], say: Say) -> None:
    """The new one first, so that there is one in charge at every moment; a hold goes along."""
    now = datetime.now(UTC)
    for member in old:
        found = _look(aws, member.id)
        text = tags_of(found).get(HOLD_TAG) if found else None
        hold = parse_hold(text)
        if text and hold and hold.active_at(now):
            _tag(aws, new.id, HOLD_TAG, text)
    aws.ec2.delete_tags(Resources=[new.id], Tags=[{"Key": REPLACEMENT_TAG}])
    for member in old:
        _tag(aws, member.id, REPLACEMENT_TAG, Part.LEAVING)
    launch.watch_status_checks(aws, new.id)
    say(f"{new.id} is the appliance from now on; its status checks raise the alarm")


def _let_go(aws: Connection, instance_id: str, patience: Patience, say: Say) -> None:
    """Terminate an instance once its worker has nothing in hand. Raises OpsError when that takes too long."""
    started, tell = time.monotonic(), appliance.every(_TELL_SECONDS, say, f"waiting for the work of {instance_id}")
    at_first: str | None = None
    while True:
        found = _look(aws, instance_id)
        if found is None or found["State"]["Name"] in _GONE:
            return
        heartbeat = _heartbeat(found)
        silent = is_silent(heartbeat, datetime.now(UTC))
        job = None if heartbeat is None or silent else heartbeat.job
        at_first = at_first or job
        match found["State"]["Name"]:
            case "stopped":
                break
            # The lesson it had is done; what it has taken since is given back, and the new one takes it.
            case "running" if job is None or job != at_first:
                if appliance.drain(aws, instance_id, say):
                    break
                if silent:
                    say(f"{instance_id} does not answer and gives no sign of life: it has nothing in hand")
                    break
        waited = time.monotonic() - started
        if waited > patience.work:
            busy = f"still has job {job}" if job else "does not end its work"
            raise OpsError(
                f"{instance_id} {busy} after {waited:.0f} s: run `make replace` again, it goes on from here"
            )
        tell(waited)
        time.sleep(_POLL_SECONDS)
    aws.ec2.terminate_instances(InstanceIds=[instance_id])
    say(f"{instance_id} is terminated")


def _look(aws: Connection, instance_id: str) -> InstanceTypeDef | None:
    try:
        answer = aws.ec2.describe_instances(InstanceIds=[instance_id])
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidInstanceID.NotFound":
            return None
        raise
    return next((i for group in answer["Reservations"] for i in group["Instances"]), None)


def _heartbeat(found: InstanceTypeDef) -> Heartbeat | None:
    return parse_heartbeat(tags_of(found).get(HEARTBEAT_TAG))


def _tag(aws: Connection, instance_id: str, key: str, value: str) -> None:
    aws.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": key, "Value": value}])
