"""What HR says, accepted: ordered per worker, joined to SCIM's view, scheduled where it is future.

Status and each attribute are ordered separately, so an older event never undoes a newer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Row, select

from service.directory import accounts, inbox, intent, organizations, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Admission, Received
from service.directory.organizations import Registered
from service.errors import ProvisionerError
from service.ids import new_id
from service.people import User, is_wanted
from service.workers import (
    Employment,
    Order,
    Status,
    WorkerEvent,
    attributes_after,
    displaces,
    is_newer,
    rescinds,
)


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
    organization = registered.organization.name
    # First, so that the order of acceptance is the order in which a worker's events take effect.
    people.hold_key(transaction, organization, event.worker_id)
    admission = inbox.admit(transaction, received, organization)
    if admission.verdict == "new":
        order: Order = [event.sequence, admission.number if number is None else number]
        user = _find(transaction, organization, event.worker_id)
        if event.effective_at is not None and event.effective_at > received.at:
            _schedule(transaction, registered, user, event, admission.event_id, order, received.at)
        else:
            _apply(transaction, registered, user, event, admission.event_id, order, received.at)
    return admission


def run_due(transaction: Transaction, now: datetime, limit: int = 100) -> int:
    """Applies scheduled events whose time has come; returns how many.

    One that fails stays for the next time and keeps no other from its turn; its error is raised
    where it was the only thing to do.
    """
    rows = transaction.execute(
        select(t.schedule)
        .where(t.schedule.c.due_at <= now)
        .order_by(t.schedule.c.due_at, t.schedule.c.event_id)
        .limit(limit)
    ).all()
    applied = 0
    failure: Exception | None = None
    for row in rows:
        try:
            with transaction.begin_nested():
                applied += _run(transaction, row, now)
        except (ProvisionerError, ValueError) as error:
            failure = error
    if failure is not None and applied == 0:
        raise failure
    return applied


def _run(transaction: Transaction, row: Row[Any], now: datetime) -> bool:
    """One scheduled event; False where another process was quicker, or the event has ended."""
    people.hold_key(transaction, row.organization, row.worker_id)
    if not _unschedule(transaction, row.event_id):
        return False
    registered = organizations.find(transaction, row.organization)
    if registered is None:
        inbox.finish(transaction, row.event_id, "cancelled", now=now)
    elif inbox.resume(transaction, row.event_id):
        user = _find(transaction, row.organization, row.worker_id)
        order = row.worker_event["order"]
        _apply(transaction, registered, user, _planned(row), row.event_id, order, now)
    return True


def _find(transaction: Transaction, organization: str, worker_id: str) -> User | None:
    """The worker's user; else the SCIM user with this ``externalId``, live before deleted."""
    row = transaction.execute(
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
    return people.as_user(row) if row is not None else None


def _apply(
    transaction: Transaction,
    registered: Registered,
    user: User | None,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    organization = registered.organization.name
    user = user or _create(transaction, organization, event.worker_id, now)
    inbox.attribute(transaction, event_id, user.id)
    was_wanted = is_wanted(user, registered.organization, decommissioned=registered.decommissioned)
    changes: dict[str, Any] = {"worker_id": event.worker_id}
    attributes = attributes_after(user.worker or {}, event, order)
    if attributes is not None:
        changes["worker"] = attributes
    stale = attributes is None
    if event.kind != "attributes":
        employment = employment_of(user).after(event, order)
        stale = employment is None
        if employment is not None:
            if _clear_schedule(transaction, organization, event, event_id, order, now):
                employment = employment_of(user).unchanged_after(order)
            changes |= {
                "employment": employment.status,
                "employment_order": employment.order,
                "leave": employment.leave,
            }
    if not user.in_scim:
        changes["modified_at"] = now
    user = people.change(transaction, user.id, **changes)
    if stale:
        _refresh(transaction, registered, user, event_id, now)
        return
    intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=now,
        user=user,
    )


def employment_of(user: User) -> Employment:
    """What HR has said so far of a user's employment."""
    return Employment(
        status=cast("Status | None", user.employment),
        order=user.employment_order,
        leave=user.leave,
    )


def _refresh(
    transaction: Transaction, registered: Registered, user: User, event_id: str, now: datetime
) -> None:
    """Ends an event that came too late. An attribute that it was first to name is applied still."""
    inbox.finish(transaction, event_id, "superseded", now=now)
    if user.account_id is not None:
        wanted = is_wanted(user, registered.organization, decommissioned=registered.decommissioned)
        accounts.touch(transaction, user.account_id, leaver=not wanted, now=now)


def _create(transaction: Transaction, organization: str, worker_id: str, now: datetime) -> User:
    return people.as_user(
        transaction.execute(
            t.users.insert()
            .values(
                id=new_id(now),
                organization=organization,
                worker_id=worker_id,
                state="pending",
                version=1,
                created_at=now,
                modified_at=now,
            )
            .returning(t.users)
        ).one()
    )


def _schedule(
    transaction: Transaction,
    registered: Registered,
    user: User | None,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    """Plans an event, in the place of what it displaces; or ends it where a newer one counts."""
    assert event.effective_at is not None
    organization = registered.organization.name
    if user is not None:
        inbox.attribute(transaction, event_id, user.id)
    planned = _scheduled(transaction, organization, event)
    newer = [
        row
        for row in planned
        if not is_newer(order, row.worker_event["order"])
        and displaces(_planned(row), event, row.due_at)
    ]
    heard = employment_of(user).after(event, order) if user is not None else None
    if newer or (user is not None and event.kind != "attributes" and heard is None):
        data = {"supersededBy": newer[0].event_id} if newer else None
        inbox.finish(transaction, event_id, "superseded", now=now, data=data)
        return
    for row in planned:
        if is_newer(order, row.worker_event["order"]) and displaces(
            event, _planned(row), event.effective_at
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
            worker_event={"event": _to_document(event), "order": order},
        )
    )
    data = {"effectiveAt": event.effective_at.isoformat()}
    inbox.pass_through(transaction, event_id, "scheduled", now=now, data=data)


def _clear_schedule(
    transaction: Transaction,
    organization: str,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> bool:
    """Takes what an event displaces off the calendar.

    True where the event was the rescission of just that: then the status stays as it is.
    """
    older = [
        row
        for row in _scheduled(transaction, organization, event)
        if is_newer(order, row.worker_event["order"])
    ]
    rescinded = [row for row in older if rescinds(event, _planned(row))]
    for row in rescinded or [row for row in older if displaces(event, _planned(row), now)]:
        _displace(transaction, row, event, event_id, now)
    return bool(rescinded)


def _displace(
    transaction: Transaction, row: Row[Any], event: WorkerEvent, event_id: str, now: datetime
) -> None:
    _unschedule(transaction, row.event_id)
    ended = "cancelled" if rescinds(event, _planned(row)) else "superseded"
    data = {"supersededBy": event_id}
    inbox.finish(transaction, row.event_id, ended, now=now, data=data)


def _scheduled(
    transaction: Transaction, organization: str, event: WorkerEvent
) -> Sequence[Row[Any]]:
    """What is planned of this kind for this worker. Whoever changes it holds the worker's key."""
    return transaction.execute(
        select(t.schedule)
        .where(
            t.schedule.c.organization == organization,
            t.schedule.c.worker_id == event.worker_id,
            t.schedule.c.kind == event.kind,
        )
        .order_by(t.schedule.c.due_at, t.schedule.c.event_id)
    ).all()


def _unschedule(transaction: Transaction, event_id: str) -> bool:
    """Takes an event off the calendar; False where it was no longer there."""
    done = transaction.execute(t.schedule.delete().where(t.schedule.c.event_id == event_id))
    return done.rowcount == 1


def _to_document(event: WorkerEvent) -> dict[str, Any]:
    return {
        "type": event.type,
        "worker_id": event.worker_id,
        "sequence": event.sequence,
        "attributes": dict(event.attributes),
        "groups": list(event.groups) if event.groups is not None else None,
        "immediate": event.immediate,
    }


def _planned(row: Row[Any]) -> WorkerEvent:
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
    )
