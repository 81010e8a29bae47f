"""What goes out, to Kafka and to receivers of security events; and what operators did."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table, Text, UniqueConstraint, text

from service.directory.tables.columns import Counter, Document, Instant, metadata, partial_index

outcomes = Table(
    "outcomes",
    metadata,
    Column("number", Counter, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("key", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("organization", String(50)),
    Column("user_id", String(36)),
    Column("event_id", String(36)),
    Column("correlation_id", Text),
    Column("traceparent", Text),
    Column("tracestate", Text),
    Column("data", Document, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("published_at", Instant),
    UniqueConstraint("key", "sequence"),
    partial_index(
        "ix_outcomes_unpublished",
        "shard",
        "number",
        where="published_at IS NULL",
    ),
    Index(None, "event_id"),
    Index(None, "organization", "user_id"),
)

outcome_keys = Table(
    "outcome_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),
    sqlite_with_rowid=False,
)

shards = Table(
    "shards",
    metadata,
    Column("shard", Integer, primary_key=True),
    Column("owner", String(100)),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("lease_until", Instant),
)

# Where an organization's security events go: a row for each that has ever declared a stream.
streams = Table(
    "streams",
    metadata,
    Column("organization", String(50), primary_key=True),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Document),
    Column("stopped_at", Instant),
    Column("delivered_at", Instant),
    Column("owner", String(100)),
    Column("lease_until", Instant),
)

# What is left to push: a row for each token, gone once it has arrived.
security_events = Table(
    "security_events",
    metadata,
    Column("number", Counter, primary_key=True, autoincrement=True),
    Column("organization", String(50), nullable=False),
    Column("jti", String(36), nullable=False, unique=True),
    Column("uri", Text, nullable=False),
    Column("document", Document, nullable=False),
    Column("at", Instant, nullable=False),
    Index(None, "organization", "number"),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Counter, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("organization", String(50)),
    Column("subject", Text),
    Column("detail", Document, nullable=False),
    Index(None, "subject"),
)
