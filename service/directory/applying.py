"""One worker event by itself, applied to its user after all that went before it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from service.directory import batches, ending, inbox, intent, many, people, plans, worker_users
from service.directory import tables as t
from service.directory.batches import Heard
from service.directory.database import Transaction
from service.directory.organizations import Registered
from service.ids import new_id
from service.people import User, identifier_of
from service.workers import RESCINDS, Order, WorkerEvent


def settle(transaction: Transaction, heard: Heard) -> None:
    """One event by itself, after all that went before it."""
    user = worker_users.find(transaction, heard.registered.organization, heard.event.worker_id)
    organization, event, order = heard.person[0], heard.event, heard.order
    if heard.is_ahead and not plans.takes_back(transaction, organization, event, order):
        plans.plan(
            transaction,
            organization,
            user,
            event,
            heard.event_id,
            order,
            heard.now,
        )
    else:
        apply(transaction, heard, user)


def carry_on(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    """Goes on with an accepted event, for one who holds its worker's key."""
    settle(transaction, resumed(registered, event, event_id, order, now))


def resumed(
    registered: Registered, event: WorkerEvent, event_id: str, order: Order, now: datetime
) -> Heard:
    """An event that was accepted earlier, to be taken up again."""
    return Heard(
        registered=registered,
        event=event,
        event_id=event_id,
        order=order,
        now=now,
        user=None,
        user_id=new_id(now),
        is_attributed=False,
    )


def apply(transaction: Transaction, heard: Heard, user: User | None) -> None:
    registered, event, event_id = heard.registered, heard.event, heard.event_id
    order, now = heard.order, heard.now
    user = user or _create(transaction, heard)
    if user.id != heard.user_id or not heard.is_attributed:
        inbox.attribute(transaction, event_id, user.id)
    was_wanted = registered.wants(user)
    changes, late = people.changes_by(user, event, order, now)
    if event.kind != "attributes" and not late:
        changes |= _displacing(transaction, heard, user)
    user = people.change(transaction, user.id, last_event_id=event_id, **changes)
    if late and not _is_first_address(user, registered):
        # It has ended, but what it was first to name counts: an address is followed, as ever.
        ending.finish(transaction, event_id, "superseded", now=now)
        if "worker" not in changes:
            return
    intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=now,
        user=user,
        # What it was first to name counts still, its word on employment does not.
        spoke="hr" if event.kind != "attributes" and not late else None,
        immediate=event.immediate,
    )


def _displacing(transaction: Transaction, heard: Heard, user: User) -> dict[str, Any]:
    """Takes what an event displaces off the calendar. What that makes of its word on employment."""
    event, order = heard.event, heard.order
    found = plans.displace_planned(
        transaction, heard.person[0], event, heard.event_id, order, heard.now
    )
    if event.type not in RESCINDS:
        return {}
    employment = people.employment_of(user).rescinded_after(
        event, order, planned=found.planned, begins=found.begins
    )
    return people.columns_of(employment) if employment is not None else {}


def _is_first_address(user: User, registered: Registered) -> bool:
    """Whether somebody who is in has no account yet but for want of an address, and now has one: the
    hire that names it may come after what happened since.
    """
    return (
        user.account_id is None
        and registered.wants(user)
        and identifier_of(user, registered.organization) is not None
    )


def _create(transaction: Transaction, heard: Heard) -> User:
    user = batches.new_user(heard)
    row = {name: getattr(user, name) for name in _CREATED}
    many.insert(transaction, t.users, [row])
    return user


_CREATED: Final = (
    *("id", "organization", "worker_id", "join_key", "state", "version"),
    *("created_at", "modified_at"),
)
