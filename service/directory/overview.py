"""What operators look at: who is meant, how many are in which state, what is in trouble. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, func, or_, select

from service.directory import events, fanouts, people, sequels, struggles
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import Event, Filter
from service.errors import NotFound, Refused
from service.people import User

_MOST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Events that ended for one reason and that no operator has dealt with."""

    code: str
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedTenant:
    name: str
    since: datetime
    reason: str
    resume_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The installation at a glance. ``users``: organization to state to number."""

    users: Mapping[str, Mapping[str, int]]
    open_events: Mapping[str, int]
    trouble: tuple[Trouble, ...]
    paused: tuple[PausedTenant, ...]
    unpublished: int


def summary(transaction: Transaction) -> Summary:
    return Summary(
        users=_users_by_state(transaction),
        open_events=_open_events(transaction),
        trouble=_trouble(transaction),
        paused=_paused(transaction),
        unpublished=transaction.execute(
            select(func.count()).where(t.outcomes.c.published_at.is_(None))
        ).scalar_one(),
    )


def matching_people(
    transaction: Transaction, key: str, organization: str | None = None
) -> list[User]:
    """Users whom a key names: our id, ``userName``, ``externalId``, worker id, or an address."""
    folded = key.casefold()
    addressed = select(t.user_emails.c.user_id).where(t.user_emails.c.value_key == folded)
    if organization is not None:
        addressed = addressed.where(t.user_emails.c.organization == organization)
    query = select(t.users).where(
        or_(
            t.users.c.id == key,
            t.users.c.user_name_key == folded,
            t.users.c.external_id == key,
            t.users.c.worker_id == key,
            t.users.c.identifier == key.lower(),
            t.users.c.id.in_(addressed),
        )
    )
    if organization is not None:
        query = query.where(t.users.c.organization == organization)
    return [people.as_user(row) for row in transaction.execute(query.order_by(t.users.c.id))]


def the_user(transaction: Transaction, organization: str, key: str) -> User:
    """The one user whom a key names: by id, else of those that are not deleted.

    Raises NotFound; Refused, with the ids, where the key names several.
    """
    found = matching_people(transaction, key, organization)
    by_id = [user for user in found if user.id == key]
    living = [user for user in found if user.deleted_at is None]
    candidates = by_id or living or found
    if not candidates:
        raise NotFound(
            f"Nobody in {organization} has {key} as id, userName, externalId, worker id or address."
        )
    if len(candidates) > 1:
        ids = ", ".join(user.id for user in candidates)
        raise Refused(f"{key} names several users of {organization}: give one of the ids {ids}.")
    return candidates[0]


def latest_events(
    transaction: Transaction,
    wanted: Filter,
    *,
    trouble: bool = False,
    retrying: bool = False,
    before: int | None = None,
    limit: int = 50,
) -> list[Event]:
    """The newest events of a filter, newest first. ``trouble``: only what waits for an operator;
    ``retrying``: only what was tried in vain so far.
    """
    query = events.matching(wanted)
    if trouble:
        query = query.where(sequels.unattended())
    if retrying:
        query = query.where(struggles.struggling())
    if before is not None:
        query = query.where(t.events.c.number < before)
    rows = transaction.execute(query.order_by(t.events.c.number.desc()).limit(limit))
    return [events.as_event(row) for row in rows]


def event_ids(
    transaction: Transaction, wanted: Filter, *, trouble: bool = False, retrying: bool = False
) -> dict[str, int]:
    """Event id to number of everything in a filter, which is as in ``latest_events``."""
    query = events.matching(wanted)
    if trouble:
        query = query.where(sequels.unattended())
    if retrying:
        query = query.where(struggles.struggling())
    rows = transaction.execute(query.with_only_columns(t.events.c.id, t.events.c.number))
    return {row.id: row.number for row in rows}


def waits_for(transaction: Transaction, event_id: str) -> list[str]:
    """What an open event waits for, as sentences."""
    rows = transaction.execute(
        select(t.waits.c.user_id, t.waits.c.revision, t.accounts)
        .join(t.accounts, t.accounts.c.id == t.waits.c.account_id)
        .where(t.waits.c.event_id == event_id)
        .order_by(t.waits.c.account_id, t.waits.c.user_id)  # as the index has them: some have many
        .limit(_MOST)
    ).all()
    told = [
        f"account {row.id} of user {row.user_id}: revision {row.revision} wanted,"
        f" {row.applied_revision} reached"
        + (f", due {row.due_at:%Y-%m-%d %H:%M:%S} UTC" if row.due_at else "")
        + (f", {row.attempts} attempts" if row.attempts else "")
        + (f" ({row.error.get('message')})" if row.error else "")
        for row in rows
    ]
    if len(rows) == _MOST:
        waits = select(func.count()).where(t.waits.c.event_id == event_id)
        told += _more(transaction.execute(waits).scalar_one() - _MOST, "more accounts")
    told += _more(fanouts.left(transaction, event_id), "users whom it has not touched yet")
    due = transaction.execute(
        select(t.schedule.c.due_at).where(t.schedule.c.event_id == event_id)
    ).scalar_one_or_none()
    return told if due is None else [*told, f"its time: {due:%Y-%m-%d %H:%M:%S} UTC"]


def _more(count: int, what: str) -> list[str]:
    return [f"{count:,} {what}"] if count else []


def users_by_state(transaction: Transaction, organization: str) -> dict[str, int]:
    """How many users of an organization are in which state, those who are gone for good aside."""
    rows = transaction.execute(
        select(t.users.c.state, func.count())
        .where(t.users.c.organization == organization, _counted())
        .group_by(t.users.c.state)
    )
    return dict(rows.tuples().all())


def _counted() -> ColumnElement[bool]:
    return or_(t.users.c.deleted_at.is_(None), t.users.c.account_id.is_not(None))


def _users_by_state(transaction: Transaction) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {
        name: {}
        for name in transaction.execute(
            select(t.organizations.c.name).order_by(t.organizations.c.name)
        ).scalars()
    }
    rows = transaction.execute(
        select(t.users.c.organization, t.users.c.state, func.count().label("count"))
        .where(_counted())
        .group_by(t.users.c.organization, t.users.c.state)
    )
    for organization, state, count in rows:
        found.setdefault(organization, {})[state] = count
    return found


def _open_events(transaction: Transaction) -> dict[str, int]:
    rows = transaction.execute(
        select(t.events.c.state, func.count())
        .where(t.events.c.state.in_(events.OPEN))
        .group_by(t.events.c.state)
    )
    return dict(rows.tuples().all())


def _trouble(transaction: Transaction) -> tuple[Trouble, ...]:
    # The code as a column of its own: Postgres does not see that two bound paths are the same.
    ended = (
        select(
            t.events.c.error["code"].as_string().label("code"),
            t.events.c.accepted_at.label("accepted_at"),
        )
        .where(sequels.unattended())
        .subquery()
    )
    rows = transaction.execute(
        select(
            ended.c.code,
            func.count().label("events"),
            func.min(ended.c.accepted_at).label("first_at"),
            func.max(ended.c.accepted_at).label("last_at"),
        )
        .group_by(ended.c.code)
        .order_by(func.count().desc(), ended.c.code)
    )
    return tuple(
        Trouble(code=row.code or "", count=row.events, first_at=row.first_at, last_at=row.last_at)
        for row in rows
    )


def _paused(transaction: Transaction) -> tuple[PausedTenant, ...]:
    rows = transaction.execute(
        select(t.tenants).where(t.tenants.c.paused_at.is_not(None)).order_by(t.tenants.c.name)
    )
    return tuple(
        PausedTenant(
            name=row.name,
            since=row.paused_at,
            reason=row.pause_reason or "",
            resume_at=row.resume_at,
        )
        for row in rows
    )
