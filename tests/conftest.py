"""What every test run shares: which tests belong to a verb of their own, the seed, and the end by a signal."""

from __future__ import annotations

import signal
import threading

import pytest

_BY_VERB = ("full", "appliance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="decides jobs, faults and messages of the full scenarios")


def pytest_configure() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> None:
    """End a terminated run as Ctrl-C does, so that fixtures stop what they started."""
    raise KeyboardInterrupt


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of a verb out of a run that does not ask for their marker."""
    left_out = [marker for marker in _BY_VERB if marker not in config.option.markexpr]
    deselected = [item for item in items if any(item.get_closest_marker(marker) for marker in left_out)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in deselected]
