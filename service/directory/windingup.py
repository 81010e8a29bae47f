"""What an organization leaves open when it ends: all that waits for a day, an answer or an operator.

What waits for accounts ends with them: they are blocked. Who ends organizations: service.directory.locks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import select, update

from service.directory import ending, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among
from service.directory.ending import Ending
from service.directory.events import Problem

ENDED: Final = Problem(
    kind="operator",
    code="organization_decommissioned",
    message="The organization was decommissioned: nothing of it is carried out any more.",
)


def wind_up(transaction: Transaction, name: str, now: datetime) -> int:
    """Ends as ``discarded`` what an organization that has ended left open; returns how many events."""
    ids = [
        *_staged(transaction, name),
        *_planned(transaction, name),
        *_unanswered(transaction, name),
        *_exports(transaction, name),
    ]
    ending.finish_many(transaction, [ended_with_it(each, now) for each in ids])
    return len(ids)


def ended_with_it(event_id: str, now: datetime) -> Ending:
    """How an event of an organization ends that has ended itself."""
    return Ending(event_id=event_id, ended="discarded", now=now, problem=ENDED)


def _staged(transaction: Transaction, name: str) -> list[str]:
    """Users first and in order, as everyone holds them who ends staged events."""
    withheld = select(t.users.c.id).where(
        t.users.c.organization == name, t.users.c.withheld.is_not(None)
    )
    held = people.lock_many(transaction, transaction.execute(withheld).scalars().all())
    if held:
        transaction.execute(
            update(t.users)
            .where(among(transaction, t.users.c.id, [user.id for user in held]))
            .values(withheld=None)
        )
    staged = select(t.events.c.id).where(
        t.events.c.organization == name, t.events.c.state == "staged"
    )
    return list(transaction.execute(staged.order_by(t.events.c.number)).scalars())


def _planned(transaction: Transaction, name: str) -> list[str]:
    """Whatever is due at this very moment is left to who is about it."""
    free = (
        select(t.schedule.c.event_id)
        .where(t.schedule.c.organization == name)
        .with_for_update(skip_locked=True)
    )
    found = t.schedule.delete().where(t.schedule.c.event_id.in_(free))
    return sorted(transaction.execute(found.returning(t.schedule.c.event_id)).scalars())


def _unanswered(transaction: Transaction, name: str) -> list[str]:
    found = t.enrichments.delete().where(t.enrichments.c.organization == name)
    return sorted(transaction.execute(found.returning(t.enrichments.c.event_id)).scalars())


def _exports(transaction: Transaction, name: str) -> list[str]:
    waiting = select(t.snapshots.c.event_id).where(
        t.snapshots.c.organization == name,
        t.snapshots.c.ended_at.is_(None),
        t.snapshots.c.event_id.is_not(None),
    )
    return sorted(transaction.execute(waiting).scalars())
