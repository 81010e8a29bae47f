"""Auth0 in more ways: what was sent to whom, how organizations are set up there, and how they end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

_INSTANT = sa.DateTime(timezone=True)
_DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
_IMPORTED = sa.text("import_id IS NOT NULL")
_IMPORTING = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.add_column("effects", sa.Column("event_id", sa.String(36)))
    op.add_column("effects", sa.Column("address", sa.Text()))
    op.add_column("effects", sa.Column("auth0_organization", sa.Text()))
    op.add_column("effects", sa.Column("reference", sa.Text()))
    op.add_column("effects", sa.Column("expires_at", _INSTANT))
    op.add_column("effects", sa.Column("ended", sa.String(10)))
    op.execute("UPDATE effects SET kind = 'ticket' WHERE kind = 'invitation'")
    _set_ups()
    _imports()
    _drift()
    _feeds()


def _set_ups() -> None:
    op.add_column("organizations", sa.Column("deleting_at", _INSTANT))
    op.create_table(
        "setups",
        sa.Column("organization", sa.String(50), primary_key=True),
        sa.Column("tenant", sa.String(50), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("applied_revision", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("observed", _DOCUMENT),
        sa.Column("observed_at", _INSTANT),
        sa.Column("plan", _DOCUMENT),
        sa.Column("doubt", _DOCUMENT),
        sa.Column("changed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("error", _DOCUMENT),
        sa.Column("administrator", _DOCUMENT),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("due_at", _INSTANT),
        sa.Column("modified_at", _INSTANT, nullable=False),
    )
    op.create_index(
        "ix_setups_due",
        "setups",
        ["tenant", "due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "decommissions",
        sa.Column("organization", sa.String(50), primary_key=True),
        sa.Column("stage", sa.String(12), nullable=False),
        sa.Column("accounts", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("deletion_event_id", sa.String(36)),
        sa.Column("hold_until", _INSTANT),
        sa.Column("began_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
        sa.Column("modified_at", _INSTANT, nullable=False),
    )


def _imports() -> None:
    op.add_column("accounts", sa.Column("import_id", sa.String(36)))
    op.create_index(
        "ix_accounts_import_id",
        "accounts",
        ["import_id"],
        sqlite_where=_IMPORTED,
        postgresql_where=_IMPORTED,
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(50), nullable=False),
        sa.Column("connection", sa.Text(), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("job", sa.Text()),
        sa.Column("accounts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("uploaded_at", _INSTANT),
        sa.Column("looked_at", _INSTANT),
        sa.Column("due_at", _INSTANT),
        sa.Column("result", _DOCUMENT, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
    )
    op.create_index(
        "ix_imports_open",
        "imports",
        ["tenant"],
        sqlite_where=_IMPORTING,
        postgresql_where=_IMPORTING,
    )


def _drift() -> None:
    op.create_table(
        "drift_checks",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(50), nullable=False),
        sa.Column("organization", sa.String(50)),
        sa.Column("correct", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("progress", _DOCUMENT, nullable=False),
        sa.Column("result", _DOCUMENT),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
    )
    op.create_index("ix_drift_checks_tenant_created_at", "drift_checks", ["tenant", "created_at"])
    op.create_table(
        "drift_findings",
        sa.Column("tenant", sa.String(50), primary_key=True),
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("aspect", sa.Text(), primary_key=True),
        sa.Column("organization", sa.String(50)),
        sa.Column("user_id", sa.String(36)),
        sa.Column("auth0_user_id", sa.Text(), nullable=False),
        sa.Column("detail", _DOCUMENT, nullable=False),
        sa.Column("check_id", sa.String(36), nullable=False),
        sa.Column("correcting", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("found_at", _INSTANT, nullable=False),
    )


def _feeds() -> None:
    op.add_column("accounts", sa.Column("look_at", _INSTANT))
    op.add_column(
        "accounts", sa.Column("looked", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("accounts", sa.Column("appeared", sa.Text()))
    op.create_index("ix_accounts_user_id", "accounts", ["tenant", "user_id"])
    op.create_index(
        "ix_accounts_look_at",
        "accounts",
        ["tenant", "look_at"],
        sqlite_where=sa.text("look_at IS NOT NULL"),
        postgresql_where=sa.text("look_at IS NOT NULL"),
    )
    op.create_table(
        "event_feeds",
        sa.Column("tenant", sa.String(50), primary_key=True),
        sa.Column("cursor", sa.Text()),
        sa.Column("heard_at", _INSTANT),
        sa.Column("newest_at", _INSTANT),
        sa.Column("refused", _DOCUMENT),
        sa.Column("marks", _DOCUMENT),
    )
