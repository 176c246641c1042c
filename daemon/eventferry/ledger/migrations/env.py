"""Runs the migrations on the connection that the ledger hands over."""

from alembic import context

from eventferry.ledger import pull_tables, sink_counts, tables

assert pull_tables.metadata is sink_counts.metadata is tables.metadata  # one schema, told in three modules

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=tables.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
