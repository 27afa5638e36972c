"""Replace the image: a second appliance shows that it works, takes over, and the old one leaves after its work.

`replacement_plan` decides each step; this module carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from contracts.heartbeat import Heartbeat, is_silent, parse_heartbeat
from contracts.hold import parse_hold
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG, REPLACEMENT_TAG
from ops.aws.connection import Connection, in_group, tags_of
from ops.aws.logs import read_events
from ops.capacity import appliance, launch
from ops.capacity.image import image_id
from ops.capacity.replacement_plan import Done, Drop, Launch, Member, Model, Part, Prove, Retire, next_step
from ops.errors import OpsError
from ops.waiting import TooLong, say_every, wait_for, wait_until

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

Say = Callable[[str], None]
_TELL_SECONDS = 15.0
_LISTED_SECONDS = 120.0
_GONE = {"shutting-down", "terminated"}


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds."""

    trial: float = 900.0
    """A first boot reads its disk from S3; three empty polls take a minute more."""
    work: float = 7200.0
    """A long lesson with a slow model. A repeated `make replace` waits that long again."""


class TrialFailed(Exception):
    """Why the new appliance does not take over."""


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
    """The launch template's newest version. Raises OpsError when its image is not the one baked last."""
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
    """EC2 is eventually consistent: a trial that is not listed yet would be launched again. Raises OpsError."""
    try:
        wait_until(lambda: instance_id in {member.id for member in _members(aws)}, _LISTED_SECONDS)
    except TooLong:
        raise OpsError(
            f"EC2 does not list {instance_id}: see `make status`, then run `make replace` again"
        ) from None


def _refuse_under_hold(aws: Connection) -> None:
    hold = parse_hold(tags_of(aws.instance()).get(HOLD_TAG))
    if hold and hold.active_at(datetime.now(UTC)):
        raise OpsError(f"the appliance is held by {hold.by}: run `make resume` first")


def _prove(aws: Connection, new: Member, old: Sequence[Member], patience: Patience, say: Say) -> None:
    tell = say_every(_TELL_SECONDS, say, f"{new.id} is on trial")
    try:
        try:
            proof = wait_for(lambda: _proof(aws, new, _look(aws, new.id)), patience.trial, tell)
        except TooLong as late:
            found = _look(aws, new.id)
            state = found["State"]["Name"] if found else "gone"
            raise TrialFailed(f"it has shown no work after {late.seconds:.0f} s; it is {state}") from None
    except TrialFailed as failure:
        aws.ec2.terminate_instances(InstanceIds=[new.id])
        stays = f"{old[0].id} stays in charge" if old else "there is no other"
        raise OpsError(f"{new.id} ({new.model}) failed its trial and is terminated: {failure}; {stays}") from None
    say(f"{new.id} works: {proof}")


def _proof(aws: Connection, new: Member, found: InstanceTypeDef | None) -> str | None:
    """What shows that the instance took a job or could take one; None: nothing yet. Raises TrialFailed."""
    if found is None:  # EC2 may not list it yet
        return None
    state = found["State"]["Name"]
    if state in _GONE:
        raise TrialFailed(f"EC2 ended it ({found.get('StateReason', {}).get('Message', 'no reason given')})")
    heartbeat = _heartbeat(found)
    if heartbeat is None or heartbeat.at < new.launched.replace(microsecond=0):
        if state == "stopped":
            raise TrialFailed("it stopped without a sign of life")
        return None
    if heartbeat.crashed:
        raise TrialFailed("its worker crashed in a loop, see `make logs MINUTES=60`")
    if heartbeat.job:
        return f"it has taken job {heartbeat.job}"
    if state in {"stopping", "stopped"}:
        return "it found the queue empty and stopped itself"
    # A heartbeat is not enough: a worker that SQS refuses sends one too.
    words = {"poll_empty": "it asks the queue for lessons", "job_completed": "it has done a lesson"}
    for event in read_events(aws, new.launched):
        if event.source == new.id and event.fields.get("event") in words:
            return words[event.fields["event"]]
    return None


def _hand_over(aws: Connection, new: Member, old: Sequence[Member], say: Say) -> None:
    """Put the new one in charge first, so that one always is. A hold moves with it."""
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
    leaving = _Leaving(aws, instance_id, say)
    try:
        is_there = wait_for(
            leaving.look, patience.work, say_every(_TELL_SECONDS, say, f"waiting for the work of {instance_id}")
        )
    except TooLong as late:
        busy = f"still has job {leaving.job}" if leaving.job else "does not end its work"
        raise OpsError(
            f"{instance_id} {busy} after {late.seconds:.0f} s: run `make replace` again, it goes on from here"
        ) from None
    if is_there:
        aws.ec2.terminate_instances(InstanceIds=[instance_id])
        say(f"{instance_id} is terminated")


class _Leaving:
    """An instance that is to be terminated, looked at until its worker has nothing in hand."""

    def __init__(self, aws: Connection, instance_id: str, say: Say) -> None:
        self.job: str | None = None
        """What the worker has in hand, as far as its heartbeat says."""
        self._aws = aws
        self._id = instance_id
        self._say = say
        self._job_at_first: str | None = None

    def look(self) -> bool | None:
        """True: it may be terminated; False: it is gone already; None: not yet."""
        found = _look(self._aws, self._id)
        if found is None or found["State"]["Name"] in _GONE:
            return False
        heartbeat = _heartbeat(found)
        silent = is_silent(heartbeat, datetime.now(UTC))
        self.job = None if heartbeat is None or silent else heartbeat.job
        self._job_at_first = self._job_at_first or self.job
        match found["State"]["Name"]:
            case "stopped":
                return True
            # Its first lesson is done. What it has taken since goes back to the queue, for the new one.
            case "running" if self.job is None or self.job != self._job_at_first:
                if appliance.drain(self._aws, self._id, self._say):
                    return True
                if silent:
                    self._say(f"{self._id} does not answer and gives no sign of life: it has nothing in hand")
                    return True
        return None


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
