"""What the scenarios share: the baked image, the seed, and a place in the tables at the end of the run."""

from __future__ import annotations

import fcntl
from collections.abc import Callable

import pytest
from rich.table import Table

from local.images.current import WORK, Baked
from local.images.rehearsal import make_image
from local.machines.container import obstacle
from ops.settings import OpsSettings
from tests.scenarios.tables import CASE, DETAIL, SHOWN, rendered

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
    return lambda what: record_property(SHOWN, what if isinstance(what, str) else rendered(what))


@pytest.fixture
def case(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> str:
    """The test is a row of the table of cases, by this name."""
    name = request.node.name.removeprefix("test_").replace("_", " ").replace("ssm", "SSM")
    record_property(CASE, name)
    return str(name)


@pytest.fixture
def detail(case: str, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say in the case's row what was seen."""
    return lambda text: record_property(DETAIL, text)
