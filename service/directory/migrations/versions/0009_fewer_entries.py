"""A write leaves fewer entries: none of topic and offset but for what came from a topic, and on SQLite
none of a row's number where the key is all there is of a row.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_BEFORE = "uq_events_topic_partition_offset_body_hash"
_COLUMNS = ["topic", "partition", "offset", "body_hash"]
_KEYS_ALONE = (*("fanouts", "members", "outcome_keys", "snapshot_workers", "user_emails", "waits"),)


def upgrade() -> None:
    # SQLite writes each of these tables anew.
    with op.batch_alter_table("events") as events:
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
    if op.get_bind().dialect.name == "sqlite":
        for name in _KEYS_ALONE:
            with op.batch_alter_table(
                name, recreate="always", table_kwargs={"sqlite_with_rowid": False}
            ):
                pass
