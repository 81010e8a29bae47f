"""Accepted events as they are stored, and as operators look for them. Changes none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    Row,
    Select,
    select,
)

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import columns
from service.errors import NotFound
from service.outcomes.data import Error

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


def get(transaction: Transaction, event_id: str) -> Event | None:
    row = transaction.execute(select(t.events).where(t.events.c.id == event_id)).one_or_none()
    return as_event(row) if row is not None else None


def require(transaction: Transaction, event_id: str) -> Event:
    """Raises NotFound."""
    event = get(transaction, event_id)
    if event is None:
        raise NotFound(f"There is no event {event_id}.")
    return event


def lock(transaction: Transaction, event_id: str) -> Event:
    """The event, held: two operators who do something about it at once follow one another.

    Raises NotFound.
    """
    held = select(t.events).where(t.events.c.id == event_id).with_for_update()
    row = transaction.execute(held).one_or_none()
    if row is None:
        raise NotFound(f"There is no event {event_id}.")
    return as_event(row)


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
