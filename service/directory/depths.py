"""How much waits in the directory: for metrics and the console."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import func, select

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import OPEN
from service.metrics import Depths


def measure(transaction: Transaction, now: datetime) -> Depths:
    """Counts through indexes only."""

    def count(*where: object) -> int:
        return transaction.execute(select(func.count()).where(*where)).scalar_one()  # pyright: ignore[reportArgumentType]

    return Depths(
        open_events=count(t.events.c.state.in_(OPEN)),
        deadlettered_events=count(t.events.c.state == "deadlettered"),
        due_accounts=count(t.accounts.c.due_at <= now),
        untouched_users=count(t.fanouts.c.event_id.is_not(None)),
        unpublished_outcomes=count(t.outcomes.c.published_at.is_(None)),
        paused_tenants=count(t.tenants.c.paused_at.is_not(None)),
        sources={row.name: row.blown_at is not None for row in transaction.execute(_SOURCES)},
    )


_SOURCES: Final = select(t.sources.c.name, t.fuses.c.blown_at).select_from(
    t.sources.outerjoin(t.fuses, t.fuses.c.source == t.sources.c.name)
)
