"""What HR's events need: employments side by side, a key to join by, leavers held back, mappings, fuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

_INSTANT = sa.DateTime(timezone=True)
_DOCUMENT = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)
_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_JOINED = sa.text("join_key IS NOT NULL")


def upgrade() -> None:
    op.add_column("users", sa.Column("employments", _DOCUMENT))
    op.add_column("users", sa.Column("join_key", sa.Text()))
    op.add_column("users", sa.Column("withheld", _DOCUMENT))
    op.add_column("schedule", sa.Column("number", sa.BigInteger()))
    op.create_index(
        "ix_users_join_key",
        "users",
        ["organization", "join_key"],
        sqlite_where=_JOINED,
        postgresql_where=_JOINED,
    )
    op.add_column("events", sa.Column("tracestate", sa.Text()))
    op.add_column("events", sa.Column("mapping", sa.Text()))
    op.add_column("outcomes", sa.Column("tracestate", sa.Text()))
    failures = sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0"))
    op.add_column("waits", failures)
    op.add_column("waits", sa.Column("failed_at", _INSTANT))
    op.create_table(
        "departures",
        sa.Column("number", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("ordinal", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_departures_organization_at", "departures", ["organization", "at"])
    op.create_index("ix_departures_organization_ordinal", "departures", ["organization", "ordinal"])
    op.create_table(
        "headcounts",
        sa.Column("organization", sa.String(50), primary_key=True),
        sa.Column("people", sa.BigInteger(), nullable=False),
        sa.Column("is_whole", sa.Boolean(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
    )
    op.create_table(
        "mappings",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", _DOCUMENT, nullable=False),
        sa.Column("modified_at", _INSTANT, nullable=False),
    )
    op.create_table(
        "fuses",
        sa.Column("source", sa.String(100), primary_key=True),
        sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("blown_at", _INSTANT),
        sa.Column("detail", _DOCUMENT),
    )
    op.create_table(
        "enrichments",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("error", _DOCUMENT),
        sa.Column("owner", sa.String(100)),
        sa.Column("lease_until", _INSTANT),
    )
    op.create_index("ix_enrichments_source_due_at", "enrichments", ["source", "due_at"])
    op.create_index(
        "ix_enrichments_organization_worker_id_number",
        "enrichments",
        ["organization", "worker_id", "number"],
    )
    op.create_table(
        "snapshots",
        sa.Column("organization", sa.String(50), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("began_at", _INSTANT, nullable=False),
        sa.Column("event_id", sa.String(36)),
        sa.Column("count", sa.Integer()),
        sa.Column("taken_at", _INSTANT),
        sa.Column("due_at", _INSTANT),
        sa.Column("reached", sa.Text()),
        sa.Column("absent", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("compared_at", _INSTANT),
        sa.Column("ended_at", _INSTANT),
    )
    op.create_table(
        "snapshot_workers",
        sa.Column("organization", sa.String(50), primary_key=True),
        sa.Column("snapshot", sa.Text(), primary_key=True),
        sa.Column("worker_id", sa.Text(), primary_key=True),
    )
    op.create_table(
        "streams",
        sa.Column("organization", sa.String(50), primary_key=True),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("error", _DOCUMENT),
        sa.Column("stopped_at", _INSTANT),
        sa.Column("delivered_at", _INSTANT),
        sa.Column("owner", sa.String(100)),
        sa.Column("lease_until", _INSTANT),
    )
    op.create_table(
        "security_events",
        sa.Column("number", _COUNTER, primary_key=True, autoincrement=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("jti", sa.String(36), nullable=False, unique=True),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("document", _DOCUMENT, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
    )
    op.create_index(
        "ix_security_events_organization_number", "security_events", ["organization", "number"]
    )
