"""Indexes to walk an organization's people who have an account, and to find the compares under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    _index("ix_users_housed", "users", ["organization", "id"], "account_id IS NOT NULL")
    _index("ix_drift_checks_open", "drift_checks", ["tenant"], "ended_at IS NULL")
    _index("ix_drift_findings_correcting", "drift_findings", ["tenant"], "correcting")


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    only = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)
