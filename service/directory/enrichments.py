"""Thin events that wait for what their worker is now: who is next, whose turn it is, who gave up.

Knows no HTTP and no mappings. Of one worker, one event at a time: the one accepted first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, exists, func, or_, select, update

from service.directory import people
from service.directory import tables as t
from service.directory.database import Transaction
from service.workers import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An event that waits for an answer about its worker. ``order``: its place among the worker's."""

    event_id: str
    organization: str
    worker_id: str
    source: str
    order: Order
    attempts: int
    since: datetime
    error: Mapping[str, Any] | None


def wait(
    transaction: Transaction,
    event_id: str,
    *,
    organization: str,
    worker_id: str,
    source: str,
    order: Order,
    now: datetime,
) -> None:
    """Has an accepted event wait for an answer about its worker, due at once."""
    transaction.execute(
        t.enrichments.insert().values(
            event_id=event_id,
            organization=organization,
            worker_id=worker_id,
            source=source,
            number=order[1],
            sequence=order[0],
            since=now,
            due_at=now,
        )
    )


def claim(
    transaction: Transaction,
    source: str,
    *,
    owner: str,
    now: datetime,
    lease: timedelta,
    limit: int,
) -> list[Wanted]:
    """The longest due events of a source, leased: nobody else is about them or their workers.

    A lease that ran out counts for nothing, and ``settle`` and ``put_off`` of its owner do nothing.
    """
    earlier = t.enrichments.alias("earlier")
    first_of_worker = ~exists().where(
        earlier.c.organization == t.enrichments.c.organization,
        earlier.c.worker_id == t.enrichments.c.worker_id,
        earlier.c.number < t.enrichments.c.number,
    )
    due = (
        select(t.enrichments.c.event_id)
        .where(
            t.enrichments.c.source == source,
            t.enrichments.c.due_at <= now,
            or_(t.enrichments.c.lease_until.is_(None), t.enrichments.c.lease_until <= now),
            first_of_worker,
        )
        .order_by(t.enrichments.c.due_at, t.enrichments.c.number)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = transaction.execute(
        update(t.enrichments)
        .where(t.enrichments.c.event_id.in_(due))
        .values(owner=owner, lease_until=now + lease)
        .returning(*t.enrichments.c)
    ).all()
    found = [
        Wanted(
            event_id=row.event_id,
            organization=row.organization,
            worker_id=row.worker_id,
            source=row.source,
            order=[row.sequence, row.number],
            attempts=row.attempts,
            since=row.since,
            error=row.error,
        )
        for row in rows
    ]
    return sorted(found, key=lambda wanted: wanted.order[1] or 0)


def take(transaction: Transaction, wanted: Wanted, owner: str) -> bool:
    """Ends the wait, for who goes on with the event in this transaction.

    Holds the worker first, as every acceptance does. False where the lease was lost, or an operator
    discarded the event meanwhile.
    """
    people.hold_key(transaction, wanted.organization, wanted.worker_id)
    gone = transaction.execute(
        t.enrichments.delete().where(_leased(wanted, owner)).returning(t.enrichments.c.event_id)
    )
    if gone.scalar_one_or_none() is None:
        return False
    _attribute(transaction, wanted.event_id, wanted.organization, wanted.worker_id)
    state = transaction.execute(
        select(t.events.c.state).where(t.events.c.id == wanted.event_id).with_for_update()
    ).scalar_one_or_none()
    return state == "accepted"


def put_off(
    transaction: Transaction,
    wanted: Wanted,
    owner: str,
    *,
    due_at: datetime,
    error: Mapping[str, Any],
) -> None:
    """Lets a failed attempt be followed by another, and frees the lease."""
    transaction.execute(
        update(t.enrichments)
        .where(_leased(wanted, owner))
        .values(
            due_at=due_at,
            attempts=t.enrichments.c.attempts + 1,
            error=dict(error),
            owner=None,
            lease_until=None,
        )
    )


def release(transaction: Transaction, owner: str) -> None:
    """Frees whatever this owner had claimed, for the end of a process."""
    transaction.execute(
        update(t.enrichments)
        .where(t.enrichments.c.owner == owner)
        .values(owner=None, lease_until=None)
    )


def forget(transaction: Transaction, event_id: str) -> None:
    """For an event that ended otherwise."""
    row = transaction.execute(
        t.enrichments.delete()
        .where(t.enrichments.c.event_id == event_id)
        .returning(t.enrichments.c.organization, t.enrichments.c.worker_id)
    ).one_or_none()
    if row is not None:
        _attribute(transaction, event_id, row.organization, row.worker_id)


def _attribute(transaction: Transaction, event_id: str, organization: str, worker_id: str) -> None:
    """Notes whom an event was about, however it ends: HR has spoken of them, which counts where a full
    export does not name them.
    """
    known = select(t.users.c.id).where(
        t.users.c.organization == organization, t.users.c.worker_id == worker_id
    )
    transaction.execute(
        update(t.events)
        .where(t.events.c.id == event_id, t.events.c.user_id.is_(None))
        .values(user_id=known.limit(1).scalar_subquery())
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How much of a source waits, since when, and the newest failure (``code``, ``message``)."""

    waiting: int
    since: datetime
    error: Mapping[str, Any] | None


def backlogs(transaction: Transaction) -> dict[str, Backlog]:
    """What waits, by source."""
    rows = transaction.execute(
        select(
            t.enrichments.c.source,
            func.count().label("waiting"),
            func.min(t.enrichments.c.since).label("since"),
        ).group_by(t.enrichments.c.source)
    ).all()
    return {
        row.source: Backlog(
            waiting=row.waiting, since=row.since, error=_newest_error(transaction, row.source)
        )
        for row in rows
    }


def of_event(transaction: Transaction, event_id: str) -> Mapping[str, Any] | None:
    """Why an event still waits: ``attempts``, ``due_at``, ``error``; None where it does not."""
    row = transaction.execute(
        select(t.enrichments.c.attempts, t.enrichments.c.due_at, t.enrichments.c.error).where(
            t.enrichments.c.event_id == event_id
        )
    ).one_or_none()
    return dict(zip(("attempts", "due_at", "error"), row, strict=True)) if row is not None else None


def sources_waiting(transaction: Transaction, now: datetime) -> Sequence[str]:
    """Sources that have something due."""
    query = select(t.enrichments.c.source).where(t.enrichments.c.due_at <= now).distinct()
    return transaction.execute(query).scalars().all()


def _newest_error(transaction: Transaction, source: str) -> Mapping[str, Any] | None:
    return transaction.execute(
        select(t.enrichments.c.error)
        .where(t.enrichments.c.source == source, t.enrichments.c.attempts > 0)
        .order_by(t.enrichments.c.due_at.desc())
        .limit(1)
    ).scalar_one_or_none()


def _leased(wanted: Wanted, owner: str) -> Any:
    return and_(t.enrichments.c.event_id == wanted.event_id, t.enrichments.c.owner == owner)
