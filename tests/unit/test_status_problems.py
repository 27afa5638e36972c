"""What `make status` calls a problem, case by case."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts.capacity import CapacityMode
from ops.observability.alarms import Alarm
from ops.observability.cost import Estimate
from ops.observability.decisions import LastDecision
from ops.observability.machines import Appliance, FleetNow, Worker
from ops.observability.problems import find_problems
from ops.observability.queues import Queue
from ops.observability.status import Status, Version

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
QUIET = Queue(visible=0, in_flight=0, delayed=0, dead=0)
DECISION = LastDecision(time=NOW, age_seconds=10, action="none", reason="nothing to do", outcome="none")
FLEET = FleetNow(name="fleet", desired=1, maximum=2, states={"InService": 1}, hold=None)


def machine(name: str = "i-1", *, crashed: bool = False, silent: bool = False) -> Appliance:
    worker = Worker(heartbeat=NOW, job_id=None, progress=None, crashed=crashed, silent=silent)
    return Appliance(
        instance_id=name,
        state="running",
        since=NOW,
        instance_type="c7i.large",
        image_id="ami-1",
        public_address=None,
        hold=None,
        worker=worker,
    )


def alarm(name: str, state: str) -> Alarm:
    return Alarm(name, state, NOW, "", f"do this about {name}")


@pytest.mark.parametrize(
    ("machines", "problems"),
    [
        ([machine()], []),
        ([machine().model_copy(update={"worker": None})], []),
        ([], ["there is no appliance: run `make launch`"]),
        ([machine(silent=True)], ["the worker is silent: run `make doctor`"]),
        (
            [machine(crashed=True, silent=True)],
            ["the worker crashed in a loop: see `make logs MINUTES=60`, then `make start`"],
        ),
        ([machine("i-new"), machine("i-old", silent=True)], []),
    ],
)
def test_of_one_appliance_the_newest_counts(machines: list[Appliance], problems: list[str]) -> None:
    found = find_problems(CapacityMode.INSTANCE, machines, None, QUIET, DECISION, [], just_deployed=False)
    assert found == problems


@pytest.mark.parametrize(
    ("fleet", "machines", "problems"),
    [
        (None, [], ["there is no fleet: run `make deploy-infra deploy-lambda`"]),
        (FLEET, [], []),
        (
            FLEET,
            [machine("i-1", silent=True), machine("i-2", crashed=True), machine("i-3")],
            [
                "the worker on i-1 is silent: see `make logs`, then `make stop resume`",
                "the worker on i-2 crashed in a loop: see `make logs MINUTES=60`",
            ],
        ),
    ],
)
def test_of_a_fleet_every_machine_counts_and_none_is_usual(
    fleet: FleetNow | None, machines: list[Appliance], problems: list[str]
) -> None:
    found = find_problems(CapacityMode.FLEET, machines, fleet, QUIET, DECISION, [], just_deployed=False)
    assert found == problems


@pytest.mark.parametrize(
    ("queue", "problems"),
    [
        (Queue(visible=9, in_flight=1, delayed=1, dead=0, oldest_seconds=3600), []),
        (
            Queue(visible=9, in_flight=1, delayed=1, dead=0, oldest_seconds=3601),
            ["a lesson has waited for more than an hour: see `make logs`"],
        ),
        (
            Queue(visible=0, in_flight=0, delayed=0, dead=3),
            ["3 messages lie in the dead-letter queue: see `make dlq`"],
        ),
    ],
)
def test_a_backlog_is_no_problem_but_its_age_and_dead_letters_are(queue: Queue, problems: list[str]) -> None:
    found = find_problems(CapacityMode.INSTANCE, [machine()], None, queue, DECISION, [], just_deployed=False)
    assert found == problems


@pytest.mark.parametrize(
    ("decision", "just_deployed", "silent"),
    [(None, False, True), (None, True, False), (DECISION, False, False)],
)
def test_an_autoscaler_without_a_decision_is_a_problem_unless_it_is_new(
    decision: LastDecision | None, just_deployed: bool, silent: bool
) -> None:
    found = find_problems(
        CapacityMode.INSTANCE, [machine()], None, QUIET, decision, [], just_deployed=just_deployed
    )
    assert found == (["the autoscaler has not run in 15 minutes: run `make doctor`"] if silent else [])


def test_what_gave_no_answer_and_the_firing_alarms_come_last() -> None:
    alarms = [alarm("dead-letters", "ALARM"), alarm("errors", "OK"), alarm("backlog", "INSUFFICIENT_DATA")]
    found = find_problems(
        CapacityMode.INSTANCE,
        [],
        None,
        QUIET.model_copy(update={"dead": 1}),
        DECISION,
        alarms,
        just_deployed=False,
        unreadable=["the database does not answer: gone"],
    )
    assert found == [
        "there is no appliance: run `make launch`",
        "1 messages lie in the dead-letter queue: see `make dlq`",
        "the database does not answer: gone",
        "alarm dead-letters: do this about dead-letters",
    ]


def test_scripts_find_an_unfinished_replacement_by_the_older_name() -> None:
    status = Status(
        healthy=True,
        problems=[],
        appliance=None,
        fleet=None,
        machines=[],
        replacing=["i-2 trial (running)"],
        queue=QUIET,
        decision=None,
        version=Version(wanted=None, installed=None, autoscaler=None),
        jobs=[],
        month_to_date=Estimate(usd=1, hours_up=2, disk_gib=15, source="estimate"),
    )
    assert status.model_dump(by_alias=True)["rolling"] == ["i-2 trial (running)"]
