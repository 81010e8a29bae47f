"""The tables, for Postgres and SQLite alike. Names and columns only; no behaviour."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Counter = BigInteger().with_variant(Integer, "sqlite")
Folded = Text().with_variant(Text(collation="C"), "postgresql")
"""A casefolded text that is also sorted by: its index knows the order that SQLite has too."""


class Instant(TypeDecorator[datetime]):
    """A moment in UTC: ``timestamptz`` on Postgres, sortable text on SQLite, aware in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.replace(tzinfo=UTC)


organizations = Table(
    "organizations",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("tenant", String(50), nullable=False),
    Column("document", Document, nullable=False),
    Column("version", Integer, nullable=False),
    Column("decommissioned_at", Instant),
    Column(
        "deleting_at", Instant
    ),  # from here on an ended one's accounts go, and nothing comes back
    # How often its Organization was found gone from Auth0: memberships of an earlier one are none.
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("modified_at", Instant, nullable=False),
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
    Index(
        "ix_setups_due",
        "tenant",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
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

mappings = Table(
    "mappings",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", Document, nullable=False),
    Column("modified_at", Instant, nullable=False),
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
    Index(
        "uq_users_user_name",
        "organization",
        "user_name_key",
        unique=True,
        sqlite_where=text("deleted_at IS NULL AND user_name_key IS NOT NULL"),
        postgresql_where=text("deleted_at IS NULL AND user_name_key IS NOT NULL"),
    ),
    Index(
        "uq_users_worker_id",
        "organization",
        "worker_id",
        unique=True,
        sqlite_where=text("worker_id IS NOT NULL"),
        postgresql_where=text("worker_id IS NOT NULL"),
    ),
    Index(None, "organization", "external_id"),
    Index(None, "organization", "display_name_key"),
    Index(None, "organization", "identifier"),
    Index(
        "ix_users_join_key",
        "organization",
        "join_key",
        sqlite_where=text("join_key IS NOT NULL"),
        postgresql_where=text("join_key IS NOT NULL"),
    ),
    Index(
        "uq_users_account",  # within an organization one user holds an account
        "account_id",
        "organization",
        unique=True,
        sqlite_where=text("account_id IS NOT NULL"),
        postgresql_where=text("account_id IS NOT NULL"),
    ),
    Index(
        "ix_users_listed",  # what SCIM shows; on resource it would make every PATCH cost an entry
        "organization",
        "id",
        sqlite_where=text("deleted_at IS NULL AND user_name_key IS NOT NULL"),
        postgresql_where=text("deleted_at IS NULL AND user_name_key IS NOT NULL"),
    ),
    Index(
        "ix_users_housed",  # everybody who has an account, a page at a time
        "organization",
        "id",
        sqlite_where=text("account_id IS NOT NULL"),
        postgresql_where=text("account_id IS NOT NULL"),
    ),
)

user_emails = Table(
    "user_emails",
    metadata,
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("value_key", Text, primary_key=True),
    Column("organization", String(50), nullable=False),
    Index(None, "organization", "value_key"),
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
)

_leaver = Column("leaver", Boolean, nullable=False, server_default=text("false"))
accounts = Table(
    "accounts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(50), nullable=False),
    Column("connection", Text, nullable=False),
    Column("user_id", Text, nullable=False),  # Auth0's: auth0|<random key>, or an adopted one
    Column("identifier", Text, nullable=False),
    Column("closed_at", Instant),  # deleted in Auth0: the key is never used again
    Column("revision", Integer, nullable=False),
    Column("applied_revision", Integer, nullable=False),
    Column("observed", Document, nullable=False),
    Column("doubt", Document),  # the operation we were about to do, recorded before the call
    Column("due_at", Instant),
    _leaver,
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("error", Document),
    Column("import_id", String(36)),  # an import has it, and the lanes wait for that to end
    Column("modified_at", Instant, nullable=False),
    # Of a profile that cannot be created, until it is there.
    Column("look_at", Instant),
    Column("looked", Integer, nullable=False, server_default=text("0")),
    Column("appeared", Text),  # Auth0's id of who may be it, to be read
    Index("ix_accounts_user_id", "tenant", "user_id"),
    Index(
        "ix_accounts_look_at",
        "tenant",
        "look_at",
        sqlite_where=text("look_at IS NOT NULL"),
        postgresql_where=text("look_at IS NOT NULL"),
    ),
    Index(
        "ix_accounts_import_id",
        "import_id",
        sqlite_where=text("import_id IS NOT NULL"),
        postgresql_where=text("import_id IS NOT NULL"),
    ),
    Index(
        "uq_accounts_identifier",
        "tenant",
        "connection",
        "identifier",
        unique=True,
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
    Index(
        "ix_accounts_due",
        "tenant",
        _leaver.desc(),
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)

# Accounts that are created together, by one users-import job of Auth0.
imports = Table(
    "imports",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(50), nullable=False),
    Column("connection", Text, nullable=False),
    Column("state", String(10), nullable=False),  # gathered, uploading, running, ended
    Column("job", Text),  # Auth0's id of the job
    Column("accounts", Integer, nullable=False, server_default=text("0")),
    Column("since", Instant, nullable=False),  # how long the first of them was due
    Column("uploads", Integer, nullable=False, server_default=text("0")),
    Column("uploaded_at", Instant),
    Column("looked_at", Instant),
    Column("due_at", Instant),
    Column("result", Document, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index(
        "ix_imports_open",
        "tenant",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

# People who come from another system with their password hashes, and what became of each.
migrants = Table(
    "migrants",
    metadata,
    Column("account_id", String(36), primary_key=True),
    Column("organization", String(50), nullable=False),
    Column("user_id", String(36), nullable=False),
    Column("run", String(36), nullable=False),  # of one file
    Column("line", Integer, nullable=False),
    Column("sealed", LargeBinary),  # the hash, until the import has answered
    Column("state", String(14), nullable=False),  # waiting, created, already_there, refused
    Column("reason", Text),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index(None, "organization", "run"),
)

# Compares of Auth0 with what we know, asked for or nightly.
drift_checks = Table(
    "drift_checks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(50), nullable=False),
    Column("organization", String(50)),
    Column("correct", Boolean, nullable=False, server_default=text("false")),
    Column("asked_by", Text, nullable=False),
    Column("progress", Document, nullable=False),
    Column("result", Document),
    Column("error", Text),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index(None, "tenant", "created_at"),
    Index(
        "ix_drift_checks_open",
        "tenant",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

# What differs, each once, for as long as it does.
drift_findings = Table(
    "drift_findings",
    metadata,
    Column("tenant", String(50), primary_key=True),
    Column("subject", Text, primary_key=True),  # an account, or a user of Auth0's that is none
    Column("aspect", Text, primary_key=True),
    Column("organization", String(50)),
    Column("user_id", String(36)),
    Column("auth0_user_id", Text, nullable=False),
    Column("detail", Document, nullable=False),
    Column("check_id", String(36), nullable=False),  # that saw it last
    Column("correcting", Boolean, nullable=False, server_default=text("false")),
    Column("found_at", Instant, nullable=False),
    Index(
        "ix_drift_findings_correcting",
        "tenant",
        sqlite_where=text("correcting"),
        postgresql_where=text("correcting"),
    ),
)

# How far we have followed what a tenant tells of its users.
event_feeds = Table(
    "event_feeds",
    metadata,
    Column("tenant", String(50), primary_key=True),
    Column("cursor", Text),
    Column("heard_at", Instant),
    Column("newest_at", Instant),
    Column("refused", Document),
    Column("marks", Document),  # connection to when the newest user known there was created
)

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
    # With the body: a topic made anew counts its offsets from the start again.
    UniqueConstraint("topic", "partition", "offset", "body_hash"),
    Index(None, "state", "organization"),  # what is open or in trouble, of all or of one
    Index(None, "organization", "number"),
    Index(None, "user_id"),
    Index(
        "ix_events_causation_id",  # few have one: replays and duplicates
        "causation_id",
        sqlite_where=text("causation_id IS NOT NULL"),
        postgresql_where=text("causation_id IS NOT NULL"),
    ),
    Index(
        "uq_events_source_id",
        "organization",
        "source",
        "source_id",
        unique=True,
        sqlite_where=text("source_id IS NOT NULL"),
        postgresql_where=text("source_id IS NOT NULL"),
    ),
    Index(
        "uq_events_source_id_of_none",  # to an index no two NULLs are the same organization
        "source",
        "source_id",
        unique=True,
        sqlite_where=text("organization IS NULL AND source_id IS NOT NULL"),
        postgresql_where=text("organization IS NULL AND source_id IS NOT NULL"),
    ),
)

# Accounts that somebody lived in before they moved to another connection.
former_accounts = Table(
    "former_accounts",
    metadata,
    Column("user_id", String(36), primary_key=True),
    Column("account_id", String(36), primary_key=True),
    Column("moved_at", Instant, nullable=False),
    Column("left_at", Instant),  # NULL while the person needs it: the new one is not there yet
    Index(None, "account_id"),
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
)

# Whom an event of many accounts has not touched yet: these rows are the work that is left of it.
fanouts = Table(
    "fanouts",
    metadata,
    Column("event_id", String(36), primary_key=True),
    Column("user_id", String(36), primary_key=True),
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
    Index(
        "ix_outcomes_unpublished",
        "shard",
        "number",
        sqlite_where=text("published_at IS NULL"),
        postgresql_where=text("published_at IS NULL"),
    ),
    Index(None, "event_id"),
    Index(None, "organization", "user_id"),
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

outcome_keys = Table(
    "outcome_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),
)

shards = Table(
    "shards",
    metadata,
    Column("shard", Integer, primary_key=True),
    Column("owner", String(100)),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("lease_until", Instant),
)

effects = Table(
    "effects",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("account_id", String(36), nullable=False),
    Column("organization", String(50), nullable=False),
    Column("user_id", String(36), nullable=False),
    Column("kind", String(30), nullable=False),  # ticket, auth0-mail, invitation
    Column("intent", Text, nullable=False),
    Column("state", String(10), nullable=False),  # wanted, intended, done, doubtful
    Column("at", Instant, nullable=False),
    Column("event_id", String(36)),  # of the operator who asked for it
    Column("address", Text),
    Column("auth0_organization", Text),
    Column("reference", Text),  # Auth0's id of an invitation; never a link
    Column("expires_at", Instant),
    Column("ended", String(10)),  # accepted, expired, withdrawn
    UniqueConstraint("account_id", "user_id", "kind", "intent"),
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
