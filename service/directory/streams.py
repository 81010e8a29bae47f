"""Security events that wait to be pushed, and how each organization's stream is doing.

Knows no HTTP and no keys. A row is written with the outcome that it tells of and goes when it has
arrived, so no cursor can pass over one. Of one stream one process pushes at a time, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, func, or_, select, update

from service.directory import organizations, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.errors import NotFound, Refused
from service.outcomes.catalogue import OutcomeType
from service.security_events import tokens
from service.security_events.declaration import SecurityEvents
from service.security_events.tokens import TOLD_BY, Person, SecurityEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An event to push. ``number`` is its place."""

    number: int
    event: SecurityEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How a stream is doing. ``since``: how long the oldest event waits. ``error``: the newest failure,
    with ``code``, ``message`` and, where there was an answer, ``status``.
    """

    organization: str
    waiting: int
    since: datetime | None
    attempts: int
    error: Mapping[str, Any] | None
    due_at: datetime
    stopped_at: datetime | None
    delivered_at: datetime | None


def tell(
    transaction: Transaction,
    outcome: OutcomeType,
    outcome_id: str,
    *,
    organization: str | None,
    user_id: str | None,
    event_id: str | None,
    data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Has an outcome told to the stream of its organization, where that declares one."""
    if outcome not in TOLD_BY or organization is None:
        return
    registered = organizations.find(transaction, organization)
    declared = registered.organization.security_events if registered is not None else None
    if declared is None:
        return
    events = tokens.events_of(
        outcome,
        outcome_id,
        data,
        organization=organization,
        person=_person(transaction, user_id),
        event_id=event_id,
        wanted=declared.events,
        at=now,
    )
    for event in events:
        _store(transaction, organization, event)


def verify(transaction: Transaction, organization: str, event_id: str, now: datetime) -> None:
    """Has the stream tell that it works, after all that waits already."""
    _store(transaction, organization, tokens.verification(event_id, now))


def _person(transaction: Transaction, user_id: str | None) -> Person | None:
    user = people.get(transaction, user_id) if user_id is not None else None
    if user is None:
        return Person(user_id=user_id) if user_id is not None else None
    return Person(
        user_id=user.id,
        external_id=user.external_id,
        attributes=tokens.attribute_names(user.resource, user.worker),
    )


def _store(transaction: Transaction, organization: str, event: SecurityEvent) -> None:
    document = asdict(event)
    transaction.execute(
        t.security_events.insert().values(
            organization=organization,
            jti=document.pop("jti"),
            uri=document.pop("uri"),
            at=document.pop("at"),
            document=document,
        )
    )


# Pushing


def due(transaction: Transaction, owner: str, now: datetime) -> bool:
    """Whether a stream waits for ``owner`` to claim it."""
    return bool(transaction.execute(select(exists().where(_is_due(owner, now)))).scalar_one())


