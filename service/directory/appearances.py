"""Accounts that what Auth0 tells of may be about, and how far we have followed what it tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, update

from service.directory import accounts
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import insert

LOOK_FIRST: Final = timedelta(minutes=5)
LOOK_LAST: Final = timedelta(hours=24)


def next_look(looked: int, now: datetime) -> datetime:
    """When somebody who was looked for in vain this many times is looked for by name again: after
    five minutes, then twice as long each time, up to a day. The tenant's share may make it later.
    """
    return now + min(LOOK_FIRST * 2 ** min(max(0, looked - 1), 12), LOOK_LAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How far a tenant's events were followed. ``cursor``: Auth0's offset, None before the first.

    ``newest_at``: when the newest event happened. ``heard_at``: when anything last came.
    ``refused``: why there is no feed, with ``code``, ``message`` and ``since``. ``marks``: of each
    connection that is polled, up to when its users are known, as ISO 8601.
    """

    cursor: str | None = None
    heard_at: datetime | None = None
    newest_at: datetime | None = None
    refused: Mapping[str, Any] | None = None
    marks: Mapping[str, str] = field(default_factory=dict[str, str])


def feed(transaction: Transaction, tenant: str) -> Feed:
    return feeds(transaction).get(tenant, Feed())


def feeds(transaction: Transaction) -> dict[str, Feed]:
    """Of every tenant that was followed so far."""
    return {
        row.tenant: Feed(
            cursor=row.cursor,
            heard_at=row.heard_at,
            newest_at=row.newest_at,
            refused=row.refused,
            marks=row.marks or {},
        )
        for row in transaction.execute(select(t.event_feeds))
    }


def store_feed(transaction: Transaction, tenant: str, **values: Any) -> None:
    """Writes columns of a tenant's feed: those that are named."""
    transaction.execute(
        insert(transaction, t.event_feeds)
        .values(tenant=tenant, **values)
        .on_conflict_do_update(index_elements=["tenant"], set_=values)
    )


def by_user_ids(transaction: Transaction, tenant: str, user_ids: Collection[str]) -> list[str]:
    """Open accounts that are one of these users of Auth0."""
    return list(
        transaction.execute(
            select(t.accounts.c.id).where(
                t.accounts.c.tenant == tenant,
                t.accounts.c.user_id.in_(list(user_ids)),
                t.accounts.c.closed_at.is_(None),
            )
        ).scalars()
    )


def by_stable_ids(
    transaction: Transaction,
    tenant: str,
    connection: str,
    organizations: Sequence[str],
    stable_ids: Collection[str],
) -> str | None:
    """The open account in this connection of whom one of these organizations knows by such an id.

    None where that is nobody, or more than one person.
    """
    found = transaction.execute(
        select(t.accounts.c.id)
        .join(t.users, t.users.c.account_id == t.accounts.c.id)
        .where(
            t.users.c.organization.in_(list(organizations)),
            t.users.c.external_id.in_(list(stable_ids)),
            t.accounts.c.tenant == tenant,
            t.accounts.c.connection == connection,
            t.accounts.c.closed_at.is_(None),
        )
        .distinct()
        .limit(2)
    ).scalars()
    one = found.all()
    return one[0] if len(one) == 1 else None


def by_address(transaction: Transaction, tenant: str, connection: str, address: str) -> str | None:
    return accounts.find_open(transaction, tenant, connection, address.lower())


def take_looks(transaction: Transaction, tenant: str, now: datetime, most: int) -> int:
    """Makes due those who wait the longest to be looked for, at most so many; returns how many."""
    waiting = (
        select(t.accounts.c.id)
        .where(t.accounts.c.tenant == tenant, t.accounts.c.look_at <= now)
        .order_by(t.accounts.c.look_at)
        .limit(most)
    )
    found = transaction.execute(waiting).scalars().all()
    if not found:
        return 0
    transaction.execute(
        update(t.accounts)
        .where(t.accounts.c.id.in_(found), t.accounts.c.due_at.is_(None))
        .values(due_at=now)
    )
    transaction.execute(update(t.accounts).where(t.accounts.c.id.in_(found)).values(look_at=None))
    return len(found)


def look_soon(transaction: Transaction, tenant: str, now: datetime) -> None:
    """Has everyone who is awaited looked for in turn, as after a gap in what was told."""
    transaction.execute(
        update(t.accounts)
        .where(t.accounts.c.tenant == tenant, t.accounts.c.look_at > now)
        .values(look_at=now)
    )
