"""Topic and offset are unique among what came from a topic: of all else no entry is written any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_BEFORE = "uq_events_topic_partition_offset_body_hash"
_COLUMNS = ["topic", "partition", "offset", "body_hash"]


def upgrade() -> None:
    with op.batch_alter_table("events") as events:  # SQLite writes the table anew
        events.drop_constraint(_BEFORE, type_="unique")
    only = sa.text("topic IS NOT NULL")
    op.create_index(
        "uq_events_offset",
        "events",
        _COLUMNS,
        unique=True,
        sqlite_where=only,
        postgresql_where=only,
    )
