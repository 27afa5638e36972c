"""The tables of the scenarios, printed at the end of the run.

A test puts its table into its report's properties, so that it arrives from a parallel worker, too.
"""

from __future__ import annotations

import fcntl
import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.images.current import WORK, Baked
from local.images.rehearsal import make_image
from local.machines.container import obstacle
from ops.settings import OpsSettings

_SHOWN = "shown"
_CASE = "case"
_DETAIL = "detail"
_WIDTH = 115
Show = Callable[[Table | str], None]


@pytest.fixture(scope="session")
def image() -> Baked:
    """The image of this checkout, baked if its inputs changed. One test process bakes, the others wait for it."""
    if reason := obstacle():
        pytest.skip(f"no image can be baked and booted here: {reason}")
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "bake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return make_image(OpsSettings(), print)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Show:
    """Print a table or a line at the end of the run."""
    return lambda what: record_property(_SHOWN, what if isinstance(what, str) else rendered(what))


@pytest.fixture
def case(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> str:
    """The test is a row of the table of cases, by this name."""
    name = request.node.name.removeprefix("test_").replace("_", " ").replace("ssm", "SSM")
    record_property(_CASE, name)
    return str(name)


@pytest.fixture
def detail(case: str, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say in the case's row what was seen."""
    return lambda text: record_property(_DETAIL, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode) -> None:
    if exitstatus is pytest.ExitCode.NO_TESTS_COLLECTED:
        names = ", ".join(item.name for item in terminalreporter.stats.get("deselected", []))
        terminalreporter.write_line(f"nothing is called so; there are: {names}")
    reports = [
        report
        for outcome in ("passed", "failed", "error")
        for report in terminalreporter.getreports(outcome)
        if isinstance(report, pytest.TestReport)
    ]
    reports.sort(key=lambda report: report.start)
    lines = [str(text) for report in reports for name, text in report.user_properties if name == _SHOWN]
    if cases := [report for report in reports if _CASE in dict(report.user_properties)]:
        lines.append(rendered(table_of(cases)))
    for line in lines:
        terminalreporter.write_line(line)


def table_of(cases: list[pytest.TestReport]) -> Table:
    table = Table("case", "outcome", "seconds", "", box=None)
    for report in cases:
        properties = dict(report.user_properties)
        outcome = "passed" if report.passed else "FAILED"
        said = str(properties.get(_DETAIL, "")) if report.passed else reason(report.longrepr)
        table.add_row(str(properties[_CASE]), outcome, f"{report.duration:.0f}", Text(said))
    return table


def reason(failure: Any) -> str:
    """The first line of what went wrong."""
    crash = getattr(failure, "reprcrash", None)
    text = str(crash.message if crash else failure)
    return text.removeprefix("AssertionError: ").strip().partition("\n")[0]


def rendered(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=_WIDTH, highlight=False).print(table)
    return text.getvalue()
