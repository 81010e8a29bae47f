"""From a Kafka record to its inputs: what it says, whose it is, or why neither can be told. Pure."""

from __future__ import annotations

import base64
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog

from consumers.admission import Input, Understood
from consumers.cloudevents import Envelope, read_any_record, read_record, trace_of_record
from consumers.faults import place_of
from consumers.mappings.canonical import (
    MAPPINGS,
    Mapper,
    canonical_type,
    checked_worker_id,
    in_zone,
)
from consumers.mappings.compiling import Compiled
from consumers.mappings.engine import UNREADABLE, Arrived, Found, unread
from consumers.mappings.engine import read as read_by_mapping
from consumers.mappings.packs import CANONICAL, named
from consumers.settling import CHILD_HEADER, body_of, child_of, of_cloudevent, settled, traced
from consumers.unusable import Unusable
from service.directory.inbox import Received
from service.directory.mappings import Declared
from service.errors import ConfigurationError
from service.organizations import EventSource
from service.outcomes.deadletter import RECORD_TIMESTAMP
from service.workers import WorkerEvent

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A Kafka record. ``timestamp``: milliseconds since 1970. ``value`` None: a tombstone."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    is_misnamed: bool = False
    """Whether the name of a header is not UTF-8, as it has to be; what is not is written ``\\xe9``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Who a topic's records may speak for, and how they are mapped."""

    source: str
    topic: str
    organizations: tuple[str, ...]
    mapper: Mapper
    """Reads CloudEvents in canonical form."""
    declared: Compiled | None = None
    """Reads everything else: plain JSON, and CloudEvents of other types."""
    zone: str | None = None
    asks: str | None = None
    """The source, where it says whom to ask about a worker whom an event only names."""
    fuse: int = 50
    """So many failed records one after the other stop the source; 0: none do."""

    @property
    def sole(self) -> str | None:
        """The organization, where there is just one."""
        return self.organizations[0] if len(self.organizations) == 1 else None


def routes(
    sources: Iterable[EventSource],
    mappings: Mapping[str, Mapper] = MAPPINGS,
    stored: Mapping[str, Declared] | None = None,
) -> tuple[dict[str, Route], list[str]]:
    """Routes by topic, and what is wrong with the sources whose topic is therefore not read.

    ``stored``: the mappings that customers declared. A topic that is not read loses nothing: its
    offsets stay where they are.
    """
    found: dict[str, Route] = {}
    problems: list[str] = []
    by_topic: dict[str, list[EventSource]] = {}
    for source in sources:
        if source.topic is not None:
            by_topic.setdefault(source.topic, []).append(source)
    for topic, sharing in by_topic.items():
        if len({source.mapping for source in sharing}) > 1:
            problems.append(f"Topic {topic} is not read: its sources ask for different mappings.")
        elif len({source.zone for source in sharing}) > 1:
            problems.append(f"Topic {topic} is not read: its sources name different zones.")
        elif any(source.enrichment != sharing[0].enrichment for source in sharing):
            problems.append(f"Topic {topic} is not read: its sources ask in different places.")
        else:
            try:
                found[topic] = _route(topic, sharing, mappings, stored or {})
            except ConfigurationError as error:
                problems.append(f"Topic {topic} is not read: {error}")
    return found, problems


def _route(
    topic: str,
    sharing: Sequence[EventSource],
    mappings: Mapping[str, Mapper],
    stored: Mapping[str, Declared],
) -> Route:
    """Raises ConfigurationError."""
    first = sharing[0]
    by_code = mappings.get(first.mapping)
    return Route(
        source=first.name,
        topic=topic,
        organizations=tuple({name: None for each in sharing for name in each.organizations}),
        mapper=in_zone(by_code or MAPPINGS[CANONICAL], first.zone),
        declared=None if by_code is not None else named(first.mapping, stored),
        zone=first.zone,
        asks=first.name if first.enrichment is not None else None,
        fuse=first.fuse,
    )


