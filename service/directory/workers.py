"""What HR says, accepted: ordered per worker, joined to SCIM's view, scheduled where it is future.

Status and each attribute are ordered separately, so an older event never undoes a newer one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from service.directory import inbox, intent, organizations, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Admission, Received
from service.directory.organizations import Registered
from service.ids import new_id
from service.people import User, is_wanted
from service.workers import RESCINDS, WorkerEvent

Order = list[int | None]
"""``[sequence or None, number of acceptance]``: see ``is_newer``."""


def accept(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    received: Received,
    *,
    number: int | None = None,
) -> Admission:
    """Takes a worker event in: applied now, or scheduled where ``effective_at`` lies ahead.

    ``number``: the order of acceptance of the event that this one replays.
    """
    admission = inbox.admit(transaction, received, registered.organization.name)
    if admission.verdict == "new":
        user = _find(transaction, registered.organization.name, event.worker_id)
        if user is not None:
            inbox.attribute(transaction, admission.event_id, user.id)
        order: Order = [event.sequence, admission.number if number is None else number]
        if event.effective_at is not None and event.effective_at > received.at:
            _schedule(transaction, registered, event, admission.event_id, order, received.at)
        else:
            _apply(transaction, registered, event, admission.event_id, order, received.at)
    return admission


def run_due(transaction: Transaction, now: datetime, limit: int = 100) -> int:
    """Applies scheduled events whose time has come; returns how many."""
    rows = transaction.execute(
        select(t.schedule)
        .where(t.schedule.c.due_at <= now)
        .order_by(t.schedule.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        registered = organizations.find(transaction, row.organization)
        _unschedule(transaction, row)
        if registered is None:
            inbox.finish(transaction, row.event_id, "cancelled", now=now)
            continue
        stored = row.worker_event
        event = _from_document(stored["event"])
        _apply(transaction, registered, event, row.event_id, stored["order"], now)
    return len(rows)


def is_newer(order: Order, than: Order | None) -> bool:
    """By ``sequence`` where both have one, else by order of acceptance."""
    if than is None:
        return True
    if order[0] is not None and than[0] is not None and order[0] != than[0]:
        return order[0] > than[0]
    return (order[1] or 0) > (than[1] or 0)


def _find(transaction: Transaction, organization: str, worker_id: str) -> User | None:
    """The worker's user; else the SCIM user with this ``externalId``, live before deleted."""
    rows = transaction.execute(
        select(t.users)
        .where(
            t.users.c.organization == organization,
            (t.users.c.worker_id == worker_id)
            | (t.users.c.external_id == worker_id) & t.users.c.worker_id.is_(None),
        )
        .order_by(
            t.users.c.worker_id.is_(None),
            t.users.c.deleted_at.is_not(None),
            t.users.c.account_id.is_(None),
            t.users.c.id.desc(),
        )
        .with_for_update()
    ).first()
    return people.as_user(rows) if rows is not None else None


def _apply(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    organization = registered.organization.name
    user = _find(transaction, organization, event.worker_id)
    if user is None:
        user = _create(transaction, organization, event.worker_id, now)
    inbox.attribute(transaction, event_id, user.id)
    transaction.execute(t.events.update().where(t.events.c.id == event_id).values(state="accepted"))
    was_wanted = is_wanted(user, registered.organization, decommissioned=registered.decommissioned)
    changes: dict[str, Any] = {
        "worker_id": event.worker_id,
        "worker": _merged(user.worker or {}, event, order),
    }
    stale = event.status is not None and not is_newer(order, user.employment_order)
    if event.status is not None and not stale:
        rescinded = _replace_schedule(transaction, organization, event, order, now)
        never_came = event.type == "worker.hire_rescinded" and user.employment is None
        if not rescinded and not never_came:
            changes["employment"] = event.status
        changes["employment_order"] = order
    people.store(transaction, user.id, modified_at=now, **changes)
    if stale:
        inbox.finish(transaction, event_id, "superseded", now=now)
        return
    intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=now,
    )


