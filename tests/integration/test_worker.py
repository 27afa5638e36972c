"""What the worker guarantees, each against a real queue, bucket, database and model, with real faults."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.hold import Hold
from contracts.jobs import EngineName
from contracts.metrics import NAMESPACE
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from ops.infrastructure.migrate import migrate
from ops.settings import OpsSettings
from testbed.media import SAMPLE, ffmpeg
from testbed.waiting import wait_until
from testbed.worker_site import RunningWorker, Site, children, cut_off, frozen, only_child
from whisper_processor.engines.child import ChildTranscriber
from whisper_processor.engines.choice import resolve
from whisper_processor.models import model_path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def aws(settings: OpsSettings, local_cloud: LocalCloud) -> Connection:
    aws = Connection(settings)
    migrate(aws.database())
    return aws


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    ffmpeg("-i", str(SAMPLE), "-t", "6", str(folder / "speech.flac"))
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "4", str(folder / "silence.flac"))
    # Long enough for a test to interrupt even the fastest engine.
    ffmpeg("-stream_loop", "5", "-i", str(SAMPLE), str(folder / "lesson.flac"))
    return folder


@pytest.fixture(scope="module")
def speech(recordings: Path) -> Path:
    return recordings / "speech.flac"


@pytest.fixture(scope="module")
def lesson(recordings: Path) -> Path:
    return recordings / "lesson.flac"


@pytest.fixture
def site(aws: Connection, local_cloud: LocalCloud, models_dir: Path, tmp_path: Path) -> Iterator[Site]:
    name = f"site-{uuid.uuid4().hex[:8]}"
    dlq = aws.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    queue = aws.sqs.create_queue(QueueName=name)["QueueUrl"]
    bucket = "worker-tests"
    aws.s3.create_bucket(Bucket=bucket)
    site = Site(local_cloud, aws, models_dir, tmp_path, queue, dlq, bucket)
    yield site
    site.close()


@pytest.fixture(scope="module")
def transcriber(aws: Connection) -> Iterator[ChildTranscriber]:
    """One child for all tests, like a worker's, so that the model is loaded only once."""
    with ChildTranscriber() as child:
        yield child


def completed(site: Site, job_id: str) -> bool:
    return bool(site.row(job_id).get("status") == "completed")


def warm(site: Site, transcriber: ChildTranscriber, speech: Path) -> None:
    """Make sure that the child is running."""
    if children():
        return
    job_id = site.submit(speech)
    assert site.start(transcriber, "warm").ended()
    assert completed(site, job_id)


# 1. Three empty polls in a row end the work


def test_three_empty_polls_in_a_row_end_the_work(site: Site, transcriber: ChildTranscriber) -> None:
    worker = site.start(transcriber, poll_wait_seconds=1, empty_polls=3)
    polls = calls_of(worker, "ReceiveMessage")
    assert worker.ended()
    assert len(polls) == 3


LOADED = "LOADED_MODEL"


def note_load(engine: EngineName, model: Path, _threads: int) -> None:
    """Runs in the child: records what it was told to load."""
    Path(os.environ[LOADED]).write_text(f"{engine} {model}")


def test_the_usual_model_is_loaded_before_a_lesson_comes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "loaded"
    monkeypatch.setenv(LOADED, str(note))
    engine = resolve("auto").engine
    with ChildTranscriber(load=note_load) as child:
        assert site.start(child).ended()
        wait_until("the load", lambda: note.exists() and note.read_text())
    assert note.read_text() == f"{engine} {model_path([site.models_dir], engine, 'base')}"


def test_a_usual_model_that_is_not_on_the_machine_is_left_for_a_lesson_to_fetch(
    site: Site, tmp_path: Path
) -> None:
    with ChildTranscriber() as child:
        assert site.start(child, whisper_models_dir=tmp_path / "none").ended()


def calls_of(worker: RunningWorker, operation: str) -> list[str]:
    calls: list[str] = []
    worker.sqs.meta.events.register(f"before-call.sqs.{operation}", lambda model, **_: calls.append(model.name))
    return calls


