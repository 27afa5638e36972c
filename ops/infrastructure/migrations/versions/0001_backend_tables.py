"""The backend's two tables, for a database that does not have them yet."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import LONGTEXT

revision = "0001"
down_revision = None


def upgrade() -> None:
    tables = sa.inspect(op.get_bind()).get_table_names()
    if "audio_jobs" not in tables:
        op.create_table(
            "audio_jobs",
            sa.Column("id", sa.String(36), primary_key=True),
            sa.Column("teacher_id", sa.Integer),
            sa.Column("school_id", sa.Integer),
            sa.Column(
                "status",
                sa.Enum("pending", "uploading", "queued", "processing", "completed", "failed"),
                server_default="pending",
            ),
            sa.Column("s3_key", sa.String(255)),
            sa.Column("processing_started_at", sa.DateTime),
            sa.Column("processing_completed_at", sa.DateTime),
            sa.Column("error_message", sa.Text),
            mysql_charset="utf8mb4",
        )
    if "transcripts" not in tables:
        op.create_table(
            "transcripts",
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
            sa.Column("job_id", sa.String(36)),
            sa.Column("teacher_id", sa.Integer),
            sa.Column("school_id", sa.Integer),
            sa.Column("transcript_text", LONGTEXT),
            sa.Column("word_count", sa.Integer),
            sa.Column("confidence_score", sa.Numeric(3, 2)),
            sa.Column("created_at", sa.TIMESTAMP, server_default=sa.func.current_timestamp()),
            mysql_charset="utf8mb4",
        )