def _merged(worker: Mapping[str, Any], event: WorkerEvent, order: Order) -> dict[str, Any]:
    """Attributes with the order of who wrote each; a snapshot also clears what it does not name."""
    merged = dict(worker)
    said = dict(event.attributes)
    if event.groups is not None:
        said["groups"] = list(event.groups)
    for name, value in said.items():
        if is_newer(order, merged[name][1] if name in merged else None):
            merged[name] = [value, order]
    if event.type == "worker.snapshot":
        for name in set(merged) - set(said):
            if is_newer(order, merged[name][1]):
                del merged[name]
    return merged


def _create(transaction: Transaction, organization: str, worker_id: str, now: datetime) -> User:
    user_id = new_id(now)
    transaction.execute(
        t.users.insert().values(
            id=user_id,
            organization=organization,
            worker_id=worker_id,
            state="pending",
            version=1,
            created_at=now,
            modified_at=now,
        )
    )
    user = people.get(transaction, user_id)
    assert user is not None
    return user


def _schedule(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    """Puts an event on the worker's one live schedule of its kind; the newer one stays."""
    organization = registered.organization.name
    row = _scheduled(transaction, organization, event)
    if row is not None:
        if not is_newer(order, row.worker_event["order"]):
            inbox.finish(transaction, event_id, "superseded", now=now)
            return
        _unschedule(transaction, row)
        inbox.finish(
            transaction, row.event_id, "superseded", now=now, data={"supersededBy": event_id}
        )
    assert event.effective_at is not None
    transaction.execute(
        t.schedule.insert().values(
            organization=organization,
            worker_id=event.worker_id,
            kind=event.kind,
            event_id=event_id,
            type=event.type,
            due_at=event.effective_at,
            worker_event={"event": _to_document(event), "order": order},
        )
    )
    data = {"effectiveAt": event.effective_at.isoformat()}
    inbox.pass_through(transaction, event_id, "scheduled", now=now, data=data)


def _replace_schedule(
    transaction: Transaction, organization: str, event: WorkerEvent, order: Order, now: datetime
) -> bool:
    """Takes a scheduled status change off the calendar where this newer one says otherwise.

    True where this event was the rescission of just that change: then the status stays as it is.
    """
    row = _scheduled(transaction, organization, event)
    if row is None or not is_newer(order, row.worker_event["order"]):
        return False
    _unschedule(transaction, row)
    rescinded = row.type in RESCINDS.get(event.type, frozenset())
    ended = "cancelled" if rescinded else "superseded"
    inbox.finish(transaction, row.event_id, ended, now=now)
    return rescinded


def _scheduled(transaction: Transaction, organization: str, event: WorkerEvent) -> Row[Any] | None:
    return transaction.execute(
        select(t.schedule)
        .where(
            t.schedule.c.organization == organization,
            t.schedule.c.worker_id == event.worker_id,
            t.schedule.c.kind == event.kind,
        )
        .with_for_update()
    ).one_or_none()


def _unschedule(transaction: Transaction, row: Row[Any]) -> None:
    transaction.execute(t.schedule.delete().where(t.schedule.c.event_id == row.event_id))


def _to_document(event: WorkerEvent) -> dict[str, Any]:
    return {
        "type": event.type,
        "worker_id": event.worker_id,
        "sequence": event.sequence,
        "attributes": dict(event.attributes),
        "groups": list(event.groups) if event.groups is not None else None,
        "immediate": event.immediate,
    }


def _from_document(document: Mapping[str, Any]) -> WorkerEvent:
    groups = document["groups"]
    return WorkerEvent(
        type=document["type"],
        worker_id=document["worker_id"],
        sequence=document["sequence"],
        attributes=document["attributes"],
        groups=tuple(groups) if groups is not None else None,
        immediate=document["immediate"],
    )
