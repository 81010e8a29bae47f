"""The admission of events without doubles: an input at a door becomes an accepted event, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    Row,
    bindparam,
    select,
    update,
)

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import insert_unless_known
from service.directory.ending import Ending, finish_many
from service.directory.events import Door, Event, Problem
from service.directory.prepared import Prepared
from service.ids import new_id


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


def caused_by(cause: Event, *, door: Door, source: str, type: str, at: datetime) -> Received:
    """An input that an earlier event is the cause of, traced as that one is."""
    return Received(
        door=door,
        source=source,
        type=type,
        at=at,
        causation_id=cause.id,
        correlation_id=cause.correlation_id,
        traceparent=cause.traceparent,
        tracestate=cause.tracestate,
    )


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
    """A hash by which a delivery is known again: at its offset, and under its producer's id. Empty for
    what has neither.

    The bytes alone do not tell: of a CloudEvent in binary mode the type and the id are headers, and
    a tombstone has no bytes at all. A topic made anew must not take one for what was here before.
    """
    if received.topic is None and received.source_id is None:
        return ""
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
