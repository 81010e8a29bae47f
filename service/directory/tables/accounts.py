"""Accounts of Auth0: each one, who is made together, what goes out once, what differs there."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from service.directory.tables.columns import Document, Instant, metadata, partial_index

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
    partial_index(
        "ix_accounts_look_at",
        "tenant",
        "look_at",
        where="look_at IS NOT NULL",
    ),
    partial_index(
        "ix_accounts_import_id",
        "import_id",
        where="import_id IS NOT NULL",
    ),
    partial_index(
        "uq_accounts_identifier",
        "tenant",
        "connection",
        "identifier",
        unique=True,
        where="closed_at IS NULL",
    ),
    partial_index(
        "ix_accounts_due",
        "tenant",
        _leaver.desc(),
        "due_at",
        where="due_at IS NOT NULL",
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
    partial_index(
        "ix_imports_open",
        "tenant",
        where="ended_at IS NULL",
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
    partial_index(
        "ix_drift_checks_open",
        "tenant",
        where="ended_at IS NULL",
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
    partial_index(
        "ix_drift_findings_correcting",
        "tenant",
        where="correcting",
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
