"""The wave: one appliance after the other, what is said to those that do not run, and where it stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from contracts.tags import HOLD_TAG, REPLACEMENT_TAG
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.releases import rollout, store
from ops.releases.lock import DeployLock
from ops.releases.rollout import Failed, Stopped, _in_turn
from tests.unit.test_updater import NEW, OLD, request_for
from whisper_processor.releases import Wanted

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Ec2:
    """As much of EC2 as a deploy touches."""

    found: list[dict[str, Any]]

    def create_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> None:  # noqa: N803
        for instance in self._named(Resources):
            keys = {tag["Key"] for tag in Tags}
            instance["Tags"] = [tag for tag in instance["Tags"] if tag["Key"] not in keys] + Tags

    def delete_tags(self, Resources: list[str], Tags: list[dict[str, str]]) -> None:  # noqa: N803
        for instance in self._named(Resources):
            keys = {tag["Key"] for tag in Tags}
            instance["Tags"] = [tag for tag in instance["Tags"] if tag["Key"] not in keys]

    def describe_instances(self, InstanceIds: list[str]) -> dict[str, Any]:  # noqa: N803
        return {"Reservations": [{"Instances": self._named(InstanceIds)}]}

    def _named(self, ids: list[str]) -> list[dict[str, Any]]:
        return [instance for instance in self.found if instance["InstanceId"] in ids]


@dataclass
class Cloud:
    ec2: Ec2

    def instances(self) -> list[dict[str, Any]]:
        return self.ec2.found


@dataclass
class Wave:
    cloud: Cloud
    acted: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    renewed: int = 0
    holds: list[str] = field(default_factory=list)
    outcome: dict[str, Exception] = field(default_factory=dict)

    def renew(self) -> None:
        self.renewed += 1

    def act(self, instance_id: str) -> None:
        self.acted.append(instance_id)
        self.holds += [tag_of(self.cloud, instance_id, HOLD_TAG) or ""]
        if error := self.outcome.get(instance_id):
            raise error

    def run(self) -> None:
        lock, cloud = cast("DeployLock", self), cast("Connection", self.cloud)
        _in_turn(cloud, self.act, "installs it", lock, self.said.append)


def wave(*states: str, **tags: str) -> Wave:
    """Appliances i-0, i-1, … in these states; `tags` are the first one's."""
    found = [
        {"InstanceId": f"i-{number}", "State": {"Name": state}, "LaunchTime": NOW, "Tags": []}
        for number, state in enumerate(states)
    ]
    found[0]["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return Wave(Cloud(Ec2(found)))


def tag_of(cloud: Cloud, instance_id: str, key: str) -> str | None:
    (instance,) = cloud.ec2._named([instance_id])
    return next((tag["Value"] for tag in instance["Tags"] if tag["Key"] == key), None)


def test_running_ones_take_it_one_after_the_other() -> None:
    one = wave("running", "running", "running")
    one.run()
    assert one.acted == ["i-0", "i-1", "i-2"]
    assert one.renewed == 3, "each gets the lock's whole time"


def test_the_wave_stops_at_the_first_that_fails() -> None:
    one = wave("running", "running", "running")
    one.outcome["i-1"] = Failed("i-1: its check failed")
    with pytest.raises(Failed):
        one.run()
    assert one.acted == ["i-0", "i-1"]


def test_a_stopped_one_installs_it_at_its_next_boot() -> None:
    one = wave("stopped", "running", "stopping")
    one.run()
    assert one.acted == ["i-1"]
    assert [line for line in one.said if "at its next boot" in line] == [
        "i-0 is stopped: it installs it at its next boot",
        "i-2 is stopping: it installs it at its next boot",
    ]


def test_one_that_stops_meanwhile_does_not_stop_the_wave() -> None:
    one = wave("running", "running")
    one.outcome["i-0"] = Stopped()
    one.run()
    assert one.acted == ["i-0", "i-1"]
    assert any("i-0 stopped meanwhile" in line for line in one.said)


def test_what_a_roll_out_has_on_trial_is_left_alone() -> None:
    one = wave("running", "running", **{REPLACEMENT_TAG: "trial"})
    one.run()
    assert one.acted == ["i-1"]


@pytest.mark.parametrize("outcome", [None, Failed("broken"), Stopped()])
def test_it_is_held_meanwhile_and_a_persons_hold_comes_back(outcome: Exception | None) -> None:
    theirs = "by=anna;until=2026-03-01T18:00:00Z"
    one = wave("running", "running", **{HOLD_TAG: theirs})
    if outcome:
        one.outcome["i-0"] = outcome
    try:
        one.run()
    except Failed:
        assert isinstance(outcome, Failed)
    assert all(hold.startswith("by=deploy of ") for hold in one.holds)
    assert tag_of(one.cloud, "i-0", HOLD_TAG) == theirs
    assert tag_of(one.cloud, "i-1", HOLD_TAG) is None


def test_a_hold_that_somebody_sets_meanwhile_stays() -> None:
    one = wave("running")
    act, theirs = one.act, "by=anna;until=2026-03-01T18:00:00Z"

    def hold_it(instance_id: str) -> None:
        act(instance_id)
        one.cloud.ec2.create_tags([instance_id], [{"Key": HOLD_TAG, "Value": theirs}])

    one.act = hold_it  # type: ignore[method-assign]
    one.run()
    assert tag_of(one.cloud, "i-0", HOLD_TAG) == theirs


@pytest.mark.parametrize("before", [None, request_for(OLD), request_for(NEW)])
def test_a_release_that_failed_is_not_wanted_any_more(
    before: Wanted | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it was wanted before: then nothing better is known."""
    pointer: list[Wanted | None] = [before]
    monkeypatch.setattr(store, "read_wanted", lambda _cloud: pointer[-1])
    monkeypatch.setattr(store, "write_wanted", lambda _cloud, wanted: pointer.append(wanted))
    monkeypatch.setattr(store, "on_processes", lambda _cloud: False)

    def fail(*_arguments: object) -> None:
        raise Failed("i-0: its check failed")

    monkeypatch.setattr(rollout, "_in_turn", fail)
    one = wave("running")
    with pytest.raises(OpsError, match="its check failed"):
        rollout.bring(cast("Connection", one.cloud), NEW, cast("DeployLock", one), one.said.append)
    assert pointer[1] is not None
    assert pointer[1].release == NEW
    if before is None or before.release != NEW:
        assert pointer[-1] == before
    else:
        assert pointer[-1] is not None
        assert pointer[-1].release == NEW
