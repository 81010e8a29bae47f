"""Second chances: what a replay of an ended event does, and when there is none.

A replay is an event of its own. It never makes an older event win over a newer one: where the event
had reached desired state, today's is brought to Auth0 again; else its bytes are read anew and keep
the place in the order that they had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import select

from service.directory import (
    audit,
    ending,
    events,
    fanouts,
    inbox,
    intent,
    locks,
    mappings,
    migrants,
    organizations,
    outbox,
    people,
    sequels,
    waits,
    workers,
)
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import Event, Problem
from service.directory.inbox import Received
from service.directory.mappings import Declared
from service.directory.results import Result, Verdict
from service.directory.sequels import REPLAY, TROUBLE
from service.directory.told import by_column, facts_of
from service.errors import NotFound
from service.organizations import EventSource
from service.outcomes.endings import EventReplayed
from service.workers import WorkerEvent

IGNORED: Final = "ignored_by_mapping"
"""The code of an event that its mapping passes over. It ends as discarded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an event's original bytes say today: a worker event of an organization, or a problem."""

    organization: str | None
    event: WorkerEvent | None = None
    problem: Problem | None = None
    ended: Literal["deadlettered", "rejected", "discarded"] = "deadlettered"
    asks: str | None = None
    """The source that says whom to ask about the worker first, where the event only names them."""
    is_enough: bool = True
    """Whether the event can be acted on as it is, where nobody can tell more."""