def inputs(record: Record, route: Route, now: datetime, *, fetched: Any = None) -> list[Input]:
    """The inputs that a record holds: one, unless its mapping splits it. Never raises.

    ``fetched``: what was answered about the worker whom it names.
    """
    if route.declared is None or record.is_misnamed or _is_tombstone(record):
        return [read(record, route, now)]
    received = replace(_received(record, route, now), mapping=route.declared.label)
    try:
        found = read_any_record(record.headers, record.value)
    except Unusable as problem:
        return [settled(problem, received, route.organizations)]
    if isinstance(found, Envelope):
        if canonical_type(found.type) is not None:
            return [read(record, route, now)]
        received = of_cloudevent(received, found)
    arrived = Arrived(
        payload=found.data if isinstance(found, Envelope) else found.payload,
        source=received.source,
        at=now,
        envelope=found if isinstance(found, Envelope) else None,
        key=None if record.key is None else record.key.decode("utf-8", "replace"),
        headers=_texts(record.headers),
        zone=route.zone,
        recorded=str(record.timestamp),
        delivery=f"{record.timestamp} {record.partition}@{record.offset}",
        child=child_of(_texts(record.headers).get(CHILD_HEADER)),
        fetched=fetched,
    )
    return [
        settled(
            each.result,
            _received_for(each, received, arrived),
            route.organizations,
            asks=route.asks,
            answered=fetched is not None,
        )
        for each in _found(route.declared, arrived, record)
    ]


def _found(declared: Compiled, arrived: Arrived, record: Record) -> list[Found]:
    try:
        return read_by_mapping(declared, arrived)
    except Exception as error:
        return [unread(_crashed(record, error), arrived)]


def _received_for(each: Found, received: Received, arrived: Arrived) -> Received:
    received = replace(received, source_id=each.id, type=each.type, content=each.content)
    if each.child is None or arrived.child is not None:
        return received
    child = base64.b64encode(str(each.child).encode()).decode()
    # Before the last, which is the record's timestamp.
    headers = [*received.headers[:-1], (CHILD_HEADER, child), *received.headers[-1:]]
    return replace(received, body=body_of(each, arrived, received.body), headers=headers)


def _texts(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, str]:
    return {
        name.lower(): value.decode("utf-8", "replace")
        for name, value in headers
        if value is not None
    }


def read(record: Record, route: Route, now: datetime) -> Input:
    """The input that a record is. Never raises: a fault of the mapping is recorded as one."""
    received = _received(record, route, now)
    try:
        if record.is_misnamed:
            raise Unusable(
                "header_name_not_utf8",
                "The name of a header is not UTF-8: correct the producer. A replay takes the event"
                " in without that header.",
            )
        if _is_tombstone(record):
            return _tombstone(record, route, received)
        envelope = read_record(record.headers, record.value)
    except Unusable as problem:
        return settled(problem, received, route.organizations)
    received = of_cloudevent(received, envelope)
    try:
        mapped = route.mapper(envelope)
    except Unusable as problem:
        return settled(problem, received, route.organizations)
    except Exception as error:
        return settled(_crashed(record, error), received, route.organizations)
    return settled(mapped, received, route.organizations)


def _crashed(record: Record, error: Exception) -> Unusable:
    _log.error(
        "intake.mapping_crash", topic=record.topic, offset=record.offset, error=place_of(error)
    )
    return Unusable("mapping_crash", "The mapping failed on this event: mend it, then replay.")


def _is_tombstone(record: Record) -> bool:
    """No value and no type: the source no longer has the record that the key names.

    With a type it is an event without data, and does what its type says.
    """
    return record.value is None and not any(
        name.lower() == "ce_type" and value for name, value in record.headers
    )


def _tombstone(record: Record, route: Route, received: Received) -> Input:
    if not record.key:
        raise Unusable("tombstone_without_key", "A record without value and key names no worker.")
    if route.sole is None:
        raise Unusable(
            "tombstone_without_organization",
            "The source speaks for several organizations, so its tombstones cannot be told apart.",
        )
    try:
        worker_id = checked_worker_id(record.key.decode())
    except UnicodeDecodeError:
        raise Unusable("invalid_worker_id", "The key of the tombstone is not UTF-8.") from None
    event = WorkerEvent(type="worker.deleted", worker_id=worker_id)
    return Understood(
        organization=route.sole, event=event, received=replace(received, type=event.type)
    )


def _received(record: Record, route: Route, now: datetime) -> Received:
    headers = [
        # No database holds U+0000 in a text.
        (
            name.replace("\x00", "\ufffd"),
            None if value is None else b2a_base64(value, newline=False).decode("ascii"),
        )
        for name, value in record.headers
    ]
    timestamp = b2a_base64(b"%d" % record.timestamp, newline=False).decode("ascii")
    return Received(
        door="kafka",
        source=route.source,
        type=UNREADABLE,
        at=now,
        body=record.value,
        headers=[*headers, (RECORD_TIMESTAMP, timestamp)],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        **traced(trace_of_record(record.headers)),
    )
