"""Run by Alembic: migrates over the connection that `infra.migrations` opened.

All revisions of one run stand in one transaction: a migration that fails leaves the tables as they were.
"""

from alembic import context

from infra.migrations import LOCK_KEY

connection = context.config.attributes["connection"]
context.configure(connection=connection)
with context.begin_transaction():
    # Two processes that start at once (two sinks, a sink and the demo) migrate one after the other.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK_KEY})")
    context.run_migrations()
