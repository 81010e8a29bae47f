"""What HR says, accepted: ordered per worker, joined to SCIM's view, scheduled where it is future.

Status and each attribute are ordered separately, so an older event never undoes a newer one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, bindparam, select

from service.directory import accounts, inbox, intent, organizations, people, plans
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Admission, Received
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.errors import ProvisionerError
from service.ids import new_id
from service.organizations import JoinKey, Organization
from service.people import User, is_wanted, worker_key
from service.workers import Order, WorkerEvent, attributes_after


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
        user = _find(transaction, registered.organization, event.worker_id)
        if event.effective_at is not None and event.effective_at > received.at:
            plans.plan(
                transaction, organization, user, event, admission.event_id, order, received.at
            )
        else:
            _apply(transaction, registered, user, event, admission.event_id, order, received.at)
    return admission


def run_due(transaction: Transaction, now: datetime, limit: int = 100) -> int:
    """Applies scheduled events whose time has come; returns how many. Several may do so at once: a
    worker whom another transaction is about is left for the next time.

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
    known: dict[str, Registered | None] = {}
    for row in rows:
        if not people.hold_key_if_free(transaction, row.organization, row.worker_id):
            continue
        try:
            if row.organization not in known:
                known[row.organization] = organizations.find(transaction, row.organization)
            with transaction.begin_nested():
                applied += _run(transaction, row, known[row.organization], now)
        except (ProvisionerError, ValueError) as error:
            failure = error
    if failure is not None and applied == 0:
        raise failure
    return applied


def _run(
    transaction: Transaction, row: Row[Any], registered: Registered | None, now: datetime
) -> bool:
    """One scheduled event; False where another process was quicker, or the event has ended."""
    if not plans.remove(transaction, row.event_id):
        return False
    if registered is None:
        inbox.finish(transaction, row.event_id, "cancelled", now=now)
    elif inbox.resume(transaction, row.event_id):
        user = _find(transaction, registered.organization, row.worker_id)
        order = row.worker_event["order"]
        _apply(transaction, registered, user, plans.event_of(row), row.event_id, order, now)
    return True


def _find(transaction: Transaction, organization: Organization, worker_id: str) -> User | None:
    """The worker's user; else the SCIM user whom the join key names, live before deleted."""
    named = {"worker": worker_id, "key": worker_key(worker_id, organization.join)}
    find = _WORKER if organization.join == "externalId" else _WORKER_BY_KEY
    row = find.first(transaction, {"organization": organization.name, **named})
    return people.user_of(row) if row is not None else None


def _finding(join: JoinKey) -> Prepared:
    return Prepared(
        select(t.users)
        .where(
            people.found_by(
                t.users.c.worker_id == bindparam("worker"),
                (people.joined_by(join) == bindparam("key")) & t.users.c.worker_id.is_(None),
            )
        )
        .order_by(
            t.users.c.worker_id.is_(None),
            t.users.c.deleted_at.is_not(None),
            t.users.c.account_id.is_(None),
            t.users.c.id.desc(),
        )
        .with_for_update()
    )


_WORKER: Final = _finding("externalId")
_WORKER_BY_KEY: Final = _finding("employeeNumber")


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
    user = user or _create(transaction, registered.organization, event.worker_id, now)
    inbox.attribute(transaction, event_id, user.id)
    was_wanted = is_wanted(user, registered.organization, decommissioned=registered.decommissioned)
    changes: dict[str, Any] = {"worker_id": event.worker_id}
    attributes = attributes_after(user.worker or {}, event, order)
    if attributes is not None:
        changes["worker"] = attributes
    stale = attributes is None
    if event.kind != "attributes":
        employment = people.employment_of(user).after(event, order)
        stale = employment is None
        if employment is not None:
            if plans.displace_planned(transaction, organization, event, event_id, order, now):
                employment = people.employment_of(user).unchanged_after(event, order)
            changes |= people.columns_of(employment)
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


def _refresh(
    transaction: Transaction, registered: Registered, user: User, event_id: str, now: datetime
) -> None:
    """Ends an event that came too late. An attribute that it was first to name is applied still."""
    inbox.finish(transaction, event_id, "superseded", now=now)
    if user.account_id is not None:
        wanted = is_wanted(user, registered.organization, decommissioned=registered.decommissioned)
        accounts.touch(transaction, user.account_id, leaver=not wanted, now=now)


def _create(
    transaction: Transaction, organization: Organization, worker_id: str, now: datetime
) -> User:
    by_key = organization.join != "externalId"
    return people.as_user(
        transaction.execute(
            t.users.insert()
            .values(
                id=new_id(now),
                organization=organization.name,
                worker_id=worker_id,
                join_key=worker_key(worker_id, organization.join) if by_key else None,
                state="pending",
                version=1,
                created_at=now,
                modified_at=now,
            )
            .returning(t.users)
        ).one()
    )
