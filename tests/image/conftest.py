"""The machine under test is named by IMAGE_HOSTS, as `make test-image`, `make test-ami` and the bake do.

Without it (the ordinary `pytest`) these tests are not collected: there is nothing to look at.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from ops.aws.connection import Connection
from ops.settings import OpsSettings
from tests.image.ssm import SsmBackend

HOSTS = [uri for uri in os.environ.get("IMAGE_HOSTS", "").split(",") if uri]
collect_ignore_glob = [] if HOSTS else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A reboot comes last: it would take away what the other tests look at."""
    items.sort(key=lambda item: "reboot" in item.name)


@pytest.fixture(scope="session", params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    """`ssh://user@address:port`, or `i-…` for an instance, over SSM."""
    uri: str = request.param
    if uri.startswith("i-"):
        return Host(SsmBackend(Connection(OpsSettings()).ssm, uri))
    files = {name: os.environ.get(f"IMAGE_{name.upper()}") for name in ("ssh_config", "ssh_identity_file")}
    return testinfra.get_host(uri, sudo=not uri.startswith("ssh://root@"), **files)


@pytest.fixture
def disk() -> Path:
    """The finished image's files before any boot; only `make test-image` has them at hand."""
    root = os.environ.get("IMAGE_ROOT")
    if not root:
        pytest.skip("the image's disk is at hand only where it was baked on this machine")
    return Path(root)
