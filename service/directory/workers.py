"""What HR says, accepted: ordered per worker, joined to SCIM's view, scheduled where it is future.

Status and each attribute are ordered separately, so an older event never undoes a newer one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Row, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from service.directory import (
    batches,
    ending,
    enrichments,
    inbox,
    intent,
    leavers,
    many,
    organizations,
    people,
    plans,
    snapshots,
    windingup,
)
from service.directory import tables as t
from service.directory.admissions import Arrival, admit_many
from service.directory.batches import Heard, Person
from service.directory.database import Transaction, is_unavailable
from service.directory.dialect import favour_indexes
from service.directory.ending import Ending
from service.directory.events import Problem, Tries
from service.directory.inbox import Admission, Received
from service.directory.many import LookUp
from service.directory.organizations import Registered
from service.directory.people import joined_by
from service.directory.snapshots import Line
from service.ids import new_id
from service.organizations import JoinKey, Organization
from service.people import User, identifier_of, is_wanted, worker_key
from service.workers import LEAVERS, RESCINDS, SNAPSHOT_COMPLETED, Order, WorkerEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A worker event as it came. ``number``: the order of acceptance of the one that it replays.

    ``asks``: the source, where it says whom to ask about the worker before anything else is done.
    """

    registered: Registered
    event: WorkerEvent
    received: Received
    number: int | None = None
    asks: str | None = None

    @property
    def organization(self) -> str:
        return self.registered.organization.name

    @property
    def person(self) -> Person:
        return self.organization, self.event.worker_id

    @property
    def is_of_one(self) -> bool:
        """Whether it is about a worker, and not about a full export."""
        return self.event.type != SNAPSHOT_COMPLETED

    @property
    def is_ahead(self) -> bool:
        return self.event.effective_at is not None and self.event.effective_at > self.received.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An input that is no worker event: recorded, and ended at once."""

    organization: str | None
    ended: Literal["deadlettered", "rejected", "discarded"]
    problem: Problem
    received: Received
    attempts: int = 1


def accept(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    received: Received,
    *,
    number: int | None = None,
    asks: str | None = None,
) -> Admission:
    """Takes a worker event in: applied now, or scheduled where ``effective_at`` lies ahead.

    ``number``: the order of acceptance of the event that this one replays. ``asks``: as in Delivery.
    """
    delivery = Delivery(
        registered=registered, event=event, received=received, number=number, asks=asks
    )
    return accept_many(transaction, [delivery])[0]


def accept_many(transaction: Transaction, inputs: Sequence[Delivery | Refusal]) -> list[Admission]:
    """As ``accept``, of all of them in order: as many statements for a batch as for one event, save
    for what is out of the usual course (service.directory.batches).
    """
    deliveries = [each for each in inputs if isinstance(each, Delivery) and each.is_of_one]
    persons = {each.person: each.registered.organization for each in deliveries}
    if len(inputs) > 1:
        favour_indexes(transaction)
    # First, so that the order of acceptance is the order in which a worker's events take effect.
    people.hold_keys(transaction, persons)
    users = _find_many(transaction, persons)
    ids = {
        each.person: users[each.person].id if each.person in users else new_id(each.received.at)
        for each in deliveries
    }
    admitted = admit_many(transaction, [_arrival(each, users, ids) for each in inputs])
    heard: list[Heard] = []
    refused: list[Ending] = []
    completions: list[tuple[Delivery, Admission]] = []
    lines: list[Line] = []
    for each, admission in zip(inputs, admitted.admissions, strict=True):
        if admission.verdict != "new":
            continue
        if isinstance(each, Delivery) and each.is_of_one and each.event.snapshot is not None:
            # Also of one who has yet to be asked for: the export has named them.
            lines.append(_line(each, each.event.snapshot))
        if isinstance(each, Delivery) and not each.is_of_one:
            completions.append((each, admission))
        elif isinstance(each, Delivery) and each.asks is not None:
            enrichments.wait(
                transaction,
                admission.event_id,
                organization=each.organization,
                worker_id=each.event.worker_id,
                source=each.asks,
                order=_order(each, admission),
                now=each.received.at,
            )
        elif isinstance(each, Delivery):
            heard.append(_heard(each, admission, users.get(each.person), ids[each.person]))
        else:
            refused.append(_ending(each, admission))
    leavers.hold_departures(transaction, {each.person[0] for each in heard if each.may_leave})
    for each in batches.settle(transaction, heard):
        _settle(transaction, each)
    ending.finish_many(transaction, refused)
    snapshots.hear(transaction, lines)
    for each, admission in completions:
        snapshots.complete(
            transaction, each.organization, each.event, admission.event_id, each.received.at
        )
    ending.finish_many(transaction, admitted.endings)
    return list(admitted.admissions)


def _line(each: Delivery, snapshot: str) -> Line:
    return Line(
        organization=each.organization,
        snapshot=snapshot,
        worker_id=each.event.worker_id,
        at=each.received.at,
    )


def _arrival(
    each: Delivery | Refusal, users: Mapping[Person, User], ids: Mapping[Person, str]
) -> Arrival:
    user_id = None
    # An event that lies ahead makes nobody a user, nor one that says too little yet.
    if (
        isinstance(each, Delivery)
        and each.is_of_one
        and each.asks is None
        and (each.person in users or not each.is_ahead)
    ):
        user_id = ids[each.person]
    return Arrival(received=each.received, organization=each.organization, user_id=user_id)


def _heard(each: Delivery, admission: Admission, user: User | None, user_id: str) -> Heard:
    return Heard(
        registered=each.registered,
        event=each.event,
        event_id=admission.event_id,
        order=_order(each, admission),
        now=each.received.at,
        user=user,
        user_id=user_id,
    )


def _order(each: Delivery, admission: Admission) -> Order:
    return [each.event.sequence, admission.number if each.number is None else each.number]


def _ending(each: Refusal, admission: Admission) -> Ending:
    return Ending(
        event_id=admission.event_id,
        ended=each.ended,
        now=each.received.at,
        problem=each.problem,
        tries=Tries(count=each.attempts),
    )


def _settle(transaction: Transaction, heard: Heard) -> None:
    """One event by itself, after all that went before it."""
    user = _find(transaction, heard.registered.organization, heard.event.worker_id)
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
        _apply(transaction, heard, user)


def carry_on(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    event_id: str,
    order: Order,
    now: datetime,
) -> None:
    """Goes on with an accepted event, for one who holds its worker's key."""
    _settle(transaction, _resumed(registered, event, event_id, order, now))


