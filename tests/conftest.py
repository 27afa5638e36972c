"""What every test run shares: which tests it leaves out, their order, the seed, and the end by a signal."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from tests.scenarios.tables import print_tables

_BY_VERB = ("full", "appliance")
_LONGEST = ("appliance", "slow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="decides jobs, faults and messages of the full scenarios")
    parser.addoption(
        "--appliance", action="store_true", help="also bake and boot the appliance's image, and test it"
    )


def pytest_configure() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> None:
    """End a terminated run as Ctrl-C does, so that fixtures stop what they started."""
    raise KeyboardInterrupt


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes a verb of its own, unless `-m` asks for it, and begin with what takes longest.

    Test processes take whole files in this order, so a long file that came last would be waited for alone.
    """
    asked_for = f"{config.option.markexpr} {'appliance' if config.option.appliance else ''}"
    left_out = [marker for marker in _BY_VERB if marker not in asked_for]
    deselected = [item for item in items if any(item.get_closest_marker(marker) for marker in left_out)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = min(_rank(item), ranks.get(item.path, len(_LONGEST)))
    items.sort(key=lambda item: ranks[item.path])  # whole files, so that their fixtures are set up once


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, marker in enumerate(_LONGEST) if item.get_closest_marker(marker)), len(_LONGEST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode) -> None:
    # Here and not beside the scenarios: of a parallel run the process that prints loads no other conftest.
    print_tables(terminalreporter, exitstatus)