def test_a_lesson_between_two_empty_polls_restarts_the_count(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    job_id = site.submit(speech, delay=3)
    worker = site.start(transcriber, poll_wait_seconds=1, empty_polls=4)
    polls = calls_of(worker, "ReceiveMessage")
    assert worker.ended()
    assert completed(site, job_id)
    assert len(polls) >= 1 + 1 + 4, "at least one empty before it, itself, and four empty after it"


def test_a_hold_keeps_an_idle_worker_up_until_it_ends(site: Site, transcriber: ChildTranscriber) -> None:
    held = [Hold(by="anna", until=datetime.now(UTC) + timedelta(hours=1))] * 3
    worker = site.start(transcriber, hold=lambda: held.pop() if held else Hold(by="anna", until=datetime.now(UTC)))
    assert worker.ended()
    assert held == []


# 2. The effect is exactly once


def test_a_worker_that_cannot_delete_the_message_leaves_one_transcript(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    job_id = site.submit(speech)
    worker = site.start(transcriber, poll_wait_seconds=1, empty_polls=8)
    cut_off(worker.sqs, {"DeleteMessage"}, times=1)
    wait_until("the job is completed", lambda: completed(site, job_id))
    ended_at = site.row(job_id)["processing_completed_at"]
    assert worker.ended()
    assert site.counts() == (0, 0, 0), "the second delivery deleted the message"
    assert len(site.transcripts(job_id)) == 1
    assert site.row(job_id)["processing_completed_at"] == ended_at
    assert site.row(job_id)["attempts"] == 1


# 3. The lease


def test_a_message_stays_invisible_for_as_long_as_its_job_takes(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    warm(site, transcriber, speech)
    with frozen(only_child()):
        job_id = site.submit(speech)
        worker = site.start(transcriber)
        wait_until("the job is taken", lambda: site.row(job_id).get("status") == "processing")
        answer = site.aws.sqs.receive_message(QueueUrl=site.queue_url, WaitTimeSeconds=12)
        assert "Messages" not in answer, "twice the visibility timeout has passed"
    assert worker.ended()
    assert (site.row(job_id)["status"], site.row(job_id)["attempts"]) == ("completed", 1)


def test_a_worker_that_lost_its_lease_leaves_the_job_to_the_other(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    warm(site, transcriber, speech)
    job_id = site.submit(speech)
    with frozen(only_child()), ChildTranscriber() as another:
        loser = site.start(transcriber, "loser", progress_seconds=1000)
        cut_off(loser.sqs, {"ChangeMessageVisibility"})
        wait_until("the first has it", lambda: site.row(job_id).get("worker") == "loser")
        site.start(another, "winner", poll_wait_seconds=1, empty_polls=20)
        wait_until("the second has completed it", lambda: completed(site, job_id))
    assert loser.ended()
    assert site.row(job_id)["worker"] == "winner"
    assert len(site.transcripts(job_id)) == 1
    wait_until("the message is gone", lambda: site.counts() == (0, 0, 0))


def test_a_worker_notices_by_the_row_that_another_has_its_job(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    warm(site, transcriber, speech)
    with frozen(only_child()):
        job_id = site.submit(speech)
        worker = site.start(transcriber, poll_wait_seconds=1, empty_polls=8)
        wait_until("it is taken", lambda: site.row(job_id).get("worker") == "worker")
        site.rows("UPDATE audio_jobs SET worker='another' WHERE id=%s", job_id)
        # It drops job and message, and takes both again, because there is no other worker.
        wait_until("it is taken anew", lambda: site.row(job_id)["attempts"] == 2)
    assert worker.ended()
    assert completed(site, job_id)
    assert len(site.transcripts(job_id)) == 1


# 4. The child process


def test_a_killed_child_costs_one_attempt_and_not_the_worker(
    site: Site, transcriber: ChildTranscriber, lesson: Path
) -> None:
    job_id = site.submit(lesson)
    worker = site.start(transcriber, poll_wait_seconds=1, empty_polls=6, whisper_batch_size=1)
    wait_until("it is under way", lambda: site.row(job_id).get("progress"))
    only_child().kill()
    assert worker.ended()
    assert (site.row(job_id)["status"], site.row(job_id)["attempts"]) == ("completed", 2)


def test_a_child_that_hangs_is_ended_at_the_jobs_deadline(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    warm(site, transcriber, speech)
    with frozen(only_child()):
        job_id = site.submit(speech)
        worker = site.start(transcriber, max_attempts=1, deadline_minimum_seconds=2, deadline_factor=0.01)
        assert worker.ended()
    row = site.row(job_id)
    assert row["status"] == "failed"
    assert "deadline of 2 s" in row["error_message"]
    assert len(site.dead()) == 1


# 5. Two kinds of error


PERMANENT: dict[str, tuple[str | bytes, dict[str, str], str]] = {
    "no such object": ("nowhere", {}, "not found"),
    "empty": (b"", {}, "empty"),
    "text": (b"my notes " * 99, {}, "not a recording"),
    "no such model": (
        "speech",
        {"model": "large-v9"},
        "The model large-v9 is not installed for",
    ),
    "no such language": ("speech", {"language": "qq"}, "language qq"),
    "an English model for French": ("speech", {"model": "tiny.en", "language": "fr"}, "knows English only"),
    "a malformed model name": ("speech", {"model": "../../etc"}, "model"),
    "no such task": ("speech", {"task": "sing"}, "task"),
}


def test_what_a_retry_cannot_help_fails_at_once_with_a_reason(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    jobs: dict[str, str] = {}
    for what, (content, request, _) in PERMANENT.items():
        job_id = jobs[what] = str(uuid.uuid4())
        match content:
            case "nowhere":
                key = "audio-files/3/4/nowhere"
            case bytes():
                key = site.put(content)
            case _:
                key = site.put(speech)
        # The backend inserts its row before it sends a message.
        site.rows(
            "INSERT INTO audio_jobs (id, school_id, teacher_id, s3_key, status) VALUES (%s, 3, 4, %s, 'queued')",
            *(job_id, key),
        )
        site.send(json.dumps({"jobId": job_id, "s3Key": key, **request}))
    assert site.start(transcriber).ended()
    for what, (_, _, reason) in PERMANENT.items():
        row = site.row(jobs[what])
        assert row["status"] == "failed", what
        assert reason in row["error_message"], what
        assert "\n" not in row["error_message"], what
    assert site.counts() == (0, 0, 0)
    assert site.counts(site.dlq_url)[0] == len(PERMANENT)


def test_a_message_that_cannot_be_read_goes_to_the_dead_letter_queue(
    site: Site, transcriber: ChildTranscriber
) -> None:
    site.send("{ not json")
    assert site.start(transcriber).ended()
    assert "not JSON" in site.dead()["{ not json"]


def test_a_transient_fault_is_waited_out_through_the_visibility_timeout(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    job_id = site.submit(speech)
    worker = site.start(transcriber, poll_wait_seconds=1, empty_polls=8)
    cut_off(worker.s3, {"HeadObject"}, times=1)
    wait_until("it is queued again", lambda: site.row(job_id).get("status") == "queued")
    assert "S3" in site.row(job_id)["error_message"]
    assert worker.ended()
    row = site.row(job_id)
    assert (row["status"], row["attempts"], row["error_message"]) == ("completed", 2, None)


def test_after_the_last_attempt_a_transient_fault_is_final(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    job_id = site.submit(speech)
    worker = site.start(transcriber, max_attempts=2, poll_wait_seconds=1, empty_polls=8)
    cut_off(worker.s3, {"HeadObject"})
    assert worker.ended()
    row = site.row(job_id)
    assert (row["status"], row["attempts"]) == ("failed", 2)
    assert "tried 2 times" in row["error_message"]
    assert site.counts() == (0, 0, 0)
    assert len(site.dead()) == 1


def test_a_job_is_failed_before_the_queue_itself_takes_its_message_away(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    """A queue of the backend's own may allow fewer deliveries than this project allows attempts."""
    arn = site.aws.sqs.get_queue_attributes(QueueUrl=site.dlq_url, AttributeNames=["QueueArn"])["Attributes"]
    policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 2})
    site.aws.sqs.set_queue_attributes(QueueUrl=site.queue_url, Attributes={"RedrivePolicy": policy})
    job_id = site.submit(speech)
    worker = site.start(transcriber, max_attempts=5, poll_wait_seconds=1, empty_polls=8)
    cut_off(worker.s3, {"HeadObject"})
    assert worker.ended()
    assert site.row(job_id)["status"] == "failed"
    assert site.counts(site.dlq_url)[0] == 1


# 6. Leaving


def test_a_worker_that_must_leave_gives_its_job_and_the_prefetched_one_back_at_once(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    warm(site, transcriber, speech)
    with frozen(only_child()):
        first = site.submit(speech)
        worker = site.start(transcriber, visibility_timeout_seconds=600)
        wait_until("the first is taken", lambda: site.row(first).get("status") == "processing")
        site.submit(speech)
        wait_until("the second is prefetched", lambda: site.counts() == (0, 2, 0))
        worker.drain.request(1)
        assert worker.ended() is False
    assert site.counts() == (2, 0, 0)
    assert (site.row(first)["status"], site.row(first)["attempts"]) == ("queued", 0)


def test_a_worker_that_must_leave_finishes_what_fits_in_the_time_left(
    site: Site, transcriber: ChildTranscriber, lesson: Path
) -> None:
    job_id = site.submit(lesson)
    worker = site.start(transcriber, whisper_batch_size=1)
    wait_until("it is under way", lambda: site.row(job_id).get("progress"))
    worker.drain.request(600)
    assert worker.ended() is False
    assert (site.row(job_id)["status"], site.row(job_id)["attempts"]) == ("completed", 1)


# 7. Silence


def test_silence_is_a_result(site: Site, transcriber: ChildTranscriber, recordings: Path) -> None:
    job_id = site.submit(recordings / "silence.flac")
    assert site.start(transcriber).ended()
    assert completed(site, job_id)
    (transcript,) = site.transcripts(job_id)
    assert (transcript["transcript_text"], transcript["word_count"]) == ("", 0)
    assert float(transcript["confidence_score"]) == 0


# 8. Progress


def test_progress_reaches_the_row_but_not_too_often(
    site: Site, transcriber: ChildTranscriber, lesson: Path
) -> None:
    worker_row: list[int] = []
    job_id = site.submit(lesson)
    worker = site.start(transcriber, progress_seconds=0.5, whisper_batch_size=1)
    told: list[datetime] = []
    write = worker.jobs.progress

    def listen(job_id: str, percent: int) -> bool:
        if percent < 99:
            told.append(datetime.now(UTC))
        worker_row.append(percent)
        return write(job_id, percent)

    worker.jobs.progress = listen  # type: ignore[method-assign]
    assert worker.ended()
    assert site.row(job_id)["progress"] == 100
    assert worker_row == sorted(worker_row)
    assert any(0 < percent < 99 for percent in worker_row)
    assert all(two - one >= timedelta(seconds=0.45) for one, two in itertools.pairwise(told))


# 9. Prefetch


def test_the_next_recording_is_fetched_while_this_one_is_transcribed(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    warm(site, transcriber, speech)
    with frozen(only_child()):
        first, second = site.submit(speech), site.submit(speech)
        worker = site.start(transcriber)
        wait_until("both are in flight", lambda: site.counts() == (0, 2, 0))
        wait_until("the second is on disk", lambda: len(list(site.work_dir.glob("lesson-*/upload"))) == 1)
        states = {site.row(job_id).get("status") for job_id in (first, second)}
        assert states == {"processing", None}, "one is at work, the other not yet taken"
    assert worker.ended()
    assert completed(site, first)
    assert completed(site, second)
    assert list(site.work_dir.glob("lesson-*")) == []


# What a job may ask for


def test_word_times_are_there_when_asked_for(site: Site, transcriber: ChildTranscriber, speech: Path) -> None:
    with_words, without = site.submit(speech, wordTimestamps=True), site.submit(speech)
    assert site.start(transcriber).ended()

    def segments(job_id: str) -> list[dict[str, object]]:
        body = site.aws.s3.get_object(Bucket=site.bucket, Key=f"transcripts/3/4/{job_id}.json")["Body"].read()
        found: list[dict[str, object]] = json.loads(body)["segments"]
        return found

    assert all(segment["words"] for segment in segments(with_words))
    assert not any(segment["words"] for segment in segments(without))


def test_a_model_that_is_not_here_is_fetched_from_the_bucket(
    site: Site, transcriber: ChildTranscriber, speech: Path, tmp_path: Path
) -> None:
    for file in (site.models_dir / "faster-whisper" / "base").iterdir():
        site.aws.s3.upload_file(str(file), site.bucket, f"models/faster-whisper/elsewhere/{file.name}")
    job_id = site.submit(speech, model="elsewhere")
    assert site.start(transcriber, whisper_models_dir=tmp_path, fetched_models_dir=tmp_path / "fetched").ended()
    row = site.row(job_id)
    assert (row["status"], row["model"]) == ("completed", "elsewhere"), row["error_message"]


# What it reports


def test_metrics_say_what_was_done_and_what_failed(
    site: Site, transcriber: ChildTranscriber, speech: Path
) -> None:
    def total(name: str, **dimensions: str) -> float:
        now = datetime.now(UTC)
        cloudwatch = site.aws.cloudwatch
        points = cloudwatch.get_metric_statistics(
            Namespace=NAMESPACE,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=5),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points)

    names = ("JobsDone", "JobFailed", "AudioSeconds", "ProcessingSeconds", "RealTimeFactor", "QueueWait")
    before = {name: total(name) for name in names}
    failed_before = total("JobsFailed", Kind="permanent")
    site.submit(speech)
    site.submit(b"notes")
    assert site.start(transcriber).ended()
    grown = {name: total(name) - before[name] for name in names}
    assert (grown["JobsDone"], grown["JobFailed"]) == (1, 1)
    assert grown["AudioSeconds"] == pytest.approx(6, abs=0.1)
    assert grown["ProcessingSeconds"] > 0
    assert grown["RealTimeFactor"] == pytest.approx(grown["ProcessingSeconds"] / grown["AudioSeconds"])
    assert grown["QueueWait"] > 0
    assert total("JobsFailed", Kind="permanent") - failed_before == 1
