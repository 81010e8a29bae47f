"""What the original bytes of a stored event say today, by the doors' own rules. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

from consumers.admission import NotUnderstood, input_problem
from consumers.cloudevents import STRUCTURED, read_request
from consumers.mappings.canonical import canonical
from consumers.records import Record, routes
from consumers.records import read as read_record
from consumers.unusable import Unusable
from service.directory.inbox import Event
from service.directory.replays import Reading
from service.organizations import EventSource
from service.outcomes.deadletter import RECORD_TIMESTAMP


def read(event: Event, sources: Sequence[EventSource]) -> Reading:
    """Reads an event that came over Kafka or HTTP. What was wrong with it may be mended by now."""
    return _from_kafka(event, sources) if event.door == "kafka" else _from_http(event)


def _from_kafka(event: Event, sources: Sequence[EventSource]) -> Reading:
    record = _record(event)
    known, problems = routes(sources)
    route = known.get(record.topic)
    if route is None:
        told = next((said for said in problems if record.topic in said), None)
        return _unusable(
            event.organization,
            "no_source",
            told or f"No source reads topic {record.topic} any more: declare one, then replay.",
        )
    found = read_record(record, route, event.accepted_at)
    if isinstance(found, NotUnderstood):
        return Reading(organization=found.organization, problem=found.problem, ended=found.ended)
    return Reading(organization=found.organization, event=found.event)


def _from_http(event: Event) -> Reading:
    headers = {name: value for name, value in event.headers if name and value is not None}
    try:
        (item,) = read_request(headers.get("content-type", STRUCTURED), headers, event.body or b"")
        mapped = canonical(item.envelope)
    except Unusable as problem:
        return _unusable(event.organization, problem.code, problem.message)
    if mapped.organization not in (None, event.organization):
        refused = _unusable(
            event.organization,
            "organization_not_allowed",
            "The event names another organization than the path that it came by.",
        )
        return replace(refused, ended="rejected")
    return Reading(organization=event.organization, event=mapped.event)


def _record(event: Event) -> Record:
    headers = [
        (str(name), None if value is None else base64.b64decode(value))
        for name, value in event.headers
    ]
    timestamp = 0
    if headers and headers[-1][0] == RECORD_TIMESTAMP:
        timestamp = int(headers.pop()[1] or b"0")
    return Record(
        topic=event.topic or "",
        partition=event.partition or 0,
        offset=event.offset or 0,
        timestamp=timestamp,
        key=event.key,
        value=event.body,
        headers=headers,
    )


def _unusable(organization: str | None, code: str, message: str) -> Reading:
    return Reading(organization=organization, problem=input_problem(code, message))
