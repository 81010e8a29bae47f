"""What outcomes tell of an event, from its row. Pure: inbox says when, and writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

from service.directory import tables as t
from service.outcomes.data import Data, Error, Input
from service.outcomes.endings import (
    Comparison,
    EventCancelled,
    EventDeadlettered,
    EventDiscarded,
    EventDuplicate,
    EventRejected,
    EventSucceeded,
    EventSuperseded,
    ScimResponded,
)

Ended = Literal[
    "succeeded", "superseded", "rejected", "deadlettered", "duplicate", "cancelled", "discarded"
]

TOLD: Final = (
    t.events.c.organization,
    t.events.c.user_id,
    t.events.c.source,
    t.events.c.source_id,
    t.events.c.door,
    t.events.c.type,
    t.events.c.topic,
    t.events.c.partition,
    t.events.c.offset,
    t.events.c.correlation_id,
    t.events.c.traceparent,
    t.events.c.tracestate,
    t.events.c.mapping,
    t.events.c.accepted_at,
    t.events.c.effective_at,
    t.events.c.causation_id,
    t.events.c.headers,
)
"""The columns that outcomes are told from."""


Row = Mapping[str, Any]
"""An event by column."""


class Facts(TypedDict):
    """What every outcome of an event tells."""

    event: Input
    latency_ms: int
    attempts: int
    effective_at: str | None


def facts_of(row: Row, now: datetime, attempts: int = 1) -> Facts:
    """Where it came from, how long it took, when it takes effect. No names."""
    return Facts(
        event=input_of(row),
        latency_ms=latency_of(row, now),
        attempts=attempts,
        effective_at=row["effective_at"].isoformat() if row["effective_at"] is not None else None,
    )


def by_column(event: object) -> Row:
    """An event that was read, as facts are told from it."""
    return {column.name: getattr(event, column.name) for column in TOLD}


def input_of(row: Row) -> Input:
    return Input(
        type=row["type"],
        door=row["door"],
        source=row["source"],
        source_id=_without_address(row["source_id"]),
        topic=row["topic"],
        partition=row["partition"],
        offset=row["offset"],
        mapping=row["mapping"],
        causation_id=row["causation_id"],
    )


_ADDRESS: Final = re.compile(r"[^\s@]@[^\s@]+\.[^\s@]")


def _without_address(source_id: str | None) -> str | None:
    """Some producers make their ids of whom an event is about."""
    return None if source_id is None or _ADDRESS.search(source_id) else source_id


def latency_of(row: Row, now: datetime) -> int:
    """Milliseconds since it was accepted. One that lay ahead is measured from when it was due."""
    since, due = row["accepted_at"], row["effective_at"]
    if due is not None and since < due <= now:
        since = due
    return max(0, round((now - since).total_seconds() * 1000))


def ended_as(
    ended: Ended,
    facts: Facts,
    *,
    state: Literal["applied", "waiting", "held"] | None,
    error: Error | None,
    by: str | None,
    first_failed_at: datetime | None,
    compared: Comparison | None,
) -> Data:
    """The outcome that ends an event. ``error`` and ``by`` are given where the ending has one."""
    match ended:
        case "succeeded":
            return EventSucceeded(**facts, state=state or "applied", snapshot=compared)
        case "superseded":
            return EventSuperseded(**facts, superseded_by=by)
        case "cancelled":
            return EventCancelled(**facts, superseded_by=by)
        case "duplicate":
            assert by is not None
            return EventDuplicate(**facts, repeats=by)
        case "rejected":
            return EventRejected(**facts, error=error or _UNSAID)
        case "discarded":
            return EventDiscarded(**facts, error=error or _UNSAID)
        case "deadlettered":
            since = first_failed_at.isoformat() if first_failed_at is not None else None
            return EventDeadlettered(**facts, error=error or _UNSAID, first_failed_at=since)


_UNSAID: Final = Error(
    kind="permanent", code="unspecified", message="No reason was given.", http_status=None
)


def responded(facts: Facts, payload: Mapping[str, Any]) -> ScimResponded:
    """``payload``: as service.directory.responses has it."""
    return ScimResponded(
        **facts,
        event_uri=payload["eventUri"],
        txn=payload["txn"],
        method=payload["method"],
        status=payload["status"],
        bulk_id=payload.get("bulkId"),
        location=payload.get("location"),
        version=payload.get("version"),
        response=payload.get("response"),
    )
