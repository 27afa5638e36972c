"""What the processor records on a job. Additive: the backend's own columns and rows stay as they are."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

COLUMNS: list[sa.Column[Any]] = [
    sa.Column("progress", sa.SmallInteger, server_default="0"),
    sa.Column("attempts", sa.SmallInteger, server_default="0"),
    sa.Column("model", sa.String(64)),
    sa.Column("engine", sa.String(32)),
    sa.Column("language", sa.String(8)),
    sa.Column("duration_seconds", sa.Integer),
    sa.Column("worker", sa.String(64)),
]


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    present = {column["name"] for column in inspector.get_columns("audio_jobs")}
    # Column by column, each only if it is missing: DDL is not transactional in MySQL, so an interrupted run
    # leaves some of them.
    for column in COLUMNS:
        if column.name not in present:
            op.add_column("audio_jobs", column)
    # The guard locks a job by its id, so the id must be a key. The backend's table may not have one.
    keyed = inspector.get_pk_constraint("audio_jobs")["constrained_columns"] == ["id"] or any(
        index["column_names"] == ["id"] for index in inspector.get_indexes("audio_jobs")
    )
    if not keyed:
        op.create_index("whisper_audio_jobs_id", "audio_jobs", ["id"], unique=True)
    if not any(index["column_names"][:1] == ["s3_key"] for index in inspector.get_indexes("audio_jobs")):
        op.create_index("whisper_audio_jobs_s3_key", "audio_jobs", ["s3_key"])
