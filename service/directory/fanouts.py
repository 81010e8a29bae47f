"""Changes of many accounts: who is still to be touched, and the portions in which that is done.

A few are touched at once. Knows nothing of why accounts change; lanes compute what is wanted.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import CompoundSelect, Select, delete, func, literal, select

from service.directory import accounts, ending, events, waits
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among

AT_ONCE: Final = 200
"""So many users are touched by the change itself: some 10 ms."""
PORTION: Final = 500
"""So many users a transaction: 15 ms on SQLite, whose other writers wait, 60 ms on Postgres."""

BACKGROUND: Final = frozenset({"operator.decommission", "operator.decommission.delete"})
"""Types of events that may take their time: their users are touched as their tenant has room."""
_IDLE: Final = 64
"""So many accounts of a tenant that are due keep its lanes at work."""

Users = Select[tuple[str]] | CompoundSelect[tuple[str]]
"""Ids of users, each once."""


def touch(transaction: Transaction, users: Users, *, event_id: str, now: datetime) -> int:
    """Lets an event wait for the accounts of these users, and returns for how many.

    Many are noted down here, as the work that is left; ``carry_on`` does it. The event ends at once
    where none of a few has an account.
    """
    few = transaction.execute(users.limit(AT_ONCE + 1)).scalars().all()
    if len(few) <= AT_ONCE:
        waiting = waits.touch_users(transaction, few, event_id=event_id, now=now)
        if waiting == 0:
            ending.finish(transaction, event_id, "succeeded", now=now, result="applied")
        return waiting
    listed = users.subquery()
    noted = t.fanouts.insert().from_select(
        ["event_id", "user_id"], select(literal(event_id), *listed.c)
    )
    return transaction.execute(noted).rowcount


def next_event(transaction: Transaction, after: str) -> str | None:
    """The event whose turn it is when ``after`` has had its own: they go round in order of their ids.

    None where nobody is left to be touched.
    """
    first = select(func.min(t.fanouts.c.event_id))
    following = transaction.execute(first.where(t.fanouts.c.event_id > after)).scalar_one()
    return following or transaction.execute(first).scalar_one()


def room(transaction: Transaction, event_id: str, now: datetime) -> int:
    """How many users of an event may be touched now. Of one in the background as many as keep its
    tenant's lanes at work, so that whoever else changes there waits for few.
    """
    event = transaction.execute(
        select(t.events.c.type, t.organizations.c.tenant)
        .outerjoin(t.organizations, t.organizations.c.name == t.events.c.organization)
        .where(t.events.c.id == event_id)
    ).one_or_none()
    if event is None or event.type not in BACKGROUND or event.tenant is None:
        return PORTION
    return _IDLE - len(accounts.due(transaction, event.tenant, now=now, limit=_IDLE))


def carry_on(
    transaction: Transaction, event_id: str, now: datetime, *, portion: int = PORTION
) -> int:
    """Touches the next users of an event, and ends it with the last of them; returns how many.

    0 where other transactions are at all that is left. Of an event that an operator discarded, what
    it wrote to desired state stands: the accounts are still touched, and nothing waits for them.
    """
    ids = (
        transaction.execute(
            select(t.fanouts.c.user_id)
            .where(t.fanouts.c.event_id == event_id)
            .order_by(t.fanouts.c.user_id)
            .limit(portion)
            .with_for_update(skip_locked=True)
        )
        .scalars()
        .all()
    )
    if not ids:
        return 0
    waits.touch_users(transaction, ids, event_id=event_id, now=now)
    transaction.execute(
        delete(t.fanouts).where(
            t.fanouts.c.event_id == event_id,
            t.fanouts.c.user_id.between(ids[0], ids[-1]),  # else all of the event's may be read
            among(transaction, t.fanouts.c.user_id, ids),
        )
    )
    # Held after the accounts, as a lane does that ends an event's last wait.
    state = transaction.execute(
        select(t.events.c.state).where(t.events.c.id == event_id).with_for_update()
    ).scalar_one_or_none()
    if state not in events.OPEN:
        transaction.execute(t.waits.delete().where(t.waits.c.event_id == event_id))
    elif accounts.waiting_for_nothing(transaction, [event_id]):
        ending.conclude(transaction, event_id, now=now, result="applied")
    return len(ids)


def left(transaction: Transaction, event_id: str) -> int:
    """How many users an event has still to touch."""
    return transaction.execute(
        select(func.count()).where(t.fanouts.c.event_id == event_id)
    ).scalar_one()
