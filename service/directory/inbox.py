"""Accepted events: admission without doubles, and the one ending that each of them gets."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    ARRAY,
    Row,
    Select,
    Text,
    any_,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    update,
)

from service.directory import many, outbox, responses
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among, columns, insert_unless_known
from service.directory.outbox import Draft
from service.directory.prepared import Prepared
from service.directory.responses import Response
from service.directory.told import TOLD, Ended, ended_as, facts_of, responded
from service.ids import new_id
from service.outcomes.data import Data, Error
from service.outcomes.endings import Comparison, EventScheduled, EventStaged, Exceeded

Door = Literal["scim", "http", "kafka", "operator"]
EventState = Literal[
    "accepted",
    "scheduled",
    "staged",
    "succeeded",
    "superseded",
    "rejected",
    "deadlettered",
    "duplicate",
    "cancelled",
    "discarded",
]
_Told = Mapping[str, Any]
"""An event's row: what its outcomes tell of it, by column."""
OPEN: Final = ("accepted", "scheduled", "staged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why something failed: a class for machines, a code, and a sentence for people.

    ``kind``: ``permanent``, ``conflict``, ``tenant``, ``input``. No personal data in ``message``.
    """

    kind: str
    code: str
    message: str
    status: int | None = None
    retry_after: float | None = None
    """Seconds, where Auth0 named them."""
    request_id: str | None = None
    """Auth0's own id of the request that it refused."""

    def as_document(self) -> dict[str, Any]:
        return self.as_error().document()

    def as_error(self) -> Error:
        """As outcomes tell it."""
        return Error(
            kind=self.kind,
            code=self.code,
            message=self.message,
            http_status=self.status,
            retry_after=self.retry_after,
            auth0_request_id=self.request_id,
        )

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Problem:
        return cls(
            kind=document["class"],
            code=document["code"],
            message=document["message"],
            status=document["httpStatus"],
            retry_after=document.get("retryAfter"),
            request_id=document.get("auth0RequestId"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How often something was tried in all, and when that failed first."""

    count: int = 1
    first_failed_at: datetime | None = None


ONE_TRY: Final = Tries()


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An input as a door received it. ``body``: the original bytes, without passwords."""

    door: Door
    source: str
    type: str
    at: datetime
    id: str | None = None
    """Ours, where the sender is told it before the event is stored; None: a new one."""
    body: bytes | None = None
    content: bytes | None = None
    """What the event says, whichever form it was sent in; None: its ``body`` is that."""
    headers: Sequence[tuple[str, str | None]] = ()
    """Names and values; a Kafka header's value is base64."""
    source_id: str | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    key: bytes | None = None
    effective_at: datetime | None = None
    causation_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    mapping: str | None = None
    """The declared mapping that read it, and its version: ``name@3``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An accepted event as stored."""

    number: int
    id: str
    organization: str | None
    door: Door
    source: str
    source_id: str | None
    type: str
    topic: str | None
    partition: int | None
    offset: int | None
    key: bytes | None
    headers: list[list[str | None]] = field(default_factory=list[list[str | None]])
    body: bytes | None
    body_hash: str
    user_id: str | None
    state: EventState
    result: str | None
    error: Mapping[str, Any] | None
    causation_id: str | None
    correlation_id: str | None
    traceparent: str | None
    tracestate: str | None = None
    mapping: str | None = None
    accepted_at: datetime
    effective_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What became of an input at the door.

    ``new``: carry on with it. ``redelivery``: the same topic, partition and offset was here; no new
    input, ``event_id`` is the known one. ``duplicate`` and ``conflict``: recorded and ended, there
    is nothing more to do.
    """

    verdict: Literal["new", "redelivery", "duplicate", "conflict"]
    event_id: str
    number: int = 0


def admit(
    transaction: Transaction,
    received: Received,
    organization: str | None,
    *,
    user_id: str | None = None,
) -> Admission:
    """Takes an input in, once. Ends it at once where it repeats an id (with outcome).

    ``user_id``: whom it is about, where that is known already.
    """
    event_id = received.id or new_id(received.at)
    row = row_of(received, event_id, organization, user_id)
    number = _insert(transaction, row)
    if number is not None:
        return Admission(verdict="new", event_id=event_id, number=number)
    admission, ending = admit_known(transaction, received, row)
    if ending is not None:
        finish_many(transaction, [ending])
    return admission


def admit_known(
    transaction: Transaction, received: Received, row: Mapping[str, Any]
) -> tuple[Admission, Ending | None]:
    """Takes an input in whose row did not go in: its offset or its producer's id is known. Returns
    also how it is to be ended, where it is an input of its own.
    """
    event_id: str = row["id"]
    if (known := _at_offset(transaction, row)) is not None:
        return Admission(verdict="redelivery", event_id=known), None
    earlier = _same_source_id(transaction, row)
    row = {**row, "source_id": None, "causation_id": earlier.id}
    number = _insert(transaction, row)
    if number is None:  # another process was quicker with this very offset
        known = _at_offset(transaction, row)
        assert known is not None
        return Admission(verdict="redelivery", event_id=known), None
    if (earlier.type, earlier.body_hash) == (row["type"], row["body_hash"]):
        repeat = Ending(event_id=event_id, ended="duplicate", now=received.at, by=earlier.id)
        return Admission(verdict="duplicate", event_id=event_id, number=number), repeat
    problem = Problem(
        kind="input",
        code="id_reuse_conflict",
        message="This event id was used before with another body: send the change under a new id.",
    )
    refusal = Ending(event_id=event_id, ended="rejected", now=received.at, problem=problem)
    return Admission(verdict="conflict", event_id=event_id, number=number), refusal


def row_of(
    received: Received, event_id: str, organization: str | None, user_id: str | None
) -> dict[str, Any]:
    """An input as a row of events, accepted."""
    return {
        "id": event_id,
        "organization": organization,
        "door": received.door,
        "source": received.source,
        "source_id": received.source_id,
        "type": received.type,
        "topic": received.topic,
        "partition": received.partition,
        "offset": received.offset,
        "key": received.key,
        "headers": list(received.headers),
        "body": received.body,
        "body_hash": _identity(received),
        "user_id": user_id,
        "state": "accepted",
        "causation_id": received.causation_id,
        "correlation_id": received.correlation_id or event_id,
        "traceparent": received.traceparent,
        "tracestate": received.tracestate,
        "mapping": received.mapping,
        "accepted_at": received.at,
        "effective_at": received.effective_at,
    }


def _identity(received: Received) -> str:
    """A hash by which a delivery is known again: at its offset, and under its producer's id.

    The bytes alone do not tell: of a CloudEvent in binary mode the type and the id are headers, and
    a tombstone has no bytes at all. A topic made anew must not take one for what was here before.
    """
    known: list[object]
    if received.source_id is None:
        known = [received.key, received.body, *received.headers]
    else:
        known = [received.source_id, received.type, received.content or received.body]
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _insert(transaction: Transaction, row: Mapping[str, Any]) -> int | None:
    """The number of acceptance; None where the offset or the producer's id is known already."""
    inserted = insert_unless_known(transaction, t.events, row, [t.events.c.number])
    return inserted["number"] if inserted is not None else None


def _at_offset(transaction: Transaction, row: Mapping[str, Any]) -> str | None:
    if row["topic"] is None:
        return None
    return transaction.execute(
        select(t.events.c.id).where(
            t.events.c.topic == row["topic"],
            t.events.c.partition == row["partition"],
            t.events.c.offset == row["offset"],
            t.events.c.body_hash == row["body_hash"],
        )
    ).scalar_one_or_none()


def _same_source_id(transaction: Transaction, row: Mapping[str, Any]) -> Row[Any]:
    return transaction.execute(
        select(t.events.c.id, t.events.c.type, t.events.c.body_hash).where(
            t.events.c.organization.is_not_distinct_from(row["organization"]),
            t.events.c.source == row["source"],
            t.events.c.source_id == row["source_id"],
        )
    ).one()


def attribute(transaction: Transaction, event_id: str, user_id: str) -> None:
    """Notes which user an event turned out to be about."""
    _ATTRIBUTE.run(transaction, {"of": event_id, "user_id": user_id})
    _LAST.run(transaction, {"of": user_id, "last_event_id": event_id})


def hand_over(transaction: Transaction, earlier: str, user_id: str) -> None:
    """Notes that what HR and operators said of a user is about another row of the same person now."""
    transaction.execute(
        update(t.events)
        .where(t.events.c.user_id == earlier, t.events.c.door != "scim")
        .values(user_id=user_id)
    )


_ATTRIBUTE: Final = Prepared(update(t.events).where(t.events.c.id == bindparam("of")))
_LAST: Final = Prepared(update(t.users).where(t.users.c.id == bindparam("of")))


def finish(
    transaction: Transaction,
    event_id: str,
    ended: Ended,
    *,
    now: datetime,
    result: Literal["applied", "waiting", "held"] | None = None,
    problem: Problem | None = None,
    by: str | None = None,
    tries: Tries = ONE_TRY,
    compared: Comparison | None = None,
) -> bool:
    """Ends an event, once: False (and nothing written) where it has ended before.

    ``by``: the event that it repeats, or that took its place. ``compared``: of a full export.
    """
    row = _FINISH.first(
        transaction,
        {
            "of": event_id,
            "state": ended,
            "result": result,
            "error": problem.as_document() if problem else None,
            "finished_at": now,
        },
    )
    if row is None:
        return False
    _END_WAITS.run(transaction, {"of": event_id})
    ending = Ending(
        event_id=event_id,
        ended=ended,
        now=now,
        result=result,
        problem=problem,
        by=by,
        tries=tries,
        compared=compared,
    )
    outbox.emit_many(transaction, [_draft_of(ending, row)])
    _respond(transaction, row, event_id, ended, problem, now)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an event ends."""

    event_id: str
    ended: Ended
    now: datetime
    result: Literal["applied", "waiting", "held"] | None = None
    problem: Problem | None = None
    by: str | None = None
    """The event that it repeats, or that took its place."""
    tries: Tries = ONE_TRY
    compared: Comparison | None = None


def finish_many(transaction: Transaction, endings: Sequence[Ending]) -> None:
    """As ``finish``, of many events, told in this order."""
    if transaction.dialect.name != "postgresql" or len(endings) == 1:
        for each in endings:
            finish(
                transaction,
                each.event_id,
                each.ended,
                now=each.now,
                result=each.result,
                problem=each.problem,
                by=each.by,
                tries=each.tries,
                compared=each.compared,
            )
        return
    rows = [
        {
            "id": each.event_id,
            "state": each.ended,
            "result": each.result,
            "error": each.problem.as_document() if each.problem else None,
            "finished_at": each.now,
        }
        for each in endings
    ]
    if not rows:
        return
    found = _FINISH_MANY.all(transaction, many.arrays(t.events, rows))
    ended = {row["id"]: row for row in found}
    _END_WAITS_OF_MANY.run(transaction, {"of": list(ended)})
    told = [each for each in endings if each.event_id in ended]
    outbox.emit_many(transaction, [_draft_of(each, ended[each.event_id]) for each in told])
    for each in told:
        row = ended[each.event_id]
        _respond(transaction, row, each.event_id, each.ended, each.problem, each.now)


def _draft_of(ending: Ending, row: _Told) -> Draft:
    data = ended_as(
        ending.ended,
        facts_of(row, ending.now, ending.tries.count),
        state=ending.result,
        error=ending.problem.as_error() if ending.problem else None,
        by=ending.by,
        first_failed_at=ending.tries.first_failed_at,
        compared=ending.compared,
    )
    return _draft(row, ending.event_id, ending.now, data)


def promise(transaction: Transaction, event_id: str, response: Response, *, now: datetime) -> None:
    """Has the sender of a SCIM event told of its end, once; at once where it has ended already.

    For the transaction that admitted the event, whose headers it writes.
    """
    row = transaction.execute(
        update(t.events)
        .where(t.events.c.id == event_id)
        .values(headers=[response.as_header()])
        .returning(*TOLD, t.events.c.state, t.events.c.error)
    ).one()
    if row.state not in OPEN:
        problem = Problem.from_document(row.error) if row.error else None
        _respond(transaction, columns(row), event_id, row.state, problem, now)


def _respond(
    transaction: Transaction,
    row: _Told,
    event_id: str,
    ended: str,
    problem: Problem | None,
    now: datetime,
) -> None:
    # Of other doors the headers are what the producer sent.
    promised = responses.promised(row["headers"]) if row["door"] == "scim" else None
    if promised is not None:
        payload = responses.told(promised, ended, problem.as_document() if problem else None)
        data = responded(facts_of(row, now), payload)
        outbox.emit_many(transaction, [_draft(row, event_id, now, data)])


def conclude(
    transaction: Transaction,
    event_id: str,
    *,
    now: datetime,
    result: Literal["applied", "waiting", "held"],
    tries: Tries = ONE_TRY,
) -> None:
    """Ends an event that waits for no account any more: dead-lettered where one of them failed."""
    failure = transaction.execute(
        select(t.events.c.error).where(t.events.c.id == event_id)
    ).scalar_one()
    if failure is None:
        finish(transaction, event_id, "succeeded", now=now, result=result, tries=tries)
    else:
        problem = Problem.from_document(failure)
        finish(transaction, event_id, "deadlettered", now=now, problem=problem, tries=tries)


def pass_through(
    transaction: Transaction,
    event_id: str,
    state: Literal["scheduled", "staged"],
    *,
    now: datetime,
    threshold: Exceeded | None = None,
) -> None:
    """Marks an open event as scheduled or staged; its ending comes later."""
    row = transaction.execute(
        update(t.events)
        .where(t.events.c.id == event_id, t.events.c.state.in_(OPEN))
        .values(state=state)
        .returning(*TOLD)
    ).one_or_none()
    if row is not None:
        facts = facts_of(columns(row), now)
        told = (
            EventScheduled(**facts)
            if state == "scheduled"
            else EventStaged(**facts, threshold=threshold)
        )
        outbox.emit_many(transaction, [_draft(columns(row), event_id, now, told)])


def stage_many(
    transaction: Transaction, thresholds: Mapping[str, Exceeded], *, now: datetime
) -> None:
    """As ``pass_through`` of what is staged, of many events, told in this order."""
    rows = transaction.execute(
        update(t.events)
        .where(among(transaction, t.events.c.id, list(thresholds)), t.events.c.state.in_(OPEN))
        .values(state="staged")
        .returning(t.events.c.id, *TOLD)
    )
    staged = {row.id: columns(row) for row in rows}
    drafts = [
        _draft(row, event_id, now, EventStaged(**facts_of(row, now), threshold=threshold))
        for event_id, threshold in thresholds.items()
        if (row := staged.get(event_id)) is not None
    ]
    if drafts:
        outbox.emit_many(transaction, drafts)


def resume(
    transaction: Transaction, event_id: str, state: Literal["scheduled", "staged"] = "scheduled"
) -> bool:
    """Takes a scheduled or staged event up again; False where it has ended meanwhile."""
    return (
        transaction.execute(
            update(t.events)
            .where(t.events.c.id == event_id, t.events.c.state == state)
            .values(state="accepted")
            .returning(t.events.c.id)
        ).scalar_one_or_none()
        is not None
    )


def hold_those_free(transaction: Transaction, event_ids: Collection[str]) -> dict[str, str]:
    """The states of these events, held; without those that another transaction is about, an operator's
    who discards one, say.
    """
    found = transaction.execute(
        select(t.events.c.id, t.events.c.state)
        .where(among(transaction, t.events.c.id, sorted(event_ids)))
        .with_for_update(skip_locked=True)
    )
    return {row.id: row.state for row in found}


def resume_many(transaction: Transaction, users: Mapping[str, str]) -> None:
    """As ``resume``, of events by id, each with the user that it turned out to be about. What has
    been staged meanwhile stays so.
    """
    rows = [{"id": event_id, "user_id": user_id} for event_id, user_id in users.items()]
    many.write(transaction, t.events, rows)
    transaction.execute(
        update(t.events)
        .where(among(transaction, t.events.c.id, sorted(users)), t.events.c.state == "scheduled")
        .values(state="accepted")
    )


_FINISH: Final = Prepared(
    update(t.events)
    .where(
        t.events.c.id == bindparam("of"),
        t.events.c.state.in_([literal_column(f"'{state}'") for state in OPEN]),
    )
    .returning(*TOLD)
)
_ENDING: Final = ("id", "state", "result", "error", "finished_at")
_FINISH_MANY: Final = Prepared(
    text(
        "UPDATE events SET state = given.state, result = given.result, error = given.error::jsonb,"  # noqa: S608 - our own names
        " finished_at = given.finished_at"
        f" FROM {many.unnested(t.events, _ENDING)}"
        " WHERE events.id = given.id AND events.state = ANY (ARRAY['accepted', 'scheduled', 'staged'])"
        " RETURNING events.id, " + ", ".join(f'events."{column.name}"' for column in TOLD)
    ).columns(t.events.c.id, *TOLD)
)
_END_WAITS: Final = Prepared(delete(t.waits).where(t.waits.c.event_id == bindparam("of")))
_END_WAITS_OF_MANY: Final = Prepared(
    delete(t.waits).where(t.waits.c.event_id == any_(bindparam("of", type_=ARRAY(Text))))
)


def _draft(row: _Told, event_id: str, now: datetime, data: Data) -> Draft:
    return Draft(
        data=data,
        now=now,
        organization=row["organization"],
        user_id=row["user_id"],
        event_id=event_id,
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        tracestate=row["tracestate"],
        source=outbox.producer_key(row["source"]),
    )


def get(transaction: Transaction, event_id: str) -> Event | None:
    row = transaction.execute(select(t.events).where(t.events.c.id == event_id)).one_or_none()
    return as_event(row) if row is not None else None


def by_trace(transaction: Transaction, traceparent: str) -> Event | None:
    """The first event that was accepted with this W3C trace context."""
    row = transaction.execute(
        select(t.events)
        .where(t.events.c.traceparent == traceparent)
        .order_by(t.events.c.number)
        .limit(1)
    ).one_or_none()
    return as_event(row) if row is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a listing shows; None does not restrict. ``error`` is an error code."""

    organization: str | None = None
    state: str | None = None
    error: str | None = None
    user: str | None = None
    since: datetime | None = None
    after: int = 0


def listing(transaction: Transaction, wanted: Filter, limit: int = 200) -> list[Event]:
    """Events in order of acceptance."""
    query = matching(wanted).order_by(t.events.c.number).limit(limit)
    return [as_event(row) for row in transaction.execute(query)]


def matching(wanted: Filter) -> Select[Any]:
    """The rows of a filter, without an order."""
    query = select(t.events).where(t.events.c.number > wanted.after)
    if wanted.organization is not None:
        query = query.where(t.events.c.organization == wanted.organization)
    if wanted.state is not None:
        query = query.where(t.events.c.state == wanted.state)
    if wanted.error is not None:
        query = query.where(t.events.c.error["code"].as_string() == wanted.error)
    if wanted.user is not None:
        query = query.where(t.events.c.user_id == wanted.user)
    if wanted.since is not None:
        query = query.where(t.events.c.accepted_at >= wanted.since)
    return query


def as_event(row: Row[Any]) -> Event:
    return Event(**columns(row))
