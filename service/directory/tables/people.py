"""Users and groups of organizations, and who of them left lately."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)

from service.directory.tables.columns import (
    Counter,
    Document,
    Folded,
    Instant,
    metadata,
    partial_index,
)

users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization", String(50), nullable=False),
    # What SCIM says. resource is NULL where only HR knows the person.
    Column("resource", Document),
    Column("user_name_key", Folded),
    Column("display_name_key", Folded),
    Column("external_id", Text),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("deleted_at", Instant),
    # What HR says.
    Column("worker_id", Text),
    Column("worker", Document),
    Column("employment", String(20)),
    Column("employment_order", Document),
    Column("leave", Document),
    Column("employments", Document),  # of several at once: id to [status, order]
    Column("join_key", Text),  # what HR calls this person by, where that is no externalId
    # What an operator says.
    Column("locked_at", Instant),
    Column("lock_reason", Text),
    Column("released_at", Instant),
    # What follows for Auth0.
    Column("identifier", Text),
    Column("account_id", String(36)),
    Column("state", String(10), nullable=False),
    Column("detail", Text),
    Column("last_applied_at", Instant),
    Column("last_event_id", String(36)),
    Column("withheld", Document),  # a leaving that waits for an operator
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("modified_at", Instant, nullable=False),
    partial_index(
        "uq_users_user_name",
        "organization",
        "user_name_key",
        unique=True,
        where="deleted_at IS NULL AND user_name_key IS NOT NULL",
    ),
    partial_index(
        "uq_users_worker_id",
        "organization",
        "worker_id",
        unique=True,
        where="worker_id IS NOT NULL",
    ),
    Index(None, "organization", "external_id"),
    Index(None, "organization", "display_name_key"),
    Index(None, "organization", "identifier"),
    partial_index(
        "ix_users_join_key",
        "organization",
        "join_key",
        where="join_key IS NOT NULL",
    ),
    partial_index(
        "uq_users_account",  # within an organization one user holds an account
        "account_id",
        "organization",
        unique=True,
        where="account_id IS NOT NULL",
    ),
    partial_index(
        "ix_users_listed",  # what SCIM shows; on resource it would make every PATCH cost an entry
        "organization",
        "id",
        where="deleted_at IS NULL AND user_name_key IS NOT NULL",
    ),
    partial_index(
        "ix_users_housed",  # everybody who has an account, a page at a time
        "organization",
        "id",
        where="account_id IS NOT NULL",
    ),
)

user_emails = Table(
    "user_emails",
    metadata,
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("value_key", Text, primary_key=True),
    Column("organization", String(50), nullable=False),
    Index(None, "organization", "value_key"),
    sqlite_with_rowid=False,
)

groups = Table(
    "groups",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("organization", String(50), nullable=False),
    Column("resource", Document, nullable=False),
    Column("display_name_key", Folded, nullable=False),
    Column("external_id", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("modified_at", Instant, nullable=False),
    Index(None, "organization", "display_name_key"),
    Index(None, "organization", "external_id"),
    Index(None, "organization", "id"),
)

members = Table(
    "members",
    metadata,
    Column("group_id", String(36), ForeignKey("groups.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Index(None, "user_id"),
    sqlite_with_rowid=False,
)

# Who went out lately: many at once wait for an operator.
departures = Table(
    "departures",
    metadata,
    Column("number", Counter, primary_key=True, autoincrement=True),
    Column("organization", String(50), nullable=False),
    Column("user_id", String(36), nullable=False),
    Column("at", Instant, nullable=False),
    Column("ordinal", BigInteger, nullable=False),  # among those of the organization
    Index(None, "organization", "at"),
    Index(None, "organization", "ordinal"),
)

# How many people an organization has, or at least has, as counted when many left.
headcounts = Table(
    "headcounts",
    metadata,
    Column("organization", String(50), primary_key=True),
    Column("people", BigInteger, nullable=False),
    Column("is_whole", Boolean, nullable=False),
    Column("at", Instant, nullable=False),
)
