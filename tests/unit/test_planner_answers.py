"""What a plan answers: the smallest fleet, what it costs, what it recommends, and where quotas bind."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from contracts.capacity import CapacityMode
from ops.cli.errors import run as run_app
from ops.errors import OpsError
from ops.prices import cost_usd, disk_usd_per_gib_month, hourly_price
from ops.settings import OpsSettings, Stack
from planner import figures as planner_figures
from planner import report
from planner.__main__ import app
from planner.answers import EXACT_LESSONS, Answer, Refusal, answer, recommend, scale_for
from planner.costs import cost, spent_by_minute
from planner.figures import ASSUMPTIONS, AUTO, MEASURED, Figures
from planner.plan import Plan, in_words, make_plan
from planner.policies import Policy, policies, setup
from planner.quotas import launch_delay, read_quotas, uses
from planner.simulation import Simulation
from planner.trace import Schools, Trace, generate
from tests.templates import template

TARGET = timedelta(minutes=15)
TYPE = "c7i.large"
ONE = Policy("one", CapacityMode.INSTANCE, (TYPE,))
FLEET = Policy("fleet", CapacityMode.FLEET, (TYPE,))
SPOT = replace(FLEET, name="spot", spot=True)


@pytest.fixture(scope="module")
def figures() -> Figures:
    return planner_figures.load()


@pytest.fixture(scope="module")
def day() -> Trace:
    return generate(Schools(160, 1280), 1)


def answered(policy: Policy, trace: Trace, figures: Figures, maximum: int | None = None) -> Answer:
    found = answer(policy, trace, figures, target=TARGET, maximum=maximum)
    assert isinstance(found, Answer), found
    return found


def plan_of(trace: Trace, figures: Figures, target: timedelta = TARGET) -> Plan:
    return make_plan(
        "A day",
        trace,
        figures,
        instance_type=TYPE,
        fleet_types=[TYPE, "c7a.large", "x9.huge"],
        target=target,
        seed=1,
        exact=False,
        maximum=None,
        tell=lambda _text: None,
        done=lambda _found, _seconds: None,
    )


# --- The smallest fleet ---


def test_the_fleet_found_keeps_the_target_and_one_machine_less_does_not(day: Trace, figures: Figures) -> None:
    found = answered(FLEET, day, figures)
    assert found.keeps_target
    assert found.maximum > 1
    assert not answered(FLEET, day, figures, maximum=found.maximum - 1).keeps_target


def test_a_target_no_fleet_can_keep_is_said_to_be_missed(day: Trace, figures: Figures) -> None:
    found = answer(FLEET, day, figures, target=timedelta(seconds=20))  # less than a boot
    assert isinstance(found, Answer)
    assert not found.keeps_target
    assert found.maximum >= found.run.peak_machines > 0
    assert "however many machines" in " ".join(in_words(plan_of(day, figures, timedelta(seconds=20))))


@pytest.mark.parametrize("maximum", [None, 1])
def test_what_falls_behind_is_refused_instead_of_simulated(figures: Figures, maximum: int | None) -> None:
    trace = generate(Schools(500, 4000), 1)
    found = answer(FLEET if maximum else ONE, trace, figures, target=TARGET, maximum=maximum)
    assert isinstance(found, Refusal)
    assert "falls behind" in found.reason


def test_a_large_trace_is_thinned_and_a_small_one_is_not() -> None:
    assert [scale_for(count) for count in (1, EXACT_LESSONS, EXACT_LESSONS + 1, 50 * EXACT_LESSONS)] == [
        1,
        1,
        2,
        50,
    ]


# --- Cost ---


def test_each_start_is_billed_by_the_second_and_the_disk_stays(figures: Figures) -> None:
    trace = generate(Schools(1, 3), 1)
    found = answered(ONE, trace, figures)
    machines = sum(cost_usd(span.end - span.start, TYPE) for span in found.run.spans)
    assert found.cost.run == pytest.approx(machines)
    disk = figures.disk_gib * disk_usd_per_gib_month()
    assert found.cost.month == pytest.approx(machines * figures.month.school_days + disk)
    assert found.cost.lesson == pytest.approx(found.cost.month / (3 * figures.month.school_days))


def test_cost_rises_with_machine_hours(day: Trace, figures: Figures) -> None:
    runs = [
        Simulation(day, setup(FLEET, figures, target=TARGET, maximum=most, seed=1)).run() for most in (3, 6, 60)
    ]
    runs.sort(key=lambda run: run.machine_hours)
    costs = [cost(run, FLEET, figures, day.days).month for run in runs]
    assert costs == sorted(costs)


def test_spot_costs_its_share_of_the_price(day: Trace, figures: Figures) -> None:
    run = answered(FLEET, day, figures).run
    calm = replace(SPOT, spot=True)
    full, share = (cost(run, policy, replace(figures, disk_gib=0), day.days).month for policy in (FLEET, calm))
    assert share == pytest.approx(full * figures.spot.price_share)


def test_the_cost_over_the_day_ends_at_the_cost_of_the_day(day: Trace, figures: Figures) -> None:
    run = answered(FLEET, day, figures).run
    spent = spent_by_minute(run, FLEET, figures)
    assert np.all(np.diff(spent) >= -1e-9)
    exactly = run.machine_hours * hourly_price(TYPE)
    assert spent[-1] == pytest.approx(exactly, rel=0.05)


def test_a_week_is_a_week_and_a_day_is_a_school_day(figures: Figures) -> None:
    months = figures.month
    week = answered(FLEET, generate(Schools(160, 1280, days=7), 1), figures)
    single = answered(FLEET, generate(Schools(160, 1280), 1), figures)
    assert week.cost.month == pytest.approx(week.cost.run * months.days / 7)
    assert single.cost.month == pytest.approx(single.cost.run * months.school_days)
    assert week.cost.month == pytest.approx(single.cost.month, rel=0.15)


# --- What is recommended ---


def priced(found: Answer, name: str, month: float, *, keeps: bool = True) -> Answer:
    return replace(
        found,
        policy=replace(found.policy, name=name),
        cost=replace(found.cost, month=month),
        p95_wait=found.target * (0.5 if keeps else 2),
    )


@pytest.mark.parametrize(
    ("months", "kept", "chosen"),
    [
        pytest.param((100, 300, 50), (True, True, True), "c", id="the cheapest"),
        pytest.param((52, 300, 50), (True, True, True), "a", id="a simpler one that costs hardly more"),
        pytest.param((52, 300, 50), (False, True, True), "c", id="not one that misses the target"),
        pytest.param((52, 300, 50), (False, False, False), None, id="nothing keeps it"),
    ],
)
def test_the_recommendation(
    day: Trace, figures: Figures, months: tuple[float, ...], kept: tuple[bool, ...], chosen: str | None
) -> None:
    some = answered(FLEET, day, figures, maximum=10)
    found = [
        priced(some, name, month, keeps=keeps) for name, month, keeps in zip("abc", months, kept, strict=True)
    ]
    recommended = recommend(found)
    assert (recommended and recommended[0].policy.name) == chosen


def test_one_school_keeps_its_one_machine(figures: Figures) -> None:
    plan = plan_of(generate(Schools(1, 8), 1), figures)
    assert plan.recommended is not None
    assert not plan.recommended[0].policy.fleet


def test_fifty_schools_get_a_fleet(figures: Figures) -> None:
    plan = plan_of(generate(Schools(50, 400), 1), figures)
    assert plan.recommended is not None
    assert plan.recommended[0].policy.fleet
    assert plan.recommended[0].keeps_target


def test_a_plan_says_what_to_set_and_each_is_a_setting(figures: Figures) -> None:
    for schools in (1, 50):
        words = list(in_words(plan_of(generate(Schools(schools, 8 * schools), 1), figures)))
        line = next(each for each in words if each.startswith("In .env: "))
        settings = dict(each.split("=") for each in line.removeprefix("In .env: ").split())
        example = (MEASURED.parent.parent / ".env.example").read_text()
        assert all(f"{name}=" in example for name in settings)
        OpsSettings.model_validate({name.lower(): value for name, value in settings.items()})
    assert settings["FLEET_INSTANCE_TYPES"] == f"{TYPE},c7a.large"
    assert any("x9.huge" in each for each in words)


# --- Quotas ---


def used(found: Answer, figures: Figures) -> dict[str, float]:
    return {use.quota.name.split(":")[0] + use.quota.unit: use.used for use in uses(
        found.run, found.policy, figures, read_quotas())}  # fmt: skip


def test_quotas_are_met_by_a_country_and_not_by_a_school(figures: Figures) -> None:
    quotas = read_quotas()
    school = answered(ONE, generate(Schools(1, 8), 1), figures)
    assert all(use.verdict == "fine" for use in uses(school.run, ONE, figures, quotas))
    country = answered(SPOT, generate(Schools(25_000, 200_000), 1), figures, maximum=2500)
    verdicts = {use.quota.name: use.verdict for use in uses(country.run, SPOT, figures, quotas)}
    binding = {name for name, verdict in verdicts.items() if verdict == "binds"}
    assert {quotas[key].name for key in ("vcpus_spot", "ec2_create_tags", "lambda_ticks")} <= binding
    assert verdicts[quotas["vcpus_on_demand"].name] == "fine"
    assert verdicts[quotas["sqs_in_flight"].name] == "fine"


def test_what_was_thinned_counts_in_full_against_the_quotas(figures: Figures) -> None:
    trace = generate(Schools(1500, 12_000), 1)
    quotas = read_quotas()
    peaks = []
    for scale in (1, 10):
        run = Simulation(trace, setup(FLEET, figures, target=TARGET, maximum=150, seed=1, scale=scale)).run()
        peaks.append({use.quota.name: use.used for use in uses(run, FLEET, figures, quotas)})
    for key in ("sqs_in_flight", "vcpus_on_demand", "ec2_create_tags", "lambda_ticks", "database_connections"):
        name = quotas[key].name
        assert peaks[1][name] == pytest.approx(peaks[0][name], rel=0.35), key


def test_a_burst_of_launches_beyond_the_bucket_waits_for_tokens(day: Trace, figures: Figures) -> None:
    quota = read_quotas()["ec2_launch_delay"]
    run = answered(FLEET, day, figures, maximum=5).run
    assert launch_delay(replace(run, launches=[0.0] * 1000), quota) == 0
    assert launch_delay(replace(run, launches=[0.0] * 1100), quota) == 50
    assert launch_delay(replace(run, launches=[0.0] * 1000 + [50.0] * 100), quota) == 0


def test_the_autoscalers_reserved_concurrency_is_what_the_table_says() -> None:
    function = template(Stack.AUTOSCALER)["Resources"]["Function"]["Properties"]
    condition, reserved, _ = function["ReservedConcurrentExecutions"]["Fn::If"]
    assert (condition, reserved) == ("Serialise", 1)


# --- Figures ---


def test_every_policy_has_its_figures(figures: Figures) -> None:
    for policy in policies(TYPE, (TYPE, "c7a.large")):
        setup(policy, figures, target=TARGET, maximum=1, seed=1)


@pytest.mark.parametrize(
    ("instance_type", "engine"),
    [("c7i.large", "openvino"), ("c6i.large", "openvino"), ("c6a.large", "faster-whisper")],
)
def test_by_default_a_type_has_the_engine_its_worker_would_choose(
    figures: Figures, instance_type: str, engine: str
) -> None:
    assert figures.engine(AUTO, instance_type) == figures.engines[engine]
    assert figures.engine("openai-whisper", instance_type) == figures.engines["openai-whisper"]


@pytest.mark.parametrize(
    ("line", "replaced", "complaint"),
    [
        (
            "real_time_factor = 0.",
            "real_time_factor = -0.",
            "measured.toml: engines.faster-whisper.real_time_factor",
        ),
        ("[appliance]", "[applianc]", "measured.toml: appliance: Field required"),
        ("[machine]", "[machine", "measured.toml cannot be read"),
    ],
)
def test_a_wrong_figure_is_one_line(tmp_path: Path, line: str, replaced: str, complaint: str) -> None:
    text = MEASURED.read_text()
    assert line in text
    broken = tmp_path / "measured.toml"
    broken.write_text(text.replace(line, replaced))
    with pytest.raises(OpsError, match=re.escape(complaint)):
        planner_figures.load(measured=broken)


def test_a_type_without_price_or_assumption_is_refused(figures: Figures) -> None:
    for name in ("x9.huge", "t3.large"):  # t3.large has a price, and nothing is assumed of it
        with pytest.raises(OpsError, match=name):
            setup(replace(ONE, types=(name,)), figures, target=TARGET, maximum=1, seed=1)
    assert "t3.large" not in ASSUMPTIONS.read_text()


# --- The report ---


def test_the_page_stands_alone_and_the_plots_lie_beside_it(figures: Figures, tmp_path: Path) -> None:
    plan = replace(plan_of(generate(Schools(2, 12), 1), figures), title="<script>a title</script>")
    page = report.write(plan, tmp_path).read_text()
    fetched = re.findall(r"""<link|<script|<img|@import|(?:src|href)=["']?[^#"'\s]|url\([^#]""", page)
    assert not fetched
    for found in plan.answers:
        assert found.policy.name in page
    assert page.count("<svg") == 2 + len(plan.answers)
    plots = sorted(tmp_path.glob("*.png"))
    assert len(plots) == 2 + len(plan.answers)
    assert all(plot.read_bytes().startswith(b"\x89PNG") for plot in plots)
    told = json.loads((tmp_path / "plan.json").read_text())
    assert [each["name"] for each in told["policies"]] == [found.policy.name for found in plan.answers]


# --- The command ---


def run_plan(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["planner", *arguments])
    try:
        return run_app(app)
    except SystemExit as ended:  # typer's own way out
        return int(ended.code or 0)


def test_the_command_prints_the_table_and_names_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_plan(monkeypatch, "--schools", "3", "--seed", "77") == 0
    said = capsys.readouterr().out
    assert "fleet on demand" in said
    assert "Recommended" in said
    named = re.search(r"report: (\S+report\.html)", said)
    assert named
    assert (MEASURED.parent.parent / named[1]).is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--target", "0"), "TARGET is minutes above 0"),
        (("--target", "nan"), "TARGET is minutes above 0"),
        (("--trace", "nowhere.csv"), "nowhere.csv cannot be read"),
        (("--trace", "nowhere.csv", "--schools", "2"), "leave SCHOOLS and LESSONS away"),
        (("--schools", "200000", "--lessons", "3000000"), "2000000"),
        (("--lessons", "0"), "lessons"),
        (("--schools", "many"), "schools"),
        (("--days", "40"), "days"),
        (("--holidays", "monday"), "HOLIDAYS takes numbers"),
        (("--lessons", "10", "--holidays", "1"), "no lesson"),
    ],
)
def test_bad_arguments_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    assert run_plan(monkeypatch, *arguments) != 0
    assert complaint in capsys.readouterr().err


def test_an_instance_type_nobody_knows_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INSTANCE_TYPE", "x9.huge")
    assert run_plan(monkeypatch, "--schools", "1") == 1
    assert capsys.readouterr().err.startswith("error: no price for 'x9.huge'")
