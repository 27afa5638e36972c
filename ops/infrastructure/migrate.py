"""Migrate the two tables to what the processor needs. Alembic keeps the order and remembers what has run."""

from __future__ import annotations

from pathlib import Path

import pymysql
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from pymysql.cursors import DictCursor
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection as SqlConnection
from sqlalchemy.pool import StaticPool

# The backend may use Alembic on the same database: each has a version table of its own.
VERSION_TABLE = "whisper_schema_version"


def migrate(database: pymysql.Connection[DictCursor]) -> tuple[str | None, str | None]:
    """Run the migrations that have not run yet; returns the version before and after. Safe to repeat."""
    database.cursorclass = pymysql.cursors.Cursor  # type: ignore[assignment]
    engine = create_engine("mysql+pymysql://", creator=lambda: database, poolclass=StaticPool)
    with engine.connect() as connection:
        before = _version(connection)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return before, _version(connection)


def _version(connection: SqlConnection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    version = context.get_current_revision()
    connection.commit()
    return version
