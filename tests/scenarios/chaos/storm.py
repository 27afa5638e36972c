"""The storm: carries the plan out against the real parts and says what came of it."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from botocore.exceptions import ClientError
from rich.table import Table

from contracts.keys import transcript_key
from testbed.cloud import Say
from testbed.worker_process import WorkerProcess
from tests.scenarios.chaos.faults import FaultProxy
from tests.scenarios.chaos.media import cut_sample
from tests.scenarios.chaos.planted import FOLDER_VARIABLE, Act, Order, plant
from tests.scenarios.chaos.stage import SAY_SECONDS, Row, Stage
from tests.scenarios.chaos.storm_plan import (
    OWNER,
    Blow,
    Event,
    Job,
    Outcome,
    Plan,
    Size,
    Upload,
    Verdict,
    judge,
    make_plan,
)

_LEASE_SECONDS = 5
_PAUSE_SECONDS = _LEASE_SECONDS + 3.0
SETTINGS = {
    "VISIBILITY_TIMEOUT_SECONDS": str(_LEASE_SECONDS),
    "DRAIN_SECONDS": "2",
    "DEADLINE_MINIMUM_SECONDS": "15",  # a fresh child needs some of it to start on a busy machine
    "DEADLINE_FACTOR": "10",
}


@dataclass(frozen=True)
class Report:
    jobs: int
    messages: int
    verdict: Verdict
    blows: Counter[str]
    faults: Counter[str]
    redeliveries: int
    refused: int
    held: int
    left: int
    retries: int
    seconds: float

    @property
    def problems(self) -> list[str]:
        return self.verdict.problems

    def table(self) -> Table:
        table = Table("storm", "count", box=None)
        rows: list[tuple[str, object]] = [
            ("jobs", self.jobs),
            ("messages sent", self.messages),
            *self.blows.most_common(),
            *((f"fault: {kind}", count) for kind, count in self.faults.most_common()),
            ("redeliveries", self.redeliveries),
            ("deliveries of a finished job, without effect", self.refused),
            ("doubles that waited for the worker at the job", self.held),
            ("jobs left to another worker after a lost lease", self.left),
            ("attempts given up and tried again", self.retries),
            ("lost", len(self.verdict.lost)),
            ("doubled", len(self.verdict.doubled)),
            ("doubled in the dead-letter queue", self.verdict.doubled_dead_letters),
            ("wall time", f"{self.seconds:.0f} s"),
        ]
        for name, value in rows:
            table.add_row(name, str(value))
        return table


def run(stage: Stage, seed: int, size: Size, say: Say) -> Report:
    plan = make_plan(seed, size)
    started = time.monotonic()
    say(f"storm: {len(plan.jobs)} jobs in {len(plan.messages)} messages, {size.workers} workers, seed {seed}")
    _upload(stage, plan)
    seen = stage.root / "gone-wrong-once"
    seen.mkdir()
    with FaultProxy(stage.cloud.endpoint, stage.root) as proxy:
        workers = [
            stage.worker(
                f"storm-{number}",
                SETTINGS | {FOLDER_VARIABLE: str(seen)},
                endpoint=proxy.endpoint,
                module="tests.scenarios.chaos.worker",
            )
            for number in range(1, size.workers + 1)
        ]
        storm = _Storm(stage, plan, workers, proxy, say)
        try:
            storm.rage(started + size.deadline)
            for worker in workers:
                worker.leave(10)
            faults = proxy.counts()
        finally:
            for worker in workers:
                worker.kill()
            stage.cloud.database.start()
    events = Counter(event["event"] for worker in workers for event in worker.events() if "event" in event)
    outcome = Outcome(
        rows={row.id: row for row in stage.rows().values() if row.id.startswith("storm-")},
        transcripts=[t for t in stage.transcripts() if t[0].startswith("storm-")],
        files=_files(stage, plan),
        dead_letters=stage.take_dead_letters(),
        queue=stage.queue(),
        deaths=storm.deaths,
    )
    return Report(
        jobs=len(plan.jobs),
        messages=len(plan.messages),
        verdict=judge(plan, outcome),
        blows=storm.blows,
        faults=faults,
        redeliveries=max(0, events["job_started"] + events["already_completed"] - len(plan.messages)),
        refused=events["already_completed"],
        held=events["held_by_another_worker"],
        left=events["left_to_another_worker"],
        retries=events["job_retried"],
        seconds=time.monotonic() - started,
    )


class _Storm:
    def __init__(
        self, stage: Stage, plan: Plan, workers: list[WorkerProcess], proxy: FaultProxy, say: Say
    ) -> None:
        self._stage = stage
        self._plan = plan
        self._workers = workers
        self._proxy = proxy
        self._say = say
        self._leaving: set[str] = set()
        self._paused: dict[str, float] = {}
        self.blows: Counter[str] = Counter()
        self.deaths: list[str] = []

    def rage(self, deadline: float) -> None:
        """Until every job has ended and the queue is empty, or the deadline passes."""
        events, weather = list(self._plan.events), list(self._plan.weather)
        ids = {job.id for job in self._plan.jobs}
        done, said = 0, time.monotonic()
        for worker in self._workers:
            worker.start()
        while time.monotonic() < deadline:
            rows = self._stage.rows_if_possible() or {}
            done = max(done, sum(row.ended for row in rows.values() if row.id in ids))
            while weather and done >= weather[0][0]:
                self._change_weather(weather.pop(0)[1])
            if events and done >= events[0].after:
                self._strike(events.pop(0), done)
            self._tend()
            if not events and not self._paused and self._over(rows, ids):
                return
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                self._say(f"storm: {done} of {len(ids)} jobs ended, {sum(self.blows.values())} blows")
            time.sleep(0.3)
        self._say("storm: the deadline has passed")

    def _over(self, rows: dict[str, Row], ids: set[str]) -> bool:
        return all(i in rows and rows[i].ended for i in ids) and not self._stage.queue().backlog

    def _change_weather(self, name: str) -> None:
        self._proxy.set_weather(name)
        self._say(f"storm: the network has {name}" if name != "calm" else "storm: the network is calm")

    def _strike(self, event: Event, done: int) -> None:
        time.sleep(event.delay)
        worker = self._workers[event.worker]
        strike: dict[Blow, Callable[[], bool]] = {
            Blow.KILL_WORKER: lambda: self._kill(worker),
            Blow.KILL_CHILD: lambda: self._kill_child(worker),
            Blow.PAUSE: lambda: self._pause(worker),
            Blow.TERMINATE: lambda: self._terminate(worker),
            Blow.RESTART_DATABASE: self._restart_database,
            Blow.CRASH_DATABASE: self._crash_database,
        }
        if strike[event.blow]():
            self.blows[event.blow] += 1
            self._say(f"storm: {event.blow} ({worker.name}, after {done} jobs)")

    def _kill(self, worker: WorkerProcess) -> bool:
        worker.kill()
        self._paused.pop(worker.name, None)
        self._leaving.discard(worker.name)
        worker.start()
        return True

    def _kill_child(self, worker: WorkerProcess) -> bool:
        """Waits a little for a child: there is none before a worker's first job."""
        for _ in range(50):
            if child := worker.child():
                child.kill()
                return True
            time.sleep(0.1)
        return False

    def _pause(self, worker: WorkerProcess) -> bool:
        worker.signal(signal.SIGSTOP)
        self._paused[worker.name] = time.monotonic() + _PAUSE_SECONDS
        return True

    def _terminate(self, worker: WorkerProcess) -> bool:
        if worker.pid is None:
            return False
        self._leaving.add(worker.name)
        worker.terminate()
        return True

    def _restart_database(self) -> bool:
        self._stage.cloud.database.stop()
        time.sleep(1)
        self._stage.cloud.database.start()
        return True

    def _crash_database(self) -> bool:
        server = self._stage.cloud.database.service.process()
        if server is None:
            return False
        server.kill()
        server.wait(10)
        self._stage.cloud.database.start()
        return True

    def _tend(self) -> None:
        """What systemd does: a worker that has ended is started again."""
        for worker in self._workers:
            if self._paused.get(worker.name, float("inf")) <= time.monotonic():
                del self._paused[worker.name]
                worker.signal(signal.SIGCONT)
            code = worker.exit_code()
            if code is None:
                continue
            if worker.name not in self._leaving or code != 0:
                self.deaths.append(f"{worker.name}, exit code {code}: {worker.last_words()}")
                self._say(f"storm: a worker died by itself: {self.deaths[-1]}")
            self._leaving.discard(worker.name)
            worker.start()


def _upload(stage: Stage, plan: Plan) -> None:
    for job in plan.jobs:
        if job.kind is not Upload.MISSING:
            stage.put(job.key, _recording(job))
    stage.announce({job.id: job.key for job in plan.jobs if job.announced})
    stage.send(list(plan.messages))


def _recording(job: Job) -> bytes:
    if job.sentence is not None:
        return cut_sample(job.sentence)
    match job.kind:
        case Upload.NOT_AUDIO:
            return b"These are the notes of the lesson, not its sound. " * 40
        case Upload.EMPTY:
            return b""
    seconds = 3.0 if job.kind is Act.LONG else 0.25
    return plant(Order(job=job.id, act=Act(job.kind), seconds=job.busy_seconds, audio_seconds=seconds))


def _files(stage: Stage, plan: Plan) -> dict[str, str]:
    files: dict[str, str] = {}
    for job in plan.jobs:
        if job.failure is None:
            try:
                found = stage.aws.s3.get_object(Bucket=stage.bucket, Key=transcript_key(OWNER, job.id, "txt"))
            except ClientError:
                continue  # the verdict names the job
            files[job.id] = found["Body"].read().decode()
    return files
