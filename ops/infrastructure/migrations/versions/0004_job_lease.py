"""The lease on a job: until when its worker is presumed to be working on it. Heartbeats extend it. UTC."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    present = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("audio_jobs")}
    if "lease_until" not in present:
        op.add_column("audio_jobs", sa.Column("lease_until", sa.DateTime))
