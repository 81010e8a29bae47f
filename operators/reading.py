"""What the original bytes of a stored event say today, by the doors' own rules. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from consumers import payloads
from consumers.admission import Input, NotUnderstood, Thin, input_problem
from consumers.cloudevents import STRUCTURED, read_any_request, read_request
from consumers.mappings.canonical import canonical
from consumers.mappings.packs import named
from consumers.payloads import SOURCE_HEADER, Hook
from consumers.records import Record, inputs, routes
from consumers.unusable import Unusable
from service.directory import mappings, organizations, sequels
from service.directory.database import Transaction
from service.directory.events import Event
from service.directory.mappings import Declared
from service.directory.replays import Reading
from service.errors import ConfigurationError
from service.organizations import EventSource
from service.outcomes.deadletter import RECORD_TIMESTAMP


def again(transaction: Transaction, event: Event, fetched: Any) -> Reading:
    """What a stored event says beside what was fetched about its worker; of a replay, what the
    event says that it began with.
    """
    origin = sequels.origin(transaction, event)
    sources, declared = organizations.sources(transaction), mappings.every(transaction)
    return read(origin, sources, declared, fetched)


def read(
    event: Event,
    sources: Sequence[EventSource],
    declared: Mapping[str, Declared],
    fetched: Any = None,
) -> Reading:
    """Reads an event that came over Kafka or HTTP, by the mappings of today. What was wrong with it
    may be mended by now.
    """
    if event.door == "kafka":
        return _from_kafka(event, sources, declared, fetched)
    headers = {name: value for name, value in event.headers if name and value is not None}
    if SOURCE_HEADER in headers:
        return _from_webhook(event, headers, sources, declared, fetched)
    return _from_http(event, headers)


def _from_kafka(
    event: Event,
    sources: Sequence[EventSource],
    declared: Mapping[str, Declared],
    fetched: Any,
) -> Reading:
    record = _record(event)
    known, problems = routes(sources, stored=declared)
    route = known.get(record.topic)
    if route is None:
        told = next((said for said in problems if record.topic in said), None)
        return _unusable(
            event.organization,
            "no_source",
            told or f"No source reads topic {record.topic} any more: declare one, then replay.",
        )
    return _reading(inputs(record, route, event.accepted_at, fetched=fetched), event)


def _from_webhook(
    event: Event,
    headers: Mapping[str, str],
    sources: Sequence[EventSource],
    declared: Mapping[str, Declared],
    fetched: Any,
) -> Reading:
    name = headers[SOURCE_HEADER]
    source = next((each for each in sources if each.name == name), None)
    organization = event.organization
    if source is None or organization is None or organization not in source.organizations:
        return _unusable(
            organization, "no_source", f"There is no source {name} for it: declare it, then replay."
        )
    body = event.body or b""
    try:
        hook = Hook(
            source=name,
            organization=organization,
            declared=named(source.mapping, declared),
            zone=source.zone,
            asks=source.enrichment is not None,
        )
        sent = read_any_request(headers.get("content-type", STRUCTURED), headers, body)
    except ConfigurationError as error:
        return _unusable(organization, "no_source", f"Source {name} cannot be read: {error}")
    except Unusable as problem:
        return _unusable(organization, problem.code, problem.message)
    found = payloads.inputs(
        sent, hook, body=body, headers=headers, now=event.accepted_at, fetched=fetched
    )
    return _reading([each for _, each in found], event)


def _reading(found: Sequence[Input], event: Event) -> Reading:
    """What the one input says. An event that was taken in whole is not split by its replay."""
    if len(found) != 1:
        return _unusable(
            event.organization,
            "splits_today",
            f"Its mapping makes {len(found)} events of it today: have its source send it again.",
        )
    only = found[0]
    if isinstance(only, NotUnderstood):
        return Reading(organization=only.organization, problem=only.problem, ended=only.ended)
    if isinstance(only, Thin):
        return Reading(
            organization=only.organization,
            event=only.event,
            asks=only.source,
            is_enough=only.is_enough,
        )
    return Reading(organization=only.organization, event=only.event)


def _from_http(event: Event, headers: Mapping[str, str]) -> Reading:
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
