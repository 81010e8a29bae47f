"""What HR's events need: employments side by side, a key to join by, leavers held back, mappings, fuses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.directory.tables import Counter, Document, Instant

revision = "0005"
down_revision = "0004"

_JOINED = sa.text("join_key IS NOT NULL")


def upgrade() -> None:
    op.add_column("users", sa.Column("employments", Document))
    op.add_column("users", sa.Column("join_key", sa.Text()))
    op.add_column("users", sa.Column("withheld", Document))
    op.create_index(
        "ix_users_join_key",
        "users",
        ["organization", "join_key"],
        sqlite_where=_JOINED,
        postgresql_where=_JOINED,
    )
    op.create_table(
        "departures",
        sa.Column("number", Counter, primary_key=True, autoincrement=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("at", Instant, nullable=False),
    )
    op.create_index("ix_departures_organization_at", "departures", ["organization", "at"])
    op.create_table(
        "mappings",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", Document, nullable=False),
        sa.Column("modified_at", Instant, nullable=False),
    )
    op.create_table(
        "fuses",
        sa.Column("source", sa.String(100), primary_key=True),
        sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("blown_at", Instant),
        sa.Column("detail", Document),
    )
