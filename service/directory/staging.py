"""An operator's answer to a staged leaver: let go, or not. Each is one transaction with its audit entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select

from service.directory import accounts, audit, ending, events, intent, organizations, people, waits
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import Event, Problem
from service.directory.organizations import Registered
from service.directory.results import Result
from service.people import Cause, User, Withheld, withheld_of

_REFUSED: Final = Problem(
    kind="operator", code="refused", message="An operator refused to let this person go."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A staged event, with its user held."""

    event: Event
    user: User
    registered: Registered
    withheld: Withheld


def approve(transaction: Transaction, event_id: str, *, actor: str, now: datetime) -> Result:
    """Lets a staged leaver go: first in line, by whichever of the staged events of that person.

    Raises NotFound.
    """
    held = _hold(transaction, event_id)
    if isinstance(held, Result):
        return held
    was_wanted = held.registered.wants(held.user)
    staged = sorted(set(held.withheld.staged.values()))
    left = replace(held.withheld, staged={}).as_document()
    user = people.change(transaction, held.user.id, withheld=left)
    for each in staged:
        ending.resume(transaction, each, "staged")
    user = intent.settle(
        transaction,
        user.id,
        registered=held.registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=now,
        user=user,
        immediate=True,
    )
    for each in staged:
        if each == event_id:
            continue
        if user.account_id is None:
            ending.finish(transaction, each, "succeeded", now=now, result="applied")
        else:
            waits.await_account(transaction, user.account_id, user.id, each, leaver=True, now=now)
    _record(transaction, "event.approve", held, actor, now, {"events": staged})
    return Result(event_id=event_id, verdict="approved", reason=f"user {user.id} is let go")


def refuse(
    transaction: Transaction, event_id: str, *, actor: str, now: datetime, reason: str = ""
) -> Result:
    """Keeps a staged leaver in until the source of the event speaks of their status again.

    Raises NotFound.
    """
    held = _hold(transaction, event_id)
    if isinstance(held, Result):
        return held
    user, staged = held.user, held.withheld.staged
    refused = {cause: each for cause, each in staged.items() if each == event_id}
    after = replace(
        held.withheld,
        staged={cause: each for cause, each in staged.items() if cause not in refused},
        refused={**held.withheld.refused, **refused},
    )
    if user.account_id is not None:
        accounts.touch(transaction, user.account_id, leaver=False, now=now)
    people.store(transaction, user.id, withheld=after.as_document(), state="pending", detail=None)
    ending.finish(transaction, event_id, "discarded", now=now, problem=_REFUSED)
    _record(transaction, "event.refuse", held, actor, now, {"reason": reason})
    return Result(event_id=event_id, verdict="refused", reason=f"user {user.id} stays in")


def examine(transaction: Transaction, event_id: str, *, approving: bool) -> Result:
    """What ``approve`` or ``refuse`` would answer, with nothing done. Raises NotFound."""
    event = events.require(transaction, event_id)
    if event.state != "staged":
        return _not_staged(event)
    if approving:
        return Result(
            event_id=event_id, verdict="approved", reason=f"user {event.user_id} is let go"
        )
    return Result(event_id=event_id, verdict="refused", reason=f"user {event.user_id} stays in")


def waiting(transaction: Transaction) -> dict[str, int]:
    """Organization to number of its staged events, where there are some."""
    rows = transaction.execute(
        select(t.events.c.organization, func.count())
        .where(t.events.c.state == "staged")
        .group_by(t.events.c.organization)
        .order_by(t.events.c.organization)
    )
    return dict(rows.tuples().all())


def newest(transaction: Transaction, organization: str) -> int:
    """The number of the newest staged event of an organization; 0 where there is none."""
    query = select(func.max(t.events.c.number)).where(*_of(organization))
    return transaction.execute(query).scalar_one() or 0


def listing(
    transaction: Transaction, organization: str, *, limit: int
) -> list[tuple[Event, list[Cause]]]:
    """The oldest staged events of an organization, each with the causes that it said."""
    rows = transaction.execute(
        select(t.events).where(*_of(organization)).order_by(t.events.c.number).limit(limit)
    )
    staged = [events.as_event(row) for row in rows]
    ids = [event.user_id for event in staged if event.user_id is not None]
    query = select(t.users).where(t.users.c.id.in_(ids))
    users = {row.id: withheld_of(people.as_user(row)) for row in transaction.execute(query)}
    return [
        (event, _said_by(users.get(event.user_id or "", Withheld()), event)) for event in staged
    ]


def _of(organization: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return t.events.c.state == "staged", t.events.c.organization == organization


def _said_by(withheld: Withheld, event: Event) -> list[Cause]:
    return sorted(cause for cause, event_id in withheld.staged.items() if event_id == event.id)


def _hold(transaction: Transaction, event_id: str) -> _Held | Result:
    """The user first, as everyone does who ends a staged event."""
    event = events.require(transaction, event_id)
    user = people.lock(transaction, event.user_id) if event.user_id is not None else None
    event = events.get(transaction, event_id) or event
    if user is None or event.state != "staged":
        return _not_staged(event)
    withheld = withheld_of(user)
    registered = organizations.find(transaction, user.organization)
    if registered is None or event_id not in withheld.staged.values():
        return _not_staged(event)
    return _Held(event=event, user=user, registered=registered, withheld=withheld)


def _not_staged(event: Event) -> Result:
    reason = f"It waits for no operator: it is {event.state}."
    return Result(event_id=event.id, verdict="skipped", reason=reason)


def _record(
    transaction: Transaction,
    action: str,
    held: _Held,
    actor: str,
    now: datetime,
    detail: dict[str, Any],
) -> None:
    audit.record(
        transaction,
        actor=actor,
        action=action,
        now=now,
        organization=held.event.organization,
        subject=held.event.id,
        detail={"user": held.user.id, **detail},
    )
