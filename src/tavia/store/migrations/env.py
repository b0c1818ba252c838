"""Alembic's environment: runs on the connection that :mod:`tavia.store.migrate` hands over."""

from alembic import context

from tavia.store.migrations import rerunnable  # noqa: F401  changes Alembic's operations
from tavia.store.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
