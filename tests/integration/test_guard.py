"""The guard in the database: exactly one transcript, whatever the queue delivers and whichever worker dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest
import trustme

from contracts.names import DATABASE_SECRET
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from ops.infrastructure.migrate import migrate
from ops.settings import OpsSettings
from whisper_processor.database.credentials import Credentials, SecretCredentials
from whisper_processor.database.jobs import JobStore, Outcome, Result
from whisper_processor.database.transactions import Database
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.messages import JobMessage


class MakeStore(Protocol):
    def __call__(self, worker: str, lease_seconds: float = 0) -> JobStore: ...


@pytest.fixture(scope="module")
def aws(settings: OpsSettings, local_cloud: LocalCloud) -> Connection:
    aws = Connection(settings)
    migrate(aws.database())
    return aws


@pytest.fixture
def make_store(aws: Connection, local_cloud: LocalCloud) -> Iterator[MakeStore]:
    """Stores of several workers, each with a connection of its own."""
    made: list[JobStore] = []

    def make(worker: str, lease_seconds: float = 0) -> JobStore:
        secrets = SecretCredentials(aws.secrets, DATABASE_SECRET)
        database = Database(secrets, ca=local_cloud.database.ca, patience_seconds=20)
        made.append(JobStore(database, worker, lease_seconds=lease_seconds))
        return made[-1]

    yield make
    for store in made:
        store.close()


EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def message(job_id: str, key: str = "audio-files/1/2/x.mp3") -> JobMessage:
    return JobMessage(jobId=job_id, s3Key=key)


def result(text: str) -> Result:
    return Result(
        text=text, confidence=0.875, duration_seconds=3.2, model="base", engine="faster-whisper", language="en"
    )


def row(aws: Connection, job_id: str) -> dict[str, object]:
    with aws.database() as database, database.cursor() as cursor:
        cursor.execute("SELECT * FROM audio_jobs WHERE id=%s", (job_id,))
        found = cursor.fetchone()
        assert found is not None
        return found


def texts(aws: Connection, job_id: str) -> list[str]:
    with aws.database() as database, database.cursor() as cursor:
        cursor.execute("SELECT transcript_text FROM transcripts WHERE job_id=%s", (job_id,))
        return [found["transcript_text"] for found in cursor.fetchall()]


def claim(store: JobStore, job_id: str, *, sent_at: datetime = EARLIER, most: int = 3) -> Outcome:
    return store.claim(message(job_id), sent_at=sent_at, max_attempts=most).outcome


def test_a_job_the_backend_did_not_announce_is_made_from_its_key(aws: Connection, make_store: MakeStore) -> None:
    taken = make_store("a").claim(message("new", "audio-files/31/41/x.mp3"), sent_at=EARLIER, max_attempts=3)
    assert (taken.owner.school_id, taken.owner.teacher_id, taken.attempt) == (31, 41, 1)
    assert row(aws, "new")["status"] == "processing"


def test_a_key_that_names_nobody_is_a_permanent_error(make_store: MakeStore) -> None:
    with pytest.raises(PermanentError, match="names no school"):
        make_store("a").claim(message("orphan", "x.mp3"), sent_at=EARLIER, max_attempts=3)


def test_of_two_workers_with_one_message_only_the_first_writes(aws: Connection, make_store: MakeStore) -> None:
    first, second = make_store("a"), make_store("b")
    assert claim(first, "twice") is claim(second, "twice") is Outcome.CLAIMED
    owner = first.claim(message("twice"), sent_at=EARLIER, max_attempts=9).owner
    assert second.complete("twice", owner, result("from b")) is True
    assert first.complete("twice", owner, result("from a")) is False
    assert texts(aws, "twice") == ["from b"]


def test_a_job_whose_worker_is_alive_is_left_to_it(aws: Connection, make_store: MakeStore) -> None:
    """Otherwise two workers with a duplicated message would take a long lesson from each other until it failed."""
    first, second = make_store("a", 60), make_store("b", 60)
    assert claim(first, "held") is Outcome.CLAIMED
    refused = second.claim(message("held"), sent_at=EARLIER, max_attempts=3)
    assert refused.outcome is Outcome.HELD
    assert 0 < refused.held_seconds <= 60
    assert (row(aws, "held")["worker"], row(aws, "held")["attempts"]) == ("a", 1)
    assert claim(first, "held") is Outcome.CLAIMED  # its own message, delivered again


def test_a_job_whose_worker_fell_silent_is_taken_over(make_store: MakeStore) -> None:
    first, second = make_store("a", 60), make_store("b", 60)
    assert claim(first, "silent") is Outcome.CLAIMED
    assert claim(second, "silent") is Outcome.HELD
    # As if it had been long ago: the same worker, with a lease that expires at once.
    make_store("a", 0).progress("silent", 10)
    assert claim(second, "silent") is Outcome.CLAIMED


def test_each_progress_report_renews_the_lease(make_store: MakeStore) -> None:
    assert claim(make_store("a", 0), "alive") is Outcome.CLAIMED
    make_store("a", 60).progress("alive", 10)
    assert claim(make_store("b"), "alive") is Outcome.HELD


def test_many_workers_completing_at_once_leave_one_transcript(aws: Connection, make_store: MakeStore) -> None:
    stores = [make_store(f"w{n}") for n in range(6)]
    owner = stores[0].claim(message("race"), sent_at=EARLIER, max_attempts=99).owner
    wins: list[bool] = []
    barrier = threading.Barrier(len(stores))

    def finish(store: JobStore) -> None:
        barrier.wait()
        wins.append(store.complete("race", owner, result("text")))

    threads = [threading.Thread(target=finish, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 5 + [True]
    assert texts(aws, "race") == ["text"]


def test_many_workers_meeting_an_unannounced_job_make_one_row(aws: Connection, make_store: MakeStore) -> None:
    stores = [make_store(f"w{n}") for n in range(6)]
    threads = [threading.Thread(target=claim, args=(s, "unannounced"), kwargs={"most": 99}) for s in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert row(aws, "unannounced")["attempts"] == 6


def test_a_finished_job_is_not_taken_again(make_store: MakeStore) -> None:
    store = make_store("a")
    owner = store.claim(message("done"), sent_at=EARLIER, max_attempts=3).owner
    store.complete("done", owner, result("text"))
    assert claim(store, "done") is Outcome.ALREADY_COMPLETED


def test_attempts_run_out_and_a_new_request_starts_over(aws: Connection, make_store: MakeStore) -> None:
    store = make_store("a")
    for _ in range(3):
        assert claim(store, "poison") is Outcome.CLAIMED
        store.requeue("poison", attempt_counts=True, reason="S3 is away")
    assert claim(store, "poison") is Outcome.EXHAUSTED
    store.fail("poison", "tried three times")
    late = store.claim(message("poison"), sent_at=EARLIER, max_attempts=3)
    assert (late.outcome, late.reason) == (Outcome.ALREADY_FAILED, "tried three times")
    assert claim(store, "poison", sent_at=LATER) is Outcome.CLAIMED
    assert row(aws, "poison")["attempts"] == 1


def test_a_worker_that_hung_with_a_message_does_not_restart_what_another_has_failed(
    aws: Connection, make_store: MakeStore
) -> None:
    """Its message is deleted: a restarted job would stay at `processing` if this worker died as well."""
    other, hung = make_store("other"), make_store("hung")
    claim(other, "hung")
    other.fail("hung", "not a recording")
    assert claim(hung, "hung") is Outcome.ALREADY_FAILED
    assert row(aws, "hung")["status"] == "failed"


def test_giving_a_job_back_costs_no_attempt(aws: Connection, make_store: MakeStore) -> None:
    store = make_store("a")
    claim(store, "drained")
    store.requeue("drained", attempt_counts=False)
    assert (row(aws, "drained")["status"], row(aws, "drained")["attempts"]) == ("queued", 0)


def test_a_worker_cannot_fail_what_another_is_working_on(aws: Connection, make_store: MakeStore) -> None:
    old, new = make_store("old"), make_store("new")
    claim(old, "moved")
    claim(new, "moved")
    old.fail("moved", "lost the lease")
    old.requeue("moved", attempt_counts=True)
    old.progress("moved", 50)
    assert (row(aws, "moved")["status"], row(aws, "moved")["progress"]) == ("processing", 0)


def test_a_completed_job_cannot_be_failed(aws: Connection, make_store: MakeStore) -> None:
    store = make_store("a")
    owner = store.claim(message("good"), sent_at=EARLIER, max_attempts=3).owner
    store.complete("good", owner, result("text"))
    store.fail("good", "late error")
    assert row(aws, "good")["status"] == "completed"


def test_a_killed_connection_is_replaced_and_the_result_is_kept(aws: Connection, make_store: MakeStore) -> None:
    store = make_store("a")
    owner = store.claim(message("cut"), sent_at=EARLIER, max_attempts=3).owner
    with aws.database() as database, database.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
        for found in cursor.fetchall():
            cursor.execute(f"KILL {found['id']}")
    assert store.complete("cut", owner, result("kept")) is True
    assert texts(aws, "cut") == ["kept"]


def test_a_database_restart_is_waited_out(aws: Connection, make_store: MakeStore, local_cloud: LocalCloud) -> None:
    store = make_store("a")
    owner = store.claim(message("restart"), sent_at=EARLIER, max_attempts=3).owner
    local_cloud.database.stop()
    back = threading.Timer(1.5, local_cloud.database.start)
    back.start()
    try:
        assert store.complete("restart", owner, result("kept")) is True
    finally:
        back.join()
    assert texts(aws, "restart") == ["kept"]


def test_a_database_that_stays_away_is_a_transient_error(
    aws: Connection, make_store: MakeStore, local_cloud: LocalCloud
) -> None:
    secrets = SecretCredentials(aws.secrets, DATABASE_SECRET)
    database = Database(secrets, ca=local_cloud.database.ca, patience_seconds=1)
    store = JobStore(database, "a", lease_seconds=0)
    local_cloud.database.stop()
    try:
        with pytest.raises(TransientError, match="database"):
            claim(store, "away")
    finally:
        local_cloud.database.start()


def test_the_connection_is_encrypted_and_the_server_known(
    aws: Connection, make_store: MakeStore, local_cloud: LocalCloud, tmp_path: Path
) -> None:
    claim(make_store("a"), "encrypted")
    with aws.database() as database, database.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        cipher = cursor.fetchone()
        assert cipher is not None
        assert cipher["Value"]
    strangers = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(strangers))
    secrets = SecretCredentials(aws.secrets, DATABASE_SECRET)
    store = JobStore(Database(secrets, ca=strangers, patience_seconds=0), "a", lease_seconds=0)
    with pytest.raises(TransientError, match="CERTIFICATE_VERIFY_FAILED"):
        claim(store, "encrypted")


def test_a_rotated_password_is_fetched_again(
    aws: Connection, make_store: MakeStore, local_cloud: LocalCloud
) -> None:
    store = make_store("a")
    claim(store, "rotated")
    store.close()
    credentials = local_cloud.database.credentials()
    old = str(credentials["password"])

    def set_password(password: str) -> None:
        with aws.database() as database, database.cursor() as cursor:
            cursor.execute("SET PASSWORD = PASSWORD(%s)", (password,))
        secret = aws.secrets.get_secret_value(SecretId=DATABASE_SECRET)["SecretString"]
        current = Credentials.model_validate_json(secret).model_copy(update={"password": password})
        aws.secrets.put_secret_value(SecretId=DATABASE_SECRET, SecretString=current.model_dump_json())

    set_password("rotated-once")
    try:
        assert claim(store, "rotated") is Outcome.CLAIMED
    finally:
        set_password(old)