def run_due(transaction: Transaction, now: datetime, limit: int = 300) -> int:
    """Applies scheduled events whose time has come, leavers first; returns how many. Several may do so
    at once: a worker whom another transaction is about is left for the next time. Many of one
    organization do not keep those of others waiting.

    One that fails stays for the next time and keeps no other from its turn; its error is raised
    where it was the only thing to do.
    """
    rows = [
        row for leaves in (True, False) for row in _due_rows(transaction, now, limit, leaves=leaves)
    ]
    free = people.hold_keys_if_free(transaction, {_person(row) for row in rows})
    known: dict[str, Registered | None] = {}
    failure: Exception | None = None
    for name in sorted({name for name, _ in free}):
        try:
            known[name] = organizations.find(transaction, name)
        except ValueError as error:
            failure = error
    rows = [row for row in rows if _person(row) in free and row.organization in known]
    # Events first, as who discards one. An event may also end without its worker's key.
    states = ending.hold_those_free(transaction, [row.event_id for row in rows])
    held = plans.hold_those_free(transaction, states)
    rows = [row for row in rows if row.event_id in held]
    scheduled = [row for row in rows if states[row.event_id] == "scheduled"]
    done = _run_together(transaction, scheduled, known, now)
    applied = len(done)
    most = applied + _ONE_BY_ONE
    for row in [row for row in rows if row.event_id not in done]:
        if applied >= most:
            break
        try:
            with transaction.begin_nested():
                applied += _run(transaction, row, known[row.organization], now)
        except Exception as error:
            if not _is_of_one(error):
                raise
            failure = error
    if failure is not None and applied == 0:
        raise failure
    return applied


def _due_rows(
    transaction: Transaction, now: datetime, limit: int, *, leaves: bool
) -> list[Row[Any]]:
    """Those that are due first; and where there are more, as many of organizations that would have to
    wait for them.
    """
    of_kind = t.schedule.c.type.in_(LEAVERS)
    due = (
        select(t.schedule)
        .where(t.schedule.c.due_at <= now, of_kind if leaves else ~of_kind)
        .order_by(t.schedule.c.due_at, t.schedule.c.number, t.schedule.c.event_id)
        .limit(limit)
    )
    rows = list(transaction.execute(due))
    if len(rows) == limit:
        many_of = {row.organization for row in rows}
        rows += transaction.execute(due.where(t.schedule.c.organization.not_in(many_of)))
    return rows


_ONE_BY_ONE: Final = 100
"""The most that one transaction applies by themselves: on SQLite all other writers wait for it."""


def _person(row: Row[Any]) -> Person:
    return row.organization, row.worker_id


def _run_together(
    transaction: Transaction,
    rows: Sequence[Row[Any]],
    known: Mapping[str, Registered | None],
    now: datetime,
) -> set[str]:
    """Applies what takes the usual course; returns the ids. Where one of them fails, none was applied."""
    living = {
        row.organization: each
        for row in rows
        if (each := known[row.organization]) and not each.decommissioned
    }
    rows = [row for row in rows if row.organization in living]
    # All users before what a leaver holds of the organization: see service.directory.leavers.
    persons = {_person(row): living[row.organization].organization for row in rows}
    users = _find_many(transaction, persons)
    if len(rows) < 2:
        return set()
    favour_indexes(transaction)
    try:
        with transaction.begin_nested():
            heard = [
                _due(row, living[row.organization], users.get(_person(row)), now) for row in rows
            ]
            return _settle_due(transaction, heard)
    except Exception as error:
        if not _is_of_one(error):
            raise
        return set()


