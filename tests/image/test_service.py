"""The unit: how it starts and ends, what it may use and touch, and that it transcribes so."""

from __future__ import annotations

import re
from pathlib import Path

import jiwer
import pytest
from testinfra.host import Host

from tests.image.roles import defaults, text

UNIT = text("processor_unit")
SAMPLE_TEXT = Path(__file__).resolve().parents[2] / "samples" / "lesson.txt"
UNITS = [UNIT, *(f"{UNIT}-{name}" for name in ("check", "failed", "read-ahead", "update"))]
CHECK = "whisper-check"
# What the unit's own worker does with a lesson, from the file to the text.
TRANSCRIBE = """
import sys
from pathlib import Path
from whisper_processor.engines.base import Options
from whisper_processor.engines.choice import resolve
from whisper_processor.audio.media import decode
from whisper_processor.models import model_path
from whisper_processor.transcripts.outputs import plain_text
from whisper_processor.settings import Settings
from whisper_processor.engines.child import ChildTranscriber, Work

if __name__ == "__main__":
    settings = Settings(_env_file=None, queue_url="-", dlq_url="-", bucket="-")
    samples = Path(settings.work_dir) / "check.samples"
    decode(Path(sys.argv[1]), samples, settings.max_audio_seconds)
    engine = resolve(settings.whisper_engine).engine
    model = model_path([settings.whisper_models_dir], engine, settings.whisper_model)
    work = Work(samples=samples, engine=engine, model=model, options=Options())
    with ChildTranscriber() as transcriber:
        print("HEARD", plain_text(transcriber.transcribe(work, 600, lambda _: None).transcription))
    samples.unlink()
"""


def shown(host: Host, name: str) -> str:
    return host.check_output(f"systemctl show {UNIT}.service --property={name} --value")


@pytest.mark.parametrize("unit", [UNIT, f"{UNIT}-read-ahead", f"{UNIT}-update"])
def test_it_starts_at_boot(host: Host, unit: str) -> None:
    assert host.run(f"systemctl is-enabled {unit}.service").stdout.strip() in {"enabled", "linked"}
    wants = f"/etc/systemd/system/multi-user.target.wants/{unit}.service"
    assert host.file(wants).is_symlink
    assert host.run(f"test -e {wants}").rc == 0


def test_the_update_comes_before_the_worker(host: Host) -> None:
    before = host.check_output(f"systemctl show {UNIT}-update.service --property=Before --value")
    assert f"{UNIT}.service" in before.split()


def test_the_updater_runs_from_the_proven_release(host: Host) -> None:
    """A broken release must not break what replaces it."""
    unit = host.check_output(f"systemctl cat {UNIT}-update.service")
    assert f"ExecStart=-{text('processor_proven')}/bin/python -m whisper_processor.update boot" in unit


def test_the_check_has_the_workers_sandbox(host: Host) -> None:
    names = ("User", "ProtectSystem", "SystemCallFilter", "RestrictAddressFamilies", "TasksMax", "PrivateUsers")
    for name in names:
        told = host.check_output(f"systemctl show {UNIT}-check.service --property={name} --value")
        assert told == shown(host, name), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("User", text("processor_user")),
        ("Restart", "on-failure"),
        ("StartLimitBurst", text("processor_restart_limit")),
        ("OnFailure", f"{UNIT}-failed.service"),
        ("OOMPolicy", "continue"),
        ("TasksMax", text("processor_tasks_max")),
        ("KillMode", "mixed"),
    ],
)
def test_the_unit_is_set(host: Host, name: str, value: str) -> None:
    assert shown(host, name) == value


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("TimeoutStopUSec", defaults()["processor_stop_seconds"]),
        ("StartLimitIntervalUSec", defaults()["processor_restart_window_seconds"]),
    ],
)
def test_the_units_times_are_set(host: Host, name: str, seconds: int) -> None:
    """systemd shows them as `1min 30s`."""
    units = {"s": 1, "min": 60, "h": 3600}
    found = sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)(s|min|h)\b", shown(host, name)))
    assert found == seconds


def test_memory_is_limited(host: Host) -> None:
    high, most = int(shown(host, "MemoryHigh")), int(shown(host, "MemoryMax"))
    total = int(host.check_output("awk '/^MemTotal/ {print $2 * 1024}' /proc/meminfo | xargs printf '%.0f'"))
    assert 0 < high < most < total


def test_the_sandbox_is_tight(host: Host) -> None:
    told = host.check_output(f"systemd-analyze security {UNIT}.service --no-pager")
    exposure = float(re.findall(r"exposure level for \S+: ([\d.]+)", told)[0])
    print(f"systemd-analyze security: {exposure}")  # noqa: T201 - the figure is wanted beside the verdict
    assert exposure <= defaults()["processor_exposure_max"]


def test_the_units_are_valid(host: Host) -> None:
    names = [f"/etc/systemd/system/{name}.service" for name in UNITS]
    told = host.run(f"systemd-analyze verify {' '.join(names)}")
    assert (told.rc, told.stderr) == (0, "")


def test_a_real_lesson_is_transcribed_inside_the_sandbox(host: Host) -> None:
    """The unit itself with another command: same user, same sandbox, same limits."""
    unit = f"/run/systemd/system/{CHECK}.service"
    script = f"{text('processor_state')}/check.py"
    folder = text("processor_state")
    user = text("processor_user")
    host.check_output(f"install -d -o {user} -g {user} -m 700 {folder}")
    host.check_output(f"printf '%s' %s > {script} && chown {user} {script}", "%s", TRANSCRIBE)
    start = f"{text('processor_current')}/bin/python {script} {text('whisper_sample_path')}"
    edits = [
        f"s|^ExecStart=.*|ExecStart={start}|",
        "s|^Type=notify|Type=oneshot|",
        *("/^WatchdogSec=/d", "/^Restart=/d", "/^OnFailure=/d", "s|^TimeoutStartSec=.*|TimeoutStartSec=600|"),
    ]
    try:
        host.check_output(
            f"mkdir -p /run/systemd/system && sed {' '.join(f'-e {edit!r}' for edit in edits)}"
            f" /etc/systemd/system/{UNIT}.service > {unit} && systemctl daemon-reload"
        )
        ended = host.run(f"systemctl start {CHECK}.service")
        told = host.check_output(f"journalctl --unit={CHECK}.service --output=cat --no-pager")
        assert ended.rc == 0, told
    finally:
        host.run(f"rm -f {unit} {script}; systemctl daemon-reload; systemctl reset-failed {CHECK}.service")
    heard = next(line for line in told.splitlines() if line.startswith("HEARD ")).removeprefix("HEARD ")
    plain = jiwer.Compose([jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.ReduceToListOfListOfWords()])
    wrong = jiwer.wer(SAMPLE_TEXT.read_text(), heard, reference_transform=plain, hypothesis_transform=plain)
    assert wrong < 0.1, heard