def claim(
    transaction: Transaction, *, owner: str, now: datetime, lease: timedelta, limit: int
) -> list[str]:
    """The organizations of the longest due streams, leased: nobody else pushes them.

    ``owner`` names one run of one process; ``instance#run`` takes over at once what an earlier run
    of the same instance held.
    """
    wanted = (
        select(t.streams.c.organization)
        .where(_is_due(owner, now))
        .order_by(t.streams.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    claimed = (
        update(t.streams)
        .where(t.streams.c.organization.in_(wanted))
        .values(owner=owner, lease_until=now + lease)
        .returning(t.streams.c.organization)
    )
    return list(transaction.execute(claimed).scalars())


def waiting(transaction: Transaction, organization: str, limit: int) -> list[Waiting]:
    """The oldest events of a stream, in order."""
    rows = transaction.execute(
        select(t.security_events)
        .where(t.security_events.c.organization == organization)
        .order_by(t.security_events.c.number)
        .limit(limit)
    )
    return [
        Waiting(
            number=row.number,
            event=SecurityEvent(jti=row.jti, uri=row.uri, at=row.at, **row.document),
        )
        for row in rows
    ]


def delivered(
    transaction: Transaction,
    organization: str,
    number: int,
    *,
    owner: str,
    now: datetime,
    lease: timedelta,
) -> bool:
    """Notes an arrival and lengthens the lease; False where that is another's by now.

    What has arrived has arrived, whoever pushed it: the row goes in any case.
    """
    transaction.execute(t.security_events.delete().where(t.security_events.c.number == number))
    kept = transaction.execute(
        update(t.streams)
        .where(_leased(organization, owner))
        .values(attempts=0, error=None, delivered_at=now, lease_until=now + lease)
        .returning(t.streams.c.organization)
    )
    return kept.scalar_one_or_none() is not None


def stands(transaction: Transaction, organization: str, declared: SecurityEvents) -> bool:
    """Whether a stream is still declared so; nobody changes that until this transaction ends."""
    transaction.execute(
        select(t.streams.c.organization)
        .where(t.streams.c.organization == organization)
        .with_for_update()
    )
    registered = organizations.find(transaction, organization)
    return registered is not None and registered.organization.security_events == declared


def let_go(transaction: Transaction, organization: str, *, owner: str, arrived: int | None) -> None:
    """Ends a turn whose stream was declared anew meanwhile: how it ended says nothing of the new one."""
    if arrived is not None:
        transaction.execute(t.security_events.delete().where(t.security_events.c.number == arrived))
    transaction.execute(
        update(t.streams).where(_leased(organization, owner)).values(owner=None, lease_until=None)
    )


def give_back(transaction: Transaction, organization: str, *, owner: str, now: datetime) -> None:
    """Ends a turn: other streams that are due go first."""
    transaction.execute(
        update(t.streams)
        .where(_leased(organization, owner))
        .values(due_at=now, owner=None, lease_until=None)
    )


def put_off(
    transaction: Transaction,
    organization: str,
    *,
    owner: str,
    due_at: datetime,
    error: Mapping[str, Any],
) -> None:
    """Ends a turn that failed; the same event is pushed again at ``due_at``."""
    transaction.execute(
        update(t.streams)
        .where(_leased(organization, owner))
        .values(
            due_at=due_at,
            attempts=t.streams.c.attempts + 1,
            error=dict(error),
            owner=None,
            lease_until=None,
        )
    )


def stop(
    transaction: Transaction,
    organization: str,
    *,
    owner: str,
    now: datetime,
    error: Mapping[str, Any],
) -> None:
    """Ends a turn and all further ones, until ``resume`` or another declaration. Events still queue up."""
    transaction.execute(
        update(t.streams)
        .where(_leased(organization, owner))
        .values(
            stopped_at=now,
            attempts=t.streams.c.attempts + 1,
            error=dict(error),
            owner=None,
            lease_until=None,
        )
    )


def release(transaction: Transaction, owner: str) -> None:
    """Frees whatever this owner had claimed, for the end of a process."""
    transaction.execute(
        update(t.streams).where(t.streams.c.owner == owner).values(owner=None, lease_until=None)
    )


def attempts_of(transaction: Transaction, organization: str) -> int:
    """How often in a row the oldest event could not be pushed."""
    query = select(t.streams.c.attempts).where(t.streams.c.organization == organization)
    return transaction.execute(query).scalar_one()


# For operators


def resume(
    transaction: Transaction, organization: str, *, skip: bool, now: datetime
) -> SecurityEvent | None:
    """Lets a stopped stream go on; returns the event that was refused, where that is left out.

    Raises NotFound where there is no stream, Refused where it is not stopped.
    """
    row = transaction.execute(
        select(t.streams).where(t.streams.c.organization == organization).with_for_update()
    ).one_or_none()
    if row is None or _is_ended(row.error):
        raise NotFound(f"{organization} declares no security_events.")
    if row.stopped_at is None:
        raise Refused(f"The stream of {organization} is not stopped.")
    skipped: SecurityEvent | None = None
    for first in waiting(transaction, organization, 1) if skip else []:
        transaction.execute(
            t.security_events.delete().where(t.security_events.c.number == first.number)
        )
        skipped = first.event
    _go_on(transaction, organization, now)
    return skipped


def every(transaction: Transaction) -> list[Stream]:
    """All streams, by organization."""
    rows = transaction.execute(
        select(
            t.streams,
            func.count(t.security_events.c.number).label("waiting"),
            func.min(t.security_events.c.at).label("since"),
        )
        .select_from(
            t.streams.outerjoin(
                t.security_events,
                t.security_events.c.organization == t.streams.c.organization,
            )
        )
        .group_by(t.streams.c.organization)
        .order_by(t.streams.c.organization)
    )
    return [_stream(row) for row in rows]


def stopped(transaction: Transaction) -> dict[str, bool]:
    """Of every organization that declares a stream: whether it is stopped."""
    rows = transaction.execute(
        select(t.streams.c.organization, t.streams.c.stopped_at, t.streams.c.error)
    )
    return {
        row.organization: row.stopped_at is not None for row in rows if not _is_ended(row.error)
    }


def _is_ended(error: Mapping[str, Any] | None) -> bool:
    return (error or {}).get("code") == organizations.NOT_DECLARED


def _go_on(transaction: Transaction, organization: str, now: datetime) -> None:
    transaction.execute(
        update(t.streams)
        .where(t.streams.c.organization == organization)
        .values(stopped_at=None, attempts=0, error=None, due_at=now)
    )


def _stream(row: Row[Any]) -> Stream:
    return Stream(
        organization=row.organization,
        waiting=row.waiting,
        since=row.since,
        attempts=row.attempts,
        error=row.error,
        due_at=row.due_at,
        stopped_at=row.stopped_at,
        delivered_at=row.delivered_at,
    )


def _is_due(owner: str, now: datetime) -> ColumnElement[bool]:
    instance, named, _ = owner.partition("#")
    earlier_run = and_(
        t.streams.c.owner.startswith(f"{instance}#", autoescape=True), t.streams.c.owner != owner
    )
    return and_(
        t.streams.c.stopped_at.is_(None),
        t.streams.c.due_at <= now,
        or_(
            t.streams.c.lease_until.is_(None),
            t.streams.c.lease_until <= now,
            *([earlier_run] if named else []),
        ),
        exists().where(t.security_events.c.organization == t.streams.c.organization),
    )


def _leased(organization: str, owner: str) -> ColumnElement[bool]:
    return and_(t.streams.c.organization == organization, t.streams.c.owner == owner)
