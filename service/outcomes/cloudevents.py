"""An outcome as a CloudEvent: binary for Kafka, structured JSON for people and scripts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
from cloudevents.core.bindings.kafka import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from service.directory.outbox import Outcome

SOURCE: Final = "/auth0-provisioner"
"""The CloudEvents source of outcomes; an organization's own have its name after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRecord:
    """What is written to the topic of outcomes."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def to_record(outcome: Outcome, *, source: str = SOURCE) -> KafkaRecord:
    """Binary mode (CloudEvents Kafka binding 1.0, section 3.2), keyed by ``partitionkey``.

    The trace stands there twice: as attributes, and bare, where OpenTelemetry looks.
    """
    message = to_binary(_event(outcome, source), JSONFormat(), lambda _: outcome.key)
    headers = list(message.headers.items())
    trace = {"traceparent": outcome.traceparent, "tracestate": outcome.tracestate}
    headers += [(name, value.encode()) for name, value in trace.items() if value is not None]
    return KafkaRecord(key=outcome.key.encode(), value=message.value, headers=headers)


def to_document(outcome: Outcome, *, source: str = SOURCE) -> dict[str, Any]:
    """Structured mode, as a JSON document."""
    return orjson.loads(JSONFormat().write(_event(outcome, source)))


def _event(outcome: Outcome, source: str) -> CloudEvent:
    organization = outcome.organization
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": outcome.id,
        "source": f"{source}/{organization}" if organization else source,
        "type": outcome.type,
        "subject": outcome.user_id or outcome.event_id or outcome.key,
        "time": outcome.created_at,
        "datacontenttype": "application/json",
        "partitionkey": outcome.key,
        "sequence": str(outcome.sequence),
    }
    told = {
        "causationid": outcome.event_id,
        "correlationid": outcome.correlation_id,
        "traceparent": outcome.traceparent,
        "tracestate": outcome.tracestate,
        "organization": organization,
    }
    attributes |= {name: value for name, value in told.items() if value is not None}
    ids = {"organization": organization, "userId": outcome.user_id, "eventId": outcome.event_id}
    return CloudEvent(attributes, dict(outcome.data) | ids)
