"""A unique key on `transcripts.job_id`. Older doubles are moved aside, never thrown away."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ASIDE = "transcripts_superseded"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if any(
        index["unique"] and index["column_names"] == ["job_id"] for index in inspector.get_indexes("transcripts")
    ):
        return
    doubles = "SELECT job_id, MAX(id) AS newest FROM transcripts WHERE job_id IS NOT NULL GROUP BY job_id HAVING COUNT(*) > 1"
    if op.get_bind().execute(sa.text(doubles)).first() is not None:
        if ASIDE not in inspector.get_table_names():
            op.execute(f"CREATE TABLE {ASIDE} LIKE transcripts")
        older = f"FROM transcripts JOIN ({doubles}) AS d ON transcripts.job_id = d.job_id AND transcripts.id < d.newest"
        op.execute(f"INSERT IGNORE INTO {ASIDE} SELECT transcripts.* {older}")
        op.execute(f"DELETE transcripts {older}")
    op.create_index("whisper_transcripts_job_id", "transcripts", ["job_id"], unique=True)
