"""Desired state, the inbox, the outbox and what lanes keep: the tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_INSTANT = sa.DateTime(timezone=True)
_DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "organizations",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("tenant", sa.String(50), nullable=False),
        sa.Column("document", _DOCUMENT, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("decommissioned_at", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("modified_at", _INSTANT, nullable=False),
    )
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(50), primary_key=True),
        sa.Column("document", _DOCUMENT, nullable=False),
        sa.Column("owner", sa.String(100)),
        sa.Column("fence", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("lease_until", _INSTANT),
        sa.Column("paused_at", _INSTANT),
        sa.Column("pause_reason", sa.Text),
        sa.Column("resume_at", _INSTANT),
    )
    op.create_table(
        "sources",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("document", _DOCUMENT, nullable=False),
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("door", sa.String(10), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT),
        sa.Column("revoked_at", _INSTANT),
        sa.Column("last_used_at", _INSTANT),
        sa.Index(None, "organization", "door"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        # What SCIM says. resource is NULL where only HR knows the person.
        sa.Column("resource", _DOCUMENT),
        sa.Column("user_name_key", sa.Text),
        sa.Column("display_name_key", sa.Text),
        sa.Column("external_id", sa.Text),
        sa.Column("active", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("deleted_at", _INSTANT),
        # What HR says.
        sa.Column("worker_id", sa.Text),
        sa.Column("worker", _DOCUMENT),
        sa.Column("employment", sa.String(20)),
        sa.Column("employment_order", _DOCUMENT),
        sa.Column("leave", _DOCUMENT),
        # What an operator says.
        sa.Column("locked_at", _INSTANT),
        sa.Column("lock_reason", sa.Text),
        sa.Column("released_at", _INSTANT),
        # What follows for Auth0.
        sa.Column("identifier", sa.Text),
        sa.Column("account_id", sa.String(36)),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("last_applied_at", _INSTANT),
        sa.Column("last_event_id", sa.String(36)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("modified_at", _INSTANT, nullable=False),
        sa.Index(
            "uq_users_user_name",
            "organization",
            "user_name_key",
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL AND user_name_key IS NOT NULL"),
            postgresql_where=sa.text("deleted_at IS NULL AND user_name_key IS NOT NULL"),
        ),
        sa.Index(
            "uq_users_worker_id",
            "organization",
            "worker_id",
            unique=True,
            sqlite_where=sa.text("worker_id IS NOT NULL"),
            postgresql_where=sa.text("worker_id IS NOT NULL"),
        ),
        sa.Index(None, "organization", "external_id"),
        sa.Index(None, "organization", "display_name_key"),
        sa.Index(None, "organization", "identifier"),
        sa.Index(
            "uq_users_account",  # within an organization one user holds an account
            "account_id",
            "organization",
            unique=True,
            sqlite_where=sa.text("account_id IS NOT NULL"),
            postgresql_where=sa.text("account_id IS NOT NULL"),
        ),
        sa.Index(None, "organization", "id"),
    )
    op.create_table(
        "user_emails",
        sa.Column(
            "user_id",
            sa.String(36),
            sa.ForeignKey("users.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("value_key", sa.Text, primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Index(None, "organization", "value_key"),
    )
    op.create_table(
        "groups",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("resource", _DOCUMENT, nullable=False),
        sa.Column("display_name_key", sa.Text, nullable=False),
        sa.Column("external_id", sa.Text),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("modified_at", _INSTANT, nullable=False),
        sa.Index(None, "organization", "display_name_key"),
        sa.Index(None, "organization", "external_id"),
        sa.Index(None, "organization", "id"),
    )
    op.create_table(
        "members",
        sa.Column(
            "group_id",
            sa.String(36),
            sa.ForeignKey("groups.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "user_id",
            sa.String(36),
            sa.ForeignKey("users.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Index(None, "user_id"),
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(50), nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column(
            "user_id", sa.Text, nullable=False
        ),  # Auth0's: auth0|<random key>, or an adopted one
        sa.Column("identifier", sa.Text, nullable=False),
        sa.Column("closed_at", _INSTANT),  # deleted in Auth0: the key is never used again
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("applied_revision", sa.Integer, nullable=False),
        sa.Column("observed", _DOCUMENT, nullable=False),
        sa.Column(
            "doubt", _DOCUMENT
        ),  # the operation we were about to do, recorded before the call
        sa.Column("due_at", _INSTANT),
        sa.Column("leaver", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("error", _DOCUMENT),
        sa.Column("modified_at", _INSTANT, nullable=False),
        sa.Index(
            "uq_accounts_identifier",
            "tenant",
            "connection",
            "identifier",
            unique=True,
            sqlite_where=sa.text("closed_at IS NULL"),
            postgresql_where=sa.text("closed_at IS NULL"),
        ),
        sa.Index(
            "ix_accounts_due",
            "tenant",
            sa.text("leaver DESC"),
            "due_at",
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        ),
    )
    op.create_table(
        "events",
        sa.Column("number", _COUNTER, primary_key=True, autoincrement=True),  # order of acceptance
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("organization", sa.String(50)),
        sa.Column("door", sa.String(10), nullable=False),  # scim, http, kafka, operator
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("source_id", sa.Text),  # the producer's own id of the event
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("topic", sa.Text),
        sa.Column("partition", sa.Integer),
        sa.Column("offset", sa.BigInteger),
        sa.Column("key", sa.LargeBinary),
        sa.Column("headers", _DOCUMENT, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(36)),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("result", sa.String(10)),  # of succeeded: applied, waiting, held
        sa.Column("error", _DOCUMENT),
        sa.Column("causation_id", sa.String(36)),
        sa.Column("correlation_id", sa.Text),
        sa.Column("traceparent", sa.Text),
        sa.Column("accepted_at", _INSTANT, nullable=False),
        sa.Column("effective_at", _INSTANT),
        sa.Column("finished_at", _INSTANT),
        # With the body: a topic made anew counts its offsets from the start again.
        sa.UniqueConstraint("topic", "partition", "offset", "body_hash"),
        sa.Index(None, "organization", "state"),
        sa.Index(None, "user_id"),
        sa.Index(
            "uq_events_source_id",
            "organization",
            "source",
            "source_id",
            unique=True,
            sqlite_where=sa.text("source_id IS NOT NULL"),
            postgresql_where=sa.text("source_id IS NOT NULL"),
        ),
        sa.Index(
            "uq_events_source_id_of_none",  # to an index no two NULLs are the same organization
            "source",
            "source_id",
            unique=True,
            sqlite_where=sa.text("organization IS NULL AND source_id IS NOT NULL"),
            postgresql_where=sa.text("organization IS NULL AND source_id IS NOT NULL"),
        ),
    )
    op.create_table(
        "waits",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("account_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(36), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Index(None, "account_id"),
        sa.Index(None, "user_id"),
    )
    op.create_table(
        "schedule",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("worker_id", sa.Text, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("worker_event", _DOCUMENT, nullable=False),
        sa.Index(None, "organization", "worker_id"),
        sa.Index(None, "due_at"),
    )
    op.create_table(
        "outcomes",
        sa.Column("number", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(36), nullable=False, unique=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("organization", sa.String(50)),
        sa.Column("user_id", sa.String(36)),
        sa.Column("event_id", sa.String(36)),
        sa.Column("correlation_id", sa.Text),
        sa.Column("traceparent", sa.Text),
        sa.Column("data", _DOCUMENT, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("published_at", _INSTANT),
        sa.UniqueConstraint("key", "sequence"),
        sa.Index(
            "ix_outcomes_unpublished",
            "shard",
            "number",
            sqlite_where=sa.text("published_at IS NULL"),
            postgresql_where=sa.text("published_at IS NULL"),
        ),
        sa.Index(None, "event_id"),
        sa.Index(None, "organization", "user_id"),
    )
    op.create_table(
        "outcome_keys",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, nullable=False),
    )
    op.create_table(
        "shards",
        sa.Column("shard", sa.Integer, primary_key=True),
        sa.Column("owner", sa.String(100)),
        sa.Column("fence", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("lease_until", _INSTANT),
    )
    op.create_table(
        "effects",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("account_id", sa.String(36), nullable=False),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(30), nullable=False),
        sa.Column("intent", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),  # intended, done, doubtful
        sa.Column("at", _INSTANT, nullable=False),
        sa.UniqueConstraint("account_id", "user_id", "kind", "intent"),
    )
    op.create_table(
        "audit",
        sa.Column("number", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("organization", sa.String(50)),
        sa.Column("subject", sa.Text),
        sa.Column("detail", _DOCUMENT, nullable=False),
    )
