"""How much waits in the directory: for metrics and the console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select

from service.directory import appearances, setups, streams
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import OPEN
from service.metrics import Depths


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Accepted events that have not ended, by Auth0 tenant, and whose organization is where.

    What lies ahead (scheduled) or waits for a person (staged) is no backlog.
    """

    open_events: Mapping[str, int]
    tenant_of: Mapping[str, str]


def backlog(transaction: Transaction, bound: int) -> Backlog:
    """Counts no more than ``bound`` events of each tenant's organizations, through an index."""
    tenant_of = {row.name: row.tenant for row in transaction.execute(_TENANTS)}
    if not bound:
        return Backlog(open_events={}, tenant_of=tenant_of)
    open_events: dict[str, int] = {}
    for organization, tenant in tenant_of.items():
        known = open_events.get(tenant, 0)
        if known < bound:
            wanted = {"of": organization, "bound": bound - known}
            open_events[tenant] = known + transaction.execute(_OPEN, wanted).scalar_one()
    return Backlog(open_events=open_events, tenant_of=tenant_of)


_TENANTS: Final = select(t.organizations.c.name, t.organizations.c.tenant)
_OPEN: Final = select(func.count()).select_from(
    select(t.events.c.number)
    .where(t.events.c.state == "accepted", t.events.c.organization == bindparam("of"))
    .limit(bindparam("bound"))
    .subquery()
)


def measure(transaction: Transaction, now: datetime) -> Depths:
    """Counts through indexes only."""

    def count(*where: object) -> int:
        return transaction.execute(select(func.count()).where(*where)).scalar_one()  # pyright: ignore[reportArgumentType]

    return Depths(
        open_events=count(t.events.c.state.in_(OPEN)),
        deadlettered_events=count(t.events.c.state == "deadlettered"),
        staged_events=count(t.events.c.state == "staged"),
        thin_events=count(t.enrichments.c.event_id.is_not(None)),
        due_accounts=count(t.accounts.c.due_at <= now),
        untouched_users=count(t.fanouts.c.event_id.is_not(None)),
        unpublished_outcomes=count(t.outcomes.c.published_at.is_(None)),
        paused_tenants=count(t.tenants.c.paused_at.is_not(None)),
        set_ups_in_trouble=setups.in_trouble(transaction),
        sources={row.name: row.blown_at is not None for row in transaction.execute(_SOURCES)},
        awaited_accounts=count(t.accounts.c.look_at.is_not(None)),
        feeds={
            tenant: (
                (now - feed.newest_at).total_seconds() if feed.newest_at is not None else None,
                feed.refused is not None,
            )
            for tenant, feed in appearances.feeds(transaction).items()
        },
        security_events=count(t.security_events.c.organization.is_not(None)),
        streams=streams.stopped(transaction),
    )


_SOURCES: Final = select(t.sources.c.name, t.fuses.c.blown_at).select_from(
    t.sources.outerjoin(t.fuses, t.fuses.c.source == t.sources.c.name)
)
