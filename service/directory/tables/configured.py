"""What is declared: organizations, tenants, sources, mappings; and how far each has come."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, String, Table, Text, text

from service.directory.tables.columns import Document, Instant, metadata, partial_index

organizations = Table(
    "organizations",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("tenant", String(50), nullable=False),
    Column("document", Document, nullable=False),
    Column("version", Integer, nullable=False),
    Column("decommissioned_at", Instant),
    # From here on an ended one's accounts go, and nothing comes back.
    Column("deleting_at", Instant),
    # How often its Organization was found gone from Auth0: memberships of an earlier one are none.
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("modified_at", Instant, nullable=False),
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("organization", String(50), nullable=False),
    Column("door", String(10), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", String(50), nullable=False, server_default=text("'read write'")),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    Index(None, "organization", "door"),
)

# How an organization is to be set up in Auth0, how far that is, and what was seen there last.
setups = Table(
    "setups",
    metadata,
    Column("organization", String(50), primary_key=True),
    Column("tenant", String(50), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("applied_revision", Integer, nullable=False, server_default=text("0")),
    Column("observed", Document),
    Column("observed_at", Instant),
    Column("plan", Document),  # what is left to do
    Column("doubt", Document),  # the operation we were about to do, recorded before the call
    Column("changed", Boolean, nullable=False, server_default=text("false")),
    Column("error", Document),
    Column("administrator", Document),  # the first one: address, and whom it is
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("due_at", Instant),
    Column("modified_at", Instant, nullable=False),
    partial_index(
        "ix_setups_due",
        "tenant",
        "due_at",
        where="due_at IS NOT NULL",
    ),
)

# How far the end of an organization is.
decommissions = Table(
    "decommissions",
    metadata,
    Column("organization", String(50), primary_key=True),
    Column("stage", String(12), nullable=False),
    Column("accounts", Integer, nullable=False),
    Column("event_id", String(36), nullable=False),  # locks everybody out
    Column("deletion_event_id", String(36)),  # deletes the accounts
    Column("hold_until", Instant),
    Column("began_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("modified_at", Instant, nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("document", Document, nullable=False),
    Column("owner", String(100)),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("lease_until", Instant),
    Column("paused_at", Instant),
    Column("pause_reason", Text),
    Column("resume_at", Instant),
)

sources = Table(
    "sources",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("document", Document, nullable=False),
)

# A source whose events fail one after the other is no longer read: see consumers.
fuses = Table(
    "fuses",
    metadata,
    Column("source", String(100), primary_key=True),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("blown_at", Instant),
    Column("detail", Document),
)

mappings = Table(
    "mappings",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", Document, nullable=False),
    Column("modified_at", Instant, nullable=False),
)
