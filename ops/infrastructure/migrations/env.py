"""Alembic's entry: runs the migrations on the connection `ops.migrate` hands over."""

from alembic import context

from ops.infrastructure.migrate import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
