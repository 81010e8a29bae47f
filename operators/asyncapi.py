"""The AsyncAPI 3.0 document of what goes over Kafka: outcomes, dead letters, events of HR systems. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from consumers.mappings.canonical import CanonicalData
from service.outcomes.entries import ENTRIES, Entry
from service.outcomes.schemas import DIALECT
from service.version import VERSION
from service.workers import SNAPSHOT_COMPLETED, TYPES

Document = dict[str, Any]

CANONICAL: Final = "worker.v1"
"""The schema of what HR systems send, by the name of its file."""
_BINDING: Final = "0.5.0"
_FORMAT: Final = "application/schema+json;version=draft-2020-12"
_TEXT: Final[Document] = {"type": "string"}
_WORKER_TYPES: Final = (*sorted(TYPES), SNAPSHOT_COMPLETED)
_WORKER: Final[Document] = {
    "worker_id": "2001",
    "effective_at": "2027-01-31",
    "zone": "Europe/Amsterdam",
}
_ATTRIBUTES: Final[Mapping[str, str]] = {
    "ce_id": "Derived from key and sequence: the same for the same outcome, however often it comes.",
    "ce_source": "`/auth0-provisioner`, and the organization after it.",
    "ce_type": "The outcome's type.",
    "ce_specversion": "`1.0`",
    "ce_subject": "The user, else the event, else the key.",
    "ce_time": "When it happened (RFC 3339).",
    "ce_partitionkey": "The record's key.",
    "ce_sequence": "Counts the outcomes of a key from 1, without a gap.",
    "content-type": "`application/json`",
}
_SOMETIMES: Final[Mapping[str, str]] = {
    "ce_organization": "The organization by name.",
    "ce_causationid": "The event that it tells of, or that caused it.",
    "ce_correlationid": "The same for all events of one chain.",
    "ce_traceparent": "W3C Trace Context, as it came in.",
    "ce_tracestate": "W3C Trace Context, as it came in.",
    "traceparent": "The same, where OpenTelemetry looks.",
    "tracestate": "The same, where OpenTelemetry looks.",
}
_LETTER: Final[Mapping[str, str]] = {
    "dlq-original-topic": "Where the record was read.",
    "dlq-original-partition": "Its partition.",
    "dlq-original-offset": "Its offset.",
    "dlq-original-timestamp": "Its timestamp, milliseconds since 1970.",
    "dlq-group": "The consumer group that read it.",
    "dlq-event-id": "Our id of the event: `provisioner events show`.",
    "dlq-tenant": "The organization, where it could be told.",
    "dlq-reason": "The error's code.",
    "dlq-class": "The error's class.",
    "dlq-http-status": "What Auth0 answered.",
    "dlq-attempts": "How often it was tried.",
    "dlq-first-failed-at": "When it failed first (RFC 3339).",
    "dlq-last-failed-at": "When it failed last (RFC 3339).",
    "dlq-service-version": "The program that gave up.",
    "dlq-mapping-version": "The declared mapping that read it: `name@3`.",
    "dlq-replay-of": "The event that it replays.",
    "dlq-replay-count": "How many replays of the record there were, with this one.",
    "dlq-value-omitted": "`true` where the broker refused the size; the bytes are in the database.",
    "dlq-headers-omitted": "`true` where it refused the size of the headers alone; they are there, too.",
    "dlq-key-omitted": "`true` where the key is too large as well.",
}


def document() -> Document:
    """All of it; schemas by reference to files beside it."""
    messages = {each.full_name: _outcome(each) for each in ENTRIES.values()}
    return {
        "asyncapi": "3.0.0",
        "id": "urn:auth0-provisioner",
        "info": {
            "title": "auth0-provisioner",
            "version": VERSION,
            "description": "Events of HR systems in; outcomes and dead letters out.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {
                    "bootstrap": {
                        "default": "localhost:9092",
                        "description": "As PROVISIONER_KAFKA_BOOTSTRAP_SERVERS has it.",
                    }
                },
                "bindings": {"kafka": {"bindingVersion": _BINDING}},
            }
        },
        "channels": {
            "outcomes": _channel(
                "provisioning.outcomes", "What was done, and how each event ended.", messages
            ),
            "deadletters": _channel(
                "provisioning.deadletters",
                "Records that an operator must look at, as they came.",
                ["deadletter"],
            ),
            "events": _channel("hr.events", "What HR systems tell of workers.", ["worker"]),
        },
        "operations": {
            "publishOutcomes": _operation("send", "outcomes"),
            "publishDeadletters": _operation("send", "deadletters"),
            "takeEventsIn": _operation("receive", "events"),
        },
        "components": {
            "messages": messages | {"deadletter": _deadletter(), "worker": _worker()},
        },
    }


def canonical_schema() -> Document:
    """What the data of a canonical worker event may hold."""
    schema = CanonicalData.model_json_schema()
    return {
        "$schema": DIALECT,
        "$id": "urn:auth0-provisioner:input:worker:v1",
        **schema,
        "title": "worker",
        "examples": [_WORKER],
    }


def _channel(topic: str, said: str, messages: Mapping[str, Any] | list[str]) -> Document:
    return {
        "address": topic,
        "description": said,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": _BINDING}},
    }


def _operation(action: str, channel: str) -> Document:
    bound: Document = {"bindingVersion": _BINDING}
    if action == "receive":
        bound = {"groupId": {"type": "string", "default": "auth0-provisioner"}} | bound
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"kafka": bound},
    }


def _outcome(entry: Entry) -> Document:
    headers = {
        **_described(_ATTRIBUTES),
        "ce_type": {"type": "string", "const": entry.full_name},
        **_described(_SOMETIMES),
    }
    return {
        "name": entry.full_name,
        "title": entry.name,
        "summary": entry.sentence,
        "contentType": "application/json",
        "headers": {"type": "object", "properties": headers, "required": list(_ATTRIBUTES)},
        "payload": _payload(f"{entry.name}.v1"),
        "bindings": _key(f"Keyed by {entry.key}."),
        "examples": [{"name": entry.name, "payload": entry.payload()}],
    }


def _deadletter() -> Document:
    return {
        "name": "deadletter",
        "title": "Dead letter",
        "summary": "Key, value and headers as they came, and headers that say what went wrong.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": _described(_LETTER)},
        "payload": {"description": "The original bytes."},
        "bindings": _key("The original key."),
    }


def _worker() -> Document:
    attributes = {
        "ce_id": "Under `ce_source` it makes the event one.",
        "ce_source": "Who tells.",
        "ce_specversion": "`1.0`",
    }
    types = {"type": "string", "enum": list(_WORKER_TYPES)}
    return {
        "name": "worker",
        "title": "Worker event",
        "summary": "CloudEvents in binary or structured mode; other JSON by a declared mapping.",
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": _described(attributes) | {"ce_type": types},
            "required": [*attributes, "ce_type"],
        },
        "payload": _payload(CANONICAL),
        "bindings": _key("The worker's id."),
        "examples": [{"name": "termination", "payload": _WORKER}],
    }


def _described(members: Mapping[str, str]) -> Document:
    return {name: {**_TEXT, "description": said} for name, said in members.items()}


def _payload(schema: str) -> Document:
    return {"schemaFormat": _FORMAT, "schema": {"$ref": f"schemas/{schema}.json"}}


def _key(said: str) -> Document:
    key = {**_TEXT, "description": said}
    return {"kafka": {"key": key, "bindingVersion": _BINDING}}
