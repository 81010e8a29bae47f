"""The inbox, and what an event waits for before it ends."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from service.directory.tables.columns import Counter, Document, Instant, metadata, partial_index

events = Table(
    "events",
    metadata,
    Column("number", Counter, primary_key=True, autoincrement=True),  # order of acceptance
    Column("id", String(36), nullable=False, unique=True),
    Column("organization", String(50)),
    Column("door", String(10), nullable=False),  # scim, http, kafka, operator
    Column("source", Text, nullable=False),
    Column("source_id", Text),  # the producer's own id of the event
    Column("type", Text, nullable=False),
    Column("topic", Text),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("key", LargeBinary),
    Column("headers", Document, nullable=False),
    Column("body", LargeBinary),
    Column("body_hash", String(64), nullable=False),
    Column("user_id", String(36)),
    Column("state", String(12), nullable=False),
    Column("result", String(10)),  # of succeeded: applied, waiting, held
    Column("error", Document),
    Column("causation_id", String(36)),
    Column("correlation_id", Text),
    Column("traceparent", Text),
    Column("tracestate", Text),
    Column("mapping", Text),  # that read it: name and version
    Column("accepted_at", Instant, nullable=False),
    Column("effective_at", Instant),
    Column("finished_at", Instant),
    Index(None, "state", "organization"),  # what is open or in trouble, of all or of one
    Index(None, "organization", "number"),
    Index(None, "user_id"),
    partial_index(
        "ix_events_causation_id",  # few have one: replays and duplicates
        "causation_id",
        where="causation_id IS NOT NULL",
    ),
    partial_index(
        "uq_events_offset",  # with the body: a topic made anew counts from the start again
        "topic",
        "partition",
        "offset",
        "body_hash",
        unique=True,
        where="topic IS NOT NULL",
    ),
    partial_index(
        "uq_events_source_id",
        "organization",
        "source",
        "source_id",
        unique=True,
        where="source_id IS NOT NULL",
    ),
    partial_index(
        "uq_events_source_id_of_none",  # to an index no two NULLs are the same organization
        "source",
        "source_id",
        unique=True,
        where="organization IS NULL AND source_id IS NOT NULL",
    ),
)

waits = Table(
    "waits",
    metadata,
    Column("event_id", String(36), primary_key=True),
    Column("account_id", String(36), primary_key=True),
    Column("user_id", String(36), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("failures", Integer, nullable=False, server_default=text("0")),  # tries of the account
    Column("failed_at", Instant),  # the first of them
    Index(None, "account_id"),
    Index(None, "user_id"),
    sqlite_with_rowid=False,
)

# Whom an event of many accounts has not touched yet: these rows are the work that is left of it.
fanouts = Table(
    "fanouts",
    metadata,
    Column("event_id", String(36), primary_key=True),
    Column("user_id", String(36), primary_key=True),
    sqlite_with_rowid=False,
)

schedule = Table(
    "schedule",
    metadata,
    Column("event_id", String(36), primary_key=True),
    Column("organization", String(50), nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("type", Text, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("number", BigInteger),  # order of acceptance, of those that are due at one moment
    Column("worker_event", Document, nullable=False),
    Index(None, "organization", "worker_id"),
    Index(None, "due_at"),
)

# Thin events that wait for an answer about their worker.
enrichments = Table(
    "enrichments",
    metadata,
    Column("event_id", String(36), primary_key=True),
    Column("organization", String(50), nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("source", String(100), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("sequence", BigInteger),
    Column("since", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Document),
    Column("owner", String(100)),
    Column("lease_until", Instant),
    Index(None, "source", "due_at"),
    Index(None, "organization", "worker_id", "number"),
)

# Full exports of HR that come as events: what was heard of each, and how far the compare is.
snapshots = Table(
    "snapshots",
    metadata,
    Column("organization", String(50), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("began_at", Instant, nullable=False),
    Column("event_id", String(36)),  # says that this was all
    Column("count", Integer),
    Column("taken_at", Instant),
    Column("due_at", Instant),  # so long lines may still be missing
    Column("reached", Text),  # the worker that the compare has come to
    Column("absent", Integer, nullable=False, server_default=text("0")),
    Column("compared_at", Instant),
    Column("ended_at", Instant),
)

snapshot_workers = Table(
    "snapshot_workers",
    metadata,
    Column("organization", String(50), primary_key=True),
    Column("snapshot", Text, primary_key=True),
    Column("worker_id", Text, primary_key=True),
    sqlite_with_rowid=False,
)
