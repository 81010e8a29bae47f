"""Indexes that answer listings alone: whom SCIM shows, and names in the order they are sorted by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_SHOWN = sa.text("deleted_at IS NULL AND user_name_key IS NOT NULL")
_FOLDED = (
    ("users", "user_name_key"),
    ("users", "display_name_key"),
    ("groups", "display_name_key"),
)


def upgrade() -> None:
    op.drop_index("ix_users_organization_id", "users")
    op.create_index(
        "ix_users_listed",
        "users",
        ["organization", "id"],
        sqlite_where=_SHOWN,
        postgresql_where=_SHOWN,
    )
    if op.get_bind().dialect.name == "postgresql":
        for table, column in _FOLDED:  # SQLite compares text by its bytes anyway
            op.alter_column(table, column, type_=sa.Text(collation="C"))
