"""A machine booted from the finished image, with its worker at work."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from testinfra.host import Host

from tests.image.roles import text

UNIT = text("processor_unit")
pytestmark = pytest.mark.booted


def active(host: Host, seconds: float = 60.0) -> str:
    """The unit's state, once nothing is about to change it: it starts after the update at boot."""
    deadline = time.monotonic() + seconds
    while True:
        told = host.run(f"systemctl show {UNIT}.service --property=ActiveState --property=Job").stdout
        found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
        settled = found.get("ActiveState", "activating") != "activating" and found.get("Job", "0") in {"0", ""}
        if settled or time.monotonic() > deadline:
            return found.get("ActiveState", "")
        time.sleep(0.5)


def booted_at(host: Host) -> str:
    """Empty while the machine cannot be reached: testinfra raises for SSH's own errors."""
    with suppress(RuntimeError):
        return host.run("systemctl show --property=UserspaceTimestamp --value").stdout.strip()
    return ""


def test_the_worker_runs(host: Host) -> None:
    assert active(host) == "active"
    assert host.run(f"systemctl show {UNIT}.service --property=NRestarts --value").stdout.strip() == "0"


def test_the_update_at_boot_found_nothing_to_do_or_did_it(host: Host) -> None:
    report = json.loads(host.check_output(f"cat {text('processor_update_state')}/report.json"))
    assert report["result"] in {"unchanged", "installed"}, report
    assert report["current"] == host.check_output(f"readlink {text('processor_current')}").rsplit("/", 1)[-1]


def test_the_watchdog_watches(host: Host) -> None:
    assert host.check_output(f"systemctl show {UNIT}.service --property=WatchdogUSec --value") == "2min"


def test_the_models_blocks_were_read_ahead(host: Host) -> None:
    unit = f"{UNIT}-read-ahead.service"
    assert host.check_output(f"systemctl show {unit} --property=Result --value") == "success"
    assert host.check_output(f"systemctl show {unit} --property=ExecMainExitTimestampMonotonic --value") != "0"


def test_the_machine_has_an_id_of_its_own(host: Host) -> None:
    assert len(host.file("/etc/machine-id").content_string.strip()) == 32


def test_no_unit_failed(host: Host) -> None:
    assert host.check_output("systemctl --failed --no-legend --plain") == ""


def test_the_journal_is_clean(host: Host) -> None:
    """Nothing of this boot at `err` or worse, but for what the machine's maker says of sudo and SSH themselves."""
    told = host.check_output("journalctl --boot --priority=err --output=cat --no-pager --quiet")
    assert told == ""


def test_it_survives_a_reboot(host: Host) -> None:
    before = booted_at(host)
    host.run("systemctl --no-block reboot")
    deadline = time.monotonic() + 180
    now = ""
    while now in {"", before} and time.monotonic() < deadline:
        time.sleep(1)
        now = booted_at(host)
    assert now not in {"", before}
    assert active(host) == "active"
    assert host.check_output("systemctl --failed --no-legend --plain") == ""
