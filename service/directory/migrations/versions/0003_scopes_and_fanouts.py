"""What a token may do; and who is still to be touched by a change of many accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "credentials",
        sa.Column("scopes", sa.String(50), nullable=False, server_default=sa.text("'read write'")),
    )
    op.create_table(
        "fanouts",
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "user_id", name=op.f("pk_fanouts")),
    )