def _is_of_one(error: Exception) -> bool:
    """Whether an event or its organization is at fault, or our code; not the database."""
    if isinstance(error, DBAPIError):
        return isinstance(error, IntegrityError | DataError)
    return not is_unavailable(error)


def _settle_due(transaction: Transaction, heard: Sequence[Heard]) -> set[str]:
    leavers.hold_departures(transaction, {each.person[0] for each in heard if each.may_leave})
    # Of several that are due of one worker, the first may displace the next.
    times = Counter(each.person for each in heard)
    alone = {each.event_id for each in heard if times[each.person] == 1}
    left = batches.settle(transaction, heard, due=alone)
    users = {each.event_id: each.user_id for each in heard}
    for each in left:
        del users[each.event_id]
    if users:
        ending.resume_many(transaction, users)
        plans.remove_many(transaction, users)
    return set(users)


def _due(row: Row[Any], registered: Registered, user: User | None, now: datetime) -> Heard:
    heard = _resumed(registered, plans.event_of(row), row.event_id, row.worker_event["order"], now)
    if user is None:
        return heard
    return replace(heard, user=user, user_id=user.id)


def _run(
    transaction: Transaction, row: Row[Any], registered: Registered | None, now: datetime
) -> bool:
    """One scheduled event; False where another process was quicker, or the event has ended."""
    if not plans.remove(transaction, row.event_id):
        return False
    if registered is None:
        ending.finish(transaction, row.event_id, "cancelled", now=now)
    elif registered.decommissioned:
        ending.finish_many(transaction, [windingup.ended_with_it(row.event_id, now)])
    elif ending.resume(transaction, row.event_id):
        event = plans.event_of(row)
        heard = _resumed(registered, event, row.event_id, row.worker_event["order"], now)
        _apply(transaction, heard, _find(transaction, registered.organization, event.worker_id))
    return True


def _resumed(
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


def _find(transaction: Transaction, organization: Organization, worker_id: str) -> User | None:
    person = (organization.name, worker_id)
    return _find_many(transaction, {person: organization}).get(person)


def _find_many(
    transaction: Transaction, persons: Mapping[Person, Organization]
) -> dict[Person, User]:
    """The workers' users, held; else the SCIM users whom the join key names, live before deleted."""
    matches: dict[str, set[Person]] = {}
    named = sorted(persons)
    for at, row in _BY_WORKER_ID.all(transaction, named):
        matches.setdefault(row["id"], set()).add(named[at])
    for column, by_key in _BY_JOIN_KEY.items():
        joined = [person for person in named if joined_by(persons[person].join).name == column]
        keys = [(name, worker_key(key, persons[name, key].join)) for name, key in joined]
        for at, row in by_key.all(transaction, keys):
            matches.setdefault(row["id"], set()).add(joined[at])
    users: dict[Person, User] = {}
    for user in people.lock_many(transaction, matches):
        theirs = [each for each in matches[user.id] if _is_of(user, each, persons[each].join)]
        if len(theirs) == 1:  # of two whose keys are alike the first takes it, in its turn
            users[theirs[0]] = max(users.get(theirs[0], user), user, key=_nearness)
    return users


_BY_WORKER_ID: Final = LookUp(t.users, ("organization", "worker_id"), ("id",))
_BY_JOIN_KEY: Final = {
    name: LookUp(t.users, ("organization", name), ("id",), where="worker_id IS NULL")
    for name in ("external_id", "join_key")
}


def _is_of(user: User, person: Person, join: JoinKey) -> bool:
    """Whether this is still so: somebody may have changed the user while we waited for it."""
    if user.worker_id is not None:
        return user.worker_id == person[1]
    return getattr(user, joined_by(join).name) == worker_key(person[1], join)


def _nearness(user: User) -> tuple[bool, bool, bool, str]:
    """How sure it is that this is the worker; of two who are as near, the one who came later."""
    return (
        user.worker_id is not None,
        user.deleted_at is None,
        user.account_id is not None,
        user.id,
    )


def _apply(transaction: Transaction, heard: Heard, user: User | None) -> None:
    registered, event, event_id = heard.registered, heard.event, heard.event_id
    order, now = heard.order, heard.now
    user = user or _create(transaction, heard)
    if user.id != heard.user_id or not heard.is_attributed:
        inbox.attribute(transaction, event_id, user.id)
    was_wanted = is_wanted(user, registered.organization, decommissioned=registered.decommissioned)
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
    organization = registered.organization
    return (
        user.account_id is None
        and is_wanted(user, organization, decommissioned=registered.decommissioned)
        and identifier_of(user, organization) is not None
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
