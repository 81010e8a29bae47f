"""People who come with their password hashes or move between connections; replaced Organizations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    _moves()
    _migrants()
    _set_ups()


def _migrants() -> None:
    op.create_table(
        "migrants",
        sa.Column("account_id", sa.String(36), primary_key=True),
        sa.Column("organization", sa.String(50), nullable=False),
        sa.Column("user_id", sa.String(36), nullable=False),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("state", sa.String(14), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
    )
    op.create_index("ix_migrants_organization_run", "migrants", ["organization", "run"])


def _set_ups() -> None:
    op.add_column(
        "organizations",
        sa.Column("generation", sa.Integer(), nullable=False, server_default=sa.text("0")),
    )


def _moves() -> None:
    op.create_table(
        "former_accounts",
        sa.Column("user_id", sa.String(36), primary_key=True),
        sa.Column("account_id", sa.String(36), primary_key=True),
        sa.Column("moved_at", _INSTANT, nullable=False),
        sa.Column("left_at", _INSTANT),
    )
    op.create_index("ix_former_accounts_account_id", "former_accounts", ["account_id"])