Reader = Callable[[Event, Sequence[EventSource], Mapping[str, Declared]], Reading]
"""Reads an event that came over Kafka or HTTP; the sources say who may speak for whom, and which of
the mappings that customers declared they need. Pure.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """The event had reached desired state: its user's account is brought to today's again."""

    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileFailed:
    """It was about many users: those of the organization that are failed get another turn."""

    organization: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """It was never understood: its bytes are read anew, in the place that they had."""

    reading: Reading
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReplay:
    """Why there is nothing to replay, as a sentence."""

    reason: str


Way = Reconcile | ReconcileFailed | Process


def way_of(
    transaction: Transaction, event: Event, read: Reader, *, force: bool = False
) -> Way | NoReplay:
    """What a replay of this event would do. ``force`` also replays one that succeeded."""
    if (reason := _refusal(transaction, event, force=force)) is not None:
        return NoReplay(reason=reason)
    first = sequels.origin(transaction, event)
    user_id = event.user_id or first.user_id
    if user_id is not None and not _was_never_read(event, first):
        if migrants.is_unbrought(transaction, user_id):
            return NoReplay(reason=_WITHOUT_PASSWORD)
        return Reconcile(user_id=user_id)
    if first.door in ("kafka", "http"):
        reading = read(first, organizations.sources(transaction), mappings.every(transaction))
        return Process(reading=reading, number=first.number)
    if first.organization is not None:
        return ReconcileFailed(organization=first.organization)
    return NoReplay(reason="It names no organization and no user: there is nothing to do again.")


def _was_never_read(event: Event, first: Event) -> bool:
    """Whether it ended before it could reach desired state, though it is known whom it was about."""
    return first.door in ("kafka", "http") and (event.error or {}).get("class") == "input"


def replay(
    transaction: Transaction,
    event_id: str,
    *,
    read: Reader,
    actor: str,
    now: datetime,
    force: bool = False,
) -> Result:
    """Replays an event, once: its replay is an event of its own, and can be replayed in turn.

    Raises NotFound.
    """
    event = events.lock(transaction, event_id)
    way = way_of(transaction, event, read, force=force)
    if isinstance(way, NoReplay):
        return Result(event_id=event.id, verdict="skipped", reason=way.reason)
    replay_id = _carry_out(transaction, event, way, now)
    _tell(transaction, event, replay_id, now)
    audit.record(
        transaction,
        actor=actor,
        action="event.replay",
        now=now,
        organization=event.organization,
        subject=event.id,
        detail={"replay": replay_id, "forced": force},
    )
    after = events.get(transaction, replay_id)
    assert after is not None
    if after.state in TROUBLE:
        reason = str((after.error or {}).get("message", after.state))
        return Result(event_id=event.id, verdict="failed", reason=reason, replay_id=replay_id)
    return Result(event_id=event.id, verdict="replayed", reason=describe(way), replay_id=replay_id)


def examine(
    transaction: Transaction, event_id: str, *, read: Reader, force: bool = False
) -> Result:
    """What ``replay`` would answer, with nothing done. Raises NotFound."""
    event = events.require(transaction, event_id)
    way = way_of(transaction, event, read, force=force)
    if isinstance(way, NoReplay):
        return Result(event_id=event.id, verdict="skipped", reason=way.reason)
    unusable = isinstance(way, Process) and way.reading.problem is not None
    verdict: Verdict = "failed" if unusable else "replayed"
    return Result(event_id=event.id, verdict=verdict, reason=describe(way))


def describe(way: Way) -> str:
    """What a replay does, for people."""
    match way:
        case Reconcile():
            return f"user {way.user_id} is brought to Auth0 again"
        case ReconcileFailed():
            return f"the failed users of {way.organization} are brought to Auth0 again"
        case Process(reading=reading) if reading.problem is not None:
            return f"still unusable: {reading.problem.message}"
        case Process(reading=reading):
            assert reading.event is not None
            told = reading.event.type
            if reading.event.worker_id:
                told += f" of worker {reading.event.worker_id}"
            if reading.asks is not None:
                return f"{told} is asked for again, where source {reading.asks} says"
            return f"its bytes are read anew: {told} in {reading.organization}"


def _refusal(transaction: Transaction, event: Event, *, force: bool) -> str | None:
    if event.state == "staged":
        return "It waits for an operator: 'events approve' or 'events refuse'."
    if event.state in events.OPEN:
        return f"It has not ended ({event.state}): it goes on by itself."
    for known in sequels.replays_of(transaction, event.id):
        if known.state in events.OPEN:
            return f"Its replay {known.id} is under way."
        if known.state in TROUBLE:
            return f"Its replay {known.id} ended as {known.state}: replay that one."
        if not force:
            return f"Its replay {known.id} ended as {known.state}."
    if (event.error or {}).get("code") == "id_reuse_conflict" and not force:
        return "Its id was taken by another body: --force has it read as an event of its own."
    ignored = (event.error or {}).get("code") == IGNORED
    if event.state in TROUBLE or (force and (event.state == "succeeded" or ignored)):
        return None
    if ignored:
        return "Its mapping ignores it: --force has it read by the mapping as it is today."
    return _WHY_NOT[event.state].format(cause=event.causation_id)


_WITHOUT_PASSWORD: Final = (
    "No import brought this person and the password hash is erased: a replay would make them without"
    " their password. Mend their row and run 'provisioner user import' with it again; a change that"
    " SCIM or HR sends makes them without one."
)
_WHY_NOT: Final = {
    "succeeded": "It succeeded: --force reconciles its user once more.",
    "superseded": "A newer event took its place: replaying it must not undo that one.",
    "duplicate": "It repeats event {cause}: replay that one.",
    "cancelled": "A later event took it back: send a new one from its source.",
    "discarded": "An operator discarded it: send a new one from its source.",
}


def _carry_out(transaction: Transaction, event: Event, way: Way, now: datetime) -> str:
    received = inbox.caused_by(event, door="operator", source=locks.SOURCE, type=REPLAY, at=now)
    match way:
        case Reconcile():
            return _reconcile(transaction, way.user_id, received)
        case ReconcileFailed():
            return _reconcile_failed(transaction, way.organization, received)
        case Process():
            return _process(transaction, way, received)


def _reconcile(transaction: Transaction, user_id: str, received: Received) -> str:
    user = people.lock(transaction, user_id)
    registered = organizations.find(transaction, user.organization) if user is not None else None
    if user is None or registered is None:
        raise NotFound(f"The event's user {user_id} is no longer known.")
    event_id = inbox.admit(transaction, received, user.organization).event_id
    inbox.attribute(transaction, event_id, user.id)
    wanted = registered.wants(user)
    settled = intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=wanted,
        now=received.at,
    )
    if settled.state == "pending":
        waits.lock_again(transaction, user.id, event_id, received.at)
    return event_id


def _reconcile_failed(transaction: Transaction, organization: str, received: Received) -> str:
    event_id = inbox.admit(transaction, received, organization).event_id
    failed = select(t.users.c.id).where(
        t.users.c.organization == organization,
        t.users.c.state == "failed",
        ~migrants.unbrought(),  # those only their file can bring as they should be
    )
    fanouts.touch(transaction, failed, event_id=event_id, now=received.at)
    return event_id


def _process(transaction: Transaction, way: Process, received: Received) -> str:
    reading = way.reading
    registered = (
        organizations.find(transaction, reading.organization) if reading.organization else None
    )
    problem = reading.problem
    if problem is None and registered is None:
        problem = Problem(
            kind="input",
            code="unknown_organization",
            message="There is no such organization: declare it, then replay the event.",
        )
    if problem is not None or registered is None or reading.event is None:
        name = registered.organization.name if registered is not None else None
        event_id = inbox.admit(transaction, received, name).event_id
        ending.finish(transaction, event_id, reading.ended, now=received.at, problem=problem)
        return event_id
    due = replace(received, effective_at=reading.event.effective_at)
    return workers.accept(
        transaction, registered, reading.event, due, number=way.number, asks=reading.asks
    ).event_id


def _tell(transaction: Transaction, event: Event, replay_id: str, now: datetime) -> None:
    outbox.emit(
        transaction,
        EventReplayed(**facts_of(by_column(event), now), replay=replay_id),
        now=now,
        organization=event.organization,
        user_id=event.user_id,
        event_id=event.id,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
        tracestate=event.tracestate,
        source=outbox.producer_key(event.source),
    )
