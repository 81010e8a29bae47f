"""From a Kafka record to an input: what it says, whose it is, or why neither can be told. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import structlog

from consumers.admission import Input, NotUnderstood, Understood, input_problem
from consumers.cloudevents import content_of, read_record
from consumers.faults import place_of
from consumers.mappings.canonical import MAPPINGS, Mapped, Mapper, checked_worker_id
from consumers.unusable import Unusable
from service.directory.inbox import Received
from service.organizations import EventSource
from service.outcomes.deadletter import RECORD_TIMESTAMP
from service.workers import WorkerEvent

_log = structlog.stdlib.get_logger(__name__)
UNREADABLE: Final = "unreadable"
"""The type of an input whose type cannot be told."""


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
    fuse: int = 50
    """So many failed records one after the other stop the source; 0: none do."""

    @property
    def sole(self) -> str | None:
        """The organization, where there is just one."""
        return self.organizations[0] if len(self.organizations) == 1 else None


def routes(
    sources: Iterable[EventSource], mappings: Mapping[str, Mapper] = MAPPINGS
) -> tuple[dict[str, Route], list[str]]:
    """Routes by topic, and what is wrong with the sources whose topic is therefore not read.

    A topic that is not read loses nothing: its offsets stay where they are.
    """
    found: dict[str, Route] = {}
    problems: list[str] = []
    by_topic: dict[str, list[EventSource]] = {}
    for source in sources:
        if source.topic is not None:
            by_topic.setdefault(source.topic, []).append(source)
    for topic, sharing in by_topic.items():
        names = sorted({source.mapping for source in sharing})
        if len(names) > 1:
            problems.append(f"Topic {topic} is not read: its sources ask for different mappings.")
        elif names[0] not in mappings:
            problems.append(f"Topic {topic} is not read: there is no mapping {names[0]}.")
        else:
            allowed = {name: None for source in sharing for name in source.organizations}
            found[topic] = Route(
                source=sharing[0].name,
                topic=topic,
                organizations=tuple(allowed),
                mapper=mappings[names[0]],
                fuse=sharing[0].fuse,
            )
    return found, problems


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
        return _unusable(problem, route, received)
    received = replace(
        received,
        source=envelope.source,
        source_id=envelope.id,
        type=envelope.type,
        content=content_of(envelope),
        traceparent=envelope.traceparent,
    )
    try:
        mapped = route.mapper(envelope)
    except Unusable as problem:
        return _unusable(problem, route, received)
    except Exception as error:
        _log.error(
            "intake.mapping_crash",
            topic=record.topic,
            offset=record.offset,
            error=place_of(error),
        )
        crash = Unusable("mapping_crash", "The mapping failed on this event: mend it, then replay.")
        return _unusable(crash, route, received)
    return _addressed(mapped, route, received)


def _addressed(mapped: Mapped, route: Route, received: Received) -> Input:
    """Settles the organization. An event names none that its source may not speak for."""
    organization = mapped.organization or route.sole
    if organization is None:
        return _refused(
            "organization_missing",
            "The source speaks for several organizations, and the event names none.",
            received,
            ended="rejected",
        )
    if organization not in route.organizations:
        return _refused(
            "organization_not_allowed",
            "The event names an organization that its source may not speak for.",
            received,
            ended="rejected",
        )
    received = replace(received, effective_at=mapped.event.effective_at)
    return Understood(organization=organization, event=mapped.event, received=received)


def _is_tombstone(record: Record) -> bool:
    """No value and no type: the source no longer has the record that the key names.

    With a type it is an event without data, and does what its type says.
    """
    typed = any(name.lower() == "ce_type" and value for name, value in record.headers)
    return record.value is None and not typed


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


def _unusable(problem: Unusable, route: Route, received: Received) -> NotUnderstood:
    return _refused(
        problem.code, problem.message, received, ended="deadlettered", organization=route.sole
    )


def _refused(
    code: str,
    message: str,
    received: Received,
    *,
    ended: Literal["deadlettered", "rejected"],
    organization: str | None = None,
) -> NotUnderstood:
    return NotUnderstood(
        organization=organization,
        ended=ended,
        problem=input_problem(code, message),
        received=received,
    )


def _received(record: Record, route: Route, now: datetime) -> Received:
    headers = [
        # No database holds U+0000 in a text.
        (
            name.replace("\x00", "\ufffd"),
            None if value is None else base64.b64encode(value).decode(),
        )
        for name, value in record.headers
    ]
    timestamp = base64.b64encode(str(record.timestamp).encode()).decode()
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
    )
