"""A unique key on `transcripts.job_id`. Older duplicates are moved aside and kept."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ASIDE = "transcripts_superseded"


DOUBLES = (
    "SELECT job_id, MAX(id) AS newest FROM transcripts WHERE job_id IS NOT NULL"
    " GROUP BY job_id HAVING COUNT(*) > 1"
)
OLDER = f"FROM transcripts JOIN ({DOUBLES}) AS d ON transcripts.job_id = d.job_id AND transcripts.id < d.newest"


def upgrade() -> None:
    database = op.get_bind()
    inspector = sa.inspect(database)
    indexes = inspector.get_indexes("transcripts")
    if any(index["unique"] and index["column_names"] == ["job_id"] for index in indexes):
        return
    if database.execute(sa.text(DOUBLES)).first() is not None:
        if ASIDE not in inspector.get_table_names():
            op.execute(f"CREATE TABLE {ASIDE} LIKE transcripts")
        op.execute(f"INSERT IGNORE INTO {ASIDE} SELECT transcripts.* {OLDER}")
        op.execute(f"DELETE transcripts {OLDER}")
    op.create_index("whisper_transcripts_job_id", "transcripts", ["job_id"], unique=True)
