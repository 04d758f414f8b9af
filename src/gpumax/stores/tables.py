"""The tables. What is filtered or sorted by is a column; the rest of a row is JSON in `body`.

A field that is added to a record with a default needs no migration: bodies without it are read with the default. A change
of these tables does: a new file in migrations/versions, and its revision here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

REVISION: Final = "0001"
"""The newest migration: the tables as they are below."""

metadata: Final = MetaData()

workloads: Final = Table(
    "workloads",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("seq", BigInteger, nullable=False, unique=True),  # the order of submission
    Column("name", String(255), nullable=False, unique=True),
    Column("project", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("wish", String(16), nullable=False),
    Column("submitted_ms", BigInteger, nullable=False),
    Column("spec", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("workloads_by_state", "state", "seq"),
    Index("workloads_by_project", "project", "seq"),
)

tasks: Final = Table(
    "tasks",
    metadata,
    Column("workload_id", String(128), ForeignKey("workloads.id", ondelete="CASCADE"), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

queues: Final = Table(
    "queues",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("body", Text, nullable=False),
)

events: Final = Table(
    "events",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("workload", String(255), nullable=False),
    Column("task", String(255), nullable=False),
    Column("message", Text, nullable=False),
    Index("events_by_workload", "workload", "seq"),
)

submissions: Final = Table(
    "submissions",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("digest", String(255), nullable=False),
    Column("at_ms", BigInteger, nullable=False, index=True),
    Column("made", Text, nullable=False),  # ids, as a JSON list
)
