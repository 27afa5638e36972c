"""Until when the worker that has a job is taken to be at it; each sign of life moves it on. UTC."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("audio_jobs")}
    if "lease_until" not in present:
        op.add_column("audio_jobs", sa.Column("lease_until", sa.DateTime))
