"""Alembic's entry: the steps run on the connection that was handed over, in its transaction."""

from __future__ import annotations

from alembic import context

from gpumax.stores import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
