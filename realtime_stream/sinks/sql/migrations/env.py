"""What Alembic runs first; the connection, in its transaction, comes from :func:`migrate`."""

from __future__ import annotations

from alembic import context

from realtime_stream.sinks.sql.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # also SQLite, once a transaction has been begun
)
with context.begin_transaction():
    context.run_migrations()
