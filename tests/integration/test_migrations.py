"""Migrations on a new database, on the backend's, twice, and after a run cut off in the middle."""

from __future__ import annotations

import pymysql
import pytest
from pymysql.cursors import DictCursor

from local.platform.mariadb import MariaDB
from ops.infrastructure.migrate import migrate

# Exactly the backend's columns, and no key but what AUTO_INCREMENT needs.
BACKEND = (
    "CREATE TABLE audio_jobs (id VARCHAR(36), teacher_id INT, school_id INT, status ENUM('pending','uploading',"
    "'queued','processing','completed','failed'), s3_key VARCHAR(255), processing_started_at DATETIME,"
    " processing_completed_at DATETIME, error_message TEXT)",
    "CREATE TABLE transcripts (id INT AUTO_INCREMENT PRIMARY KEY, job_id VARCHAR(36), teacher_id INT,"
    " school_id INT, transcript_text LONGTEXT, word_count INT, confidence_score DECIMAL(3,2),"
    " created_at TIMESTAMP)",
    "INSERT INTO audio_jobs VALUES ('old', 2, 1, 'completed', 'audio-files/1/2/x.mp3', NULL, NULL, NULL)",
    "INSERT INTO transcripts (job_id, teacher_id, school_id, transcript_text, word_count, confidence_score)"
    " VALUES ('old', 2, 1, 'first', 1, 0.50), ('old', 2, 1, 'second', 1, 0.60), ('other', 2, 1, 'alone', 1, 0.70)",
)
ADDED = {"progress", "attempts", "model", "engine", "language", "duration_seconds", "worker", "lease_until"}


def connect(server: MariaDB) -> pymysql.Connection[DictCursor]:
    """The server's database, emptied."""
    credentials = server.credentials()
    database = pymysql.connect(
        host="127.0.0.1",
        port=server.port,
        user=str(credentials["username"]),
        password=str(credentials["password"]),
        database=str(credentials["dbname"]),
        autocommit=True,
        cursorclass=DictCursor,
        ssl_ca=str(server.ca),
    )
    with database.cursor() as cursor:
        cursor.execute("SET FOREIGN_KEY_CHECKS=0")
        cursor.execute("SHOW TABLES")
        for row in cursor.fetchall():
            cursor.execute(f"DROP TABLE `{next(iter(row.values()))}`")
    return database


@pytest.fixture
def empty(database_server: MariaDB) -> pymysql.Connection[DictCursor]:
    return connect(database_server)


def rows(database: pymysql.Connection[DictCursor], query: str) -> list[tuple[object, ...]]:
    with database.cursor(pymysql.cursors.Cursor) as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def columns(database: pymysql.Connection[DictCursor], table: str) -> set[str]:
    return {str(row[0]) for row in rows(database, f"SHOW COLUMNS FROM {table}")}


def execute(database: pymysql.Connection[DictCursor], *statements: str) -> None:
    with database.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_an_empty_database_gets_both_tables(empty: pymysql.Connection[DictCursor]) -> None:
    assert migrate(empty) == (None, "0004")
    assert columns(empty, "audio_jobs") >= ADDED | {"id", "status", "s3_key"}
    assert "job_id" in columns(empty, "transcripts")


def test_a_second_run_changes_nothing(empty: pymysql.Connection[DictCursor]) -> None:
    migrate(empty)
    assert migrate(empty) == ("0004", "0004")


def test_the_backends_tables_keep_their_columns_and_rows(empty: pymysql.Connection[DictCursor]) -> None:
    execute(empty, *BACKEND)
    before = columns(empty, "audio_jobs")
    migrate(empty)
    assert columns(empty, "audio_jobs") == before | ADDED
    assert rows(empty, "SELECT id, status, s3_key, progress FROM audio_jobs") == [
        ("old", "completed", "audio-files/1/2/x.mp3", 0)
    ]


def test_older_doubles_of_a_transcript_are_moved_aside_and_not_lost(empty: pymysql.Connection[DictCursor]) -> None:
    execute(empty, *BACKEND)
    migrate(empty)
    assert rows(empty, "SELECT job_id, transcript_text FROM transcripts ORDER BY id") == [
        ("old", "second"),
        ("other", "alone"),
    ]
    assert rows(empty, "SELECT job_id, transcript_text FROM transcripts_superseded") == [("old", "first")]


def test_a_second_transcript_of_a_job_is_refused_by_the_table(empty: pymysql.Connection[DictCursor]) -> None:
    execute(empty, *BACKEND)
    migrate(empty)
    with pytest.raises(pymysql.IntegrityError):
        execute(empty, "INSERT INTO transcripts (job_id) VALUES ('old')")


def test_a_run_cut_off_between_two_columns_is_completed(empty: pymysql.Connection[DictCursor]) -> None:
    execute(empty, *BACKEND, "ALTER TABLE audio_jobs ADD COLUMN progress SMALLINT DEFAULT 0")
    migrate(empty)
    assert columns(empty, "audio_jobs") >= ADDED


def test_the_backends_own_alembic_version_is_left_alone(empty: pymysql.Connection[DictCursor]) -> None:
    execute(
        empty,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('backend-42')",
    )
    migrate(empty)
    assert rows(empty, "SELECT version_num FROM alembic_version") == [("backend-42",)]
