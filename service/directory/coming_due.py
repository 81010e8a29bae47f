"""Scheduled worker events whose time has come: together where they take the usual course."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from service.directory import (
    applying,
    batches,
    ending,
    leavers,
    organizations,
    people,
    plans,
    windingup,
    worker_users,
)
from service.directory import tables as t
from service.directory.batches import Heard, Person
from service.directory.database import Transaction, is_unavailable
from service.directory.dialect import favour_indexes
from service.directory.organizations import Registered
from service.people import User
from service.workers import LEAVERS


def run_due(transaction: Transaction, now: datetime, limit: int = 300) -> int:
    """Applies scheduled events whose time has come, those of an organization's leavers before all
    others of it, whatever the limit; returns how many. Several may do so at once: a worker whom
    another transaction is about is left for the next time. Many of one organization do not keep
    those of others waiting.

    One that fails stays for the next time and keeps no other from its turn; its error is raised
    where it was the only thing to do.
    """
    leaving = _due_rows(transaction, now, limit, leaves=True)
    others = _others(transaction, now, limit, leaving)
    applied, failure = _run_rows(transaction, [*leaving, *others], now)
    if failure is not None and applied == 0 and len(leaving) >= limit:
        # Nobody waits for leavers none of whom can go.
        others = _due_rows(transaction, now, limit, leaves=False)
        applied, _ = _run_rows(transaction, others, now)
    if failure is not None and applied == 0:
        raise failure
    return applied


def _others(
    transaction: Transaction, now: datetime, limit: int, leaving: Sequence[Row[Any]]
) -> list[Row[Any]]:
    """Of organizations all of whose leavers that are due are among these: who joins counts in the
    share that may leave at once, and would else join before the rest of them. See ADR 17.
    """
    if len(leaving) < limit:
        return _due_rows(transaction, now, limit, leaves=False)
    if len(leaving) == 2 * limit:
        return []
    many_of = {row.organization for row in leaving[:limit]}
    return _due_rows(transaction, now, limit, leaves=False, but=many_of)


def _run_rows(
    transaction: Transaction, rows: Sequence[Row[Any]], now: datetime
) -> tuple[int, Exception | None]:
    """How many were applied, and what the last that failed said."""
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
    return applied, failure


def _due_rows(
    transaction: Transaction,
    now: datetime,
    limit: int,
    *,
    leaves: bool,
    but: Collection[str] = (),
) -> list[Row[Any]]:
    """Those that are due first; and where there are more, as many of organizations that would have to
    wait for them. ``but``: of organizations save for these.
    """
    of_kind = t.schedule.c.type.in_(LEAVERS)
    due = (
        select(t.schedule)
        .where(t.schedule.c.due_at <= now, of_kind if leaves else ~of_kind)
        .order_by(t.schedule.c.due_at, t.schedule.c.number, t.schedule.c.event_id)
        .limit(limit)
    )
    if but:
        due = due.where(t.schedule.c.organization.not_in(sorted(but)))
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
    users = worker_users.find_many(transaction, persons)
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
    heard = applying.resumed(
        registered, plans.event_of(row), row.event_id, row.worker_event["order"], now
    )
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
        heard = applying.resumed(registered, event, row.event_id, row.worker_event["order"], now)
        applying.apply(
            transaction,
            heard,
            worker_users.find(transaction, registered.organization, event.worker_id),
        )
    return True
