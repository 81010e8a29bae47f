"""Indexes for what operators and Prometheus ask for over and over: what is open, or in trouble."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_HAS_CAUSE = sa.text("causation_id IS NOT NULL")


def upgrade() -> None:
    op.drop_index("ix_events_organization_state", "events")
    op.create_index("ix_events_state_organization", "events", ["state", "organization"])
    op.create_index("ix_events_organization_number", "events", ["organization", "number"])
    op.create_index(
        "ix_events_causation_id",
        "events",
        ["causation_id"],
        sqlite_where=_HAS_CAUSE,
        postgresql_where=_HAS_CAUSE,
    )
    op.create_index("ix_audit_subject", "audit", ["subject"])
