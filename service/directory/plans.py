"""What HR has planned for later: put on the calendar, moved, taken back. Says nothing of today.

Whoever changes a worker's calendar holds the worker's key (people.hold_key).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select

from service.directory import ending, inbox, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among
from service.directory.many import LookUp
from service.people import User
from service.workers import (
    RESCINDS,
    Order,
    WorkerEvent,
    displaces,
    follows,
    is_newer,
    lets_in,
    rescinds,
)


def plan(
    transaction: Transaction,
    organization: str,
    user: User | None,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    """Plans an event, in the place of what it displaces; or ends it where a newer one counts."""
    assert event.effective_at is not None
    if user is not None:
        inbox.attribute(transaction, event_id, user.id)
    planned = _scheduled(transaction, organization, event)
    newer = [
        row
        for row in planned
        if not is_newer(order, row.worker_event["order"])
        and displaces(event_of(row), event, row.due_at)
    ]
    heard = people.employment_of(user).after(event, order) if user is not None else None
    if newer or (user is not None and event.kind != "attributes" and heard is None):
        by = newer[0].event_id if newer else None
        ending.finish(transaction, event_id, "superseded", now=now, by=by)
        return
    for row in planned:
        if is_newer(order, row.worker_event["order"]) and displaces(
            event, event_of(row), event.effective_at
        ):
            _displace(transaction, row, event, event_id, now)
    transaction.execute(
        t.schedule.insert().values(
            organization=organization,
            worker_id=event.worker_id,
            kind=event.kind,
            event_id=event_id,
            type=event.type,
            due_at=event.effective_at,
            number=order[1],
            worker_event={"event": _to_document(event), "order": order},
        )
    )
    ending.pass_through(transaction, event_id, "scheduled", now=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Displaced:
    """What an event found on the calendar. ``planned``: just what it rescinds; ``begins``: a hire that
    is still to come, before that.
    """

    planned: bool = False
    begins: bool = False


def displace_planned(
    transaction: Transaction,
    organization: str,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> Displaced:
    """Takes what an event displaces off the calendar."""
    older = _older(transaction, organization, event, order)
    rescinded = [row for row in older if rescinds(event, event_of(row))]
    if rescinded:
        first = rescinded[0].due_at
        gone = [row for row in older if row in rescinded or follows(event, event_of(row), first)]
    else:
        gone = [row for row in older if displaces(event, event_of(row), now)]
    for row in gone:
        _displace(transaction, row, event, event_id, now)
    until = rescinded[-1].due_at if rescinded else None
    begins = any(
        row not in gone and lets_in(event, event_of(row)) and (until is None or row.due_at <= until)
        for row in older
    )
    return Displaced(planned=bool(rescinded), begins=begins)


def takes_back(
    transaction: Transaction, organization: str, event: WorkerEvent, order: Order
) -> bool:
    """Whether an event rescinds what is planned: that it does at once, whatever day it names."""
    return event.type in RESCINDS and any(
        rescinds(event, event_of(row)) for row in _older(transaction, organization, event, order)
    )


def _older(
    transaction: Transaction, organization: str, event: WorkerEvent, order: Order
) -> list[Row[Any]]:
    return [
        row
        for row in _scheduled(transaction, organization, event)
        if is_newer(order, row.worker_event["order"])
    ]


def _displace(
    transaction: Transaction, row: Row[Any], event: WorkerEvent, event_id: str, now: datetime
) -> None:
    remove(transaction, row.event_id)
    ended = "cancelled" if rescinds(event, event_of(row)) else "superseded"
    ending.finish(transaction, row.event_id, ended, now=now, by=event_id)


def _scheduled(
    transaction: Transaction, organization: str, event: WorkerEvent
) -> Sequence[Row[Any]]:
    """What is planned of this kind for this worker."""
    return transaction.execute(
        select(t.schedule)
        .where(
            t.schedule.c.organization == organization,
            t.schedule.c.worker_id == event.worker_id,
            t.schedule.c.kind == event.kind,
        )
        .order_by(t.schedule.c.due_at, t.schedule.c.event_id)
    ).all()


def planned(
    transaction: Transaction, workers: Sequence[tuple[str, str]], *, but: Collection[str] = ()
) -> set[tuple[str, str, str]]:
    """Of which kinds something is planned ``but`` these events: organization, worker id and kind."""
    return {
        (*workers[at], found["kind"])
        for at, found in _PLANNED.all(transaction, workers)
        if found["event_id"] not in but
    }


_PLANNED: Final = LookUp(t.schedule, ("organization", "worker_id"), ("kind", "event_id"))


def remove(transaction: Transaction, event_id: str) -> bool:
    """Takes an event off the calendar; False where it was no longer there."""
    done = transaction.execute(t.schedule.delete().where(t.schedule.c.event_id == event_id))
    return done.rowcount == 1


def hold_those_free(transaction: Transaction, event_ids: Collection[str]) -> set[str]:
    """Those of these events that are on the calendar, held; without those that another transaction
    is about to take off it.
    """
    found = transaction.execute(
        select(t.schedule.c.event_id)
        .where(among(transaction, t.schedule.c.event_id, sorted(event_ids)))
        .with_for_update(skip_locked=True)
    )
    return set(found.scalars())


def _to_document(event: WorkerEvent) -> dict[str, Any]:
    return {
        "type": event.type,
        "worker_id": event.worker_id,
        "sequence": event.sequence,
        "attributes": dict(event.attributes),
        "groups": list(event.groups) if event.groups is not None else None,
        "immediate": event.immediate,
        "employment_id": event.employment_id,
    }


def remove_many(transaction: Transaction, event_ids: Collection[str]) -> set[str]:
    """As ``remove``; returns those that were still there."""
    gone = transaction.execute(
        t.schedule.delete()
        .where(among(transaction, t.schedule.c.event_id, sorted(event_ids)))
        .returning(t.schedule.c.event_id)
    )
    return set(gone.scalars())


def event_of(row: Row[Any]) -> WorkerEvent:
    document = row.worker_event["event"]
    groups = document["groups"]
    return WorkerEvent(
        type=document["type"],
        worker_id=document["worker_id"],
        effective_at=row.due_at,
        sequence=document["sequence"],
        attributes=document["attributes"],
        groups=tuple(groups) if groups is not None else None,
        immediate=document["immediate"],
        employment_id=document.get("employment_id"),  # planned before 0005: of all of them
    )
