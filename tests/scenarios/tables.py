"""The tables of the scenarios, printed at the end of the run by tests/conftest.py.

A test puts its table into its report's properties, so that it arrives from a parallel process, too.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN = "shown"
CASE = "case"
DETAIL = "detail"
_WIDTH = 115


def print_tables(terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode) -> None:
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
    lines = [str(text) for report in reports for name, text in report.user_properties if name == SHOWN]
    if cases := [report for report in reports if CASE in dict(report.user_properties)]:
        lines.append(rendered(table_of(cases)))
    for line in lines:
        terminalreporter.write_line(line)


def table_of(cases: list[pytest.TestReport]) -> Table:
    table = Table("case", "outcome", "seconds", "", box=None)
    for report in cases:
        properties = dict(report.user_properties)
        outcome = "passed" if report.passed else "FAILED"
        said = str(properties.get(DETAIL, "")) if report.passed else reason(report.longrepr)
        table.add_row(str(properties[CASE]), outcome, f"{report.duration:.0f}", Text(said))
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
