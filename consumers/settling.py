"""From what a mapping found to an input: whose it is, and how it ends where it is nobody's. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, TypedDict

import orjson

from consumers.admission import Input, NotUnderstood, Thin, Understood, input_problem
from consumers.cloudevents import Envelope, content_of, with_data
from consumers.mappings.canonical import Mapped
from consumers.mappings.engine import Arrived, Found, Ignored, Result
from consumers.unusable import Unusable
from service.directory.inbox import Received
from service.tracing import Trace
from service.workers import OUT

CHILD_HEADER: Final = "provisioner-child"
"""Beside an event that was split off: its place among its siblings, from 0."""


def settled(
    result: Result,
    received: Received,
    organizations: Sequence[str],
    *,
    asks: str | None = None,
    answered: bool = False,
) -> Input:
    """The input that a result makes. ``organizations``: those that its source may speak for; an
    event names no other, and where there is just one, it need not name it. ``asks``: the source,
    where it has an enrichment; ``answered``: what was fetched has been read already.
    """
    sole = organizations[0] if len(organizations) == 1 else None
    match result:
        case Mapped():
            return _addressed(result, received, organizations, sole, asks, answered=answered)
        case Ignored():
            return refused(
                result.code, result.message, received, ended="discarded", organization=sole
            )
        case Unusable():
            return refused(
                result.code, result.message, received, ended="deadlettered", organization=sole
            )


def of_cloudevent(received: Received, envelope: Envelope) -> Received:
    """The same, under the envelope's id; its own trace counts before that of what carried it."""
    trace = Trace(parent=received.traceparent, state=received.tracestate)
    return replace(
        received,
        source=envelope.source,
        source_id=envelope.id,
        type=envelope.type,
        content=content_of(envelope),
        **traced(envelope.trace if envelope.trace.parent else trace),
    )


class Traced(TypedDict):
    traceparent: str | None
    tracestate: str | None


def traced(trace: Trace) -> Traced:
    """A trace as members of Received."""
    return Traced(traceparent=trace.parent, tracestate=trace.state)


def body_of(found: Found, arrived: Arrived, body: bytes | None) -> bytes | None:
    """The bytes that are kept for an event: those that came, unless it was split off from them."""
    if found.child is None:
        return body
    if arrived.envelope is not None:
        return with_data(arrived.envelope, body, found.payload)
    return orjson.dumps(found.payload)


def child_of(header: str | None) -> int | None:
    """The place that CHILD_HEADER names."""
    return int(header) if header and header.isdecimal() and len(header) < 6 else None


def refused(
    code: str,
    message: str,
    received: Received,
    *,
    ended: Literal["deadlettered", "rejected", "discarded"],
    organization: str | None = None,
) -> NotUnderstood:
    return NotUnderstood(
        organization=organization,
        ended=ended,
        problem=input_problem(code, message),
        received=received,
    )


def _addressed(
    mapped: Mapped,
    received: Received,
    organizations: Sequence[str],
    sole: str | None,
    asks: str | None,
    *,
    answered: bool,
) -> Input:
    organization = mapped.organization or sole
    if organization is None:
        return refused(
            "organization_missing",
            "The source speaks for several organizations, and the event names none.",
            received,
            ended="rejected",
        )
    if organization not in organizations:
        return refused(
            "organization_not_allowed",
            "The event names an organization that its source may not speak for.",
            received,
            ended="rejected",
        )
    if mapped.event.effective_at is not None:
        received = replace(received, effective_at=mapped.event.effective_at)
    if mapped.enrich != "never" and not (mapped.enrich == "optional" and _says_out(mapped)):
        if answered:
            return _unread(received, organization)
        if asks is not None:
            return Thin(
                organization=organization,
                event=mapped.event,
                received=received,
                source=asks,
                is_enough=mapped.enrich == "optional",
            )
        if mapped.enrich == "required":
            return _unenriched(received, organization)
    return Understood(organization=organization, event=mapped.event, received=received)


def _says_out(mapped: Mapped) -> bool:
    """Whoever is out by the event's own word is not let in while somebody else is asked."""
    return mapped.event.status in OUT


def _unread(received: Received, organization: str) -> Input:
    return refused(
        "enrichment_unread",
        "Its mapping has no rules under enriched for what was fetched: add them, then replay it.",
        received,
        ended="deadlettered",
        organization=organization,
    )


def _unenriched(received: Received, organization: str) -> Input:
    """A thin event that says too little by itself. Its payload is kept, so a replay can read it
    together with what was fetched (``Arrived.fetched``).
    """
    return refused(
        "enrichment_missing",
        "The event only names the worker: configure enrichment on its source, then replay it.",
        received,
        ended="deadlettered",
        organization=organization,
    )
