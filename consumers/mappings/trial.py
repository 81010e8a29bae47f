"""The tests that a mapping brings along: each is read as an event would be, and compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from consumers.cloudevents import Envelope, check_shape, rfc_3339
from consumers.mappings.canonical import Mapped
from consumers.mappings.compiling import Compiled
from consumers.mappings.document import Expected, Refusal, Sample
from consumers.mappings.engine import Arrived, Found, Ignored, read
from consumers.unusable import Unusable

_WHEN: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When a test's payload arrives, where the test does not say."""


def failures(mapping: Compiled) -> list[str]:
    """A sentence for every test that does not hold; empty where all do."""
    return [
        f"tests[{sample.name}]: {said}"
        for sample in mapping.samples
        if (said := _failure(mapping, sample)) is not None
    ]


def _failure(mapping: Compiled, sample: Sample) -> str | None:
    try:
        found = read(mapping, _arrived(sample))
    except Unusable as problem:
        return f"it cannot be read at all: {problem.message}"
    if sample.expect == "ignored":
        return _compared([Expected(ignored=True)], found)
    if isinstance(sample.expect, Refusal):
        return _compared([Expected(unusable=sample.expect.unusable)], found)
    return _compared(sample.expect, found)


def _arrived(sample: Sample) -> Arrived:
    at = rfc_3339(sample.received_at) if sample.received_at else _WHEN
    if at is None:
        raise Unusable("invalid_time", "received_at is not RFC 3339.")
    envelope = None
    payload = _as_json(sample.payload)
    if sample.envelope is not None:
        given = sample.envelope
        payload = _as_json(given.data)
        envelope = Envelope(
            id=given.id,
            source=given.source,
            type=given.type,
            subject=given.subject,
            time=rfc_3339(given.time) if given.time else None,
            data=payload,
        )
    return Arrived(
        payload=payload,
        source=envelope.source if envelope else "sample",
        at=at,
        envelope=envelope,
        key=sample.key,
        headers=sample.headers,
        zone=sample.zone,
        fetched=_as_json(sample.fetched),
    )


def _as_json(value: Any) -> Any:
    """As it would come over a wire: YAML has keys that are no text."""
    try:
        document = orjson.loads(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError):
        raise Unusable("malformed_json", "its payload is nothing that JSON can hold.") from None
    check_shape(document)
    return document


def _compared(expected: Sequence[Expected], found: Sequence[Found]) -> str | None:
    if len(expected) != len(found):
        told = "; ".join(str(_shown(each)) for each in found[:3])
        return f"{len(expected)} events are expected and {len(found)} found: {told}"
    for index, (wanted, each) in enumerate(zip(expected, found, strict=True)):
        shown = _shown(each)
        for key, value in _asked(wanted).items():
            if shown.get(key) != value:
                return (
                    f"event {index}: {key} is expected to be {value!r} and is"
                    f" {shown.get(key)!r}, of {shown}"
                )
    return None


def _asked(wanted: Expected) -> Mapping[str, Any]:
    """What is compared. An event is expected unless the test says ignored or unusable."""
    asked = {key: getattr(wanted, key) for key in wanted.model_fields_set}
    if "effective_at" in asked and asked["effective_at"] is not None:
        instant = rfc_3339(asked["effective_at"])
        asked["effective_at"] = instant.astimezone(UTC).isoformat() if instant else "RFC 3339"
    if not ("ignored" in asked or "unusable" in asked):
        asked |= {"ignored": None, "unusable": None}
    return asked


def _shown(found: Found) -> dict[str, Any]:
    result = found.result
    if isinstance(result, Ignored):
        return {"ignored": True, "id": found.id}
    if isinstance(result, Unusable):
        return {"unusable": result.code, "message": result.message, "id": found.id}
    return {"id": found.id} | shown(result)


def shown(mapped: Mapped) -> dict[str, Any]:
    """A canonical event as JSON has it."""
    event = mapped.event
    return {
        "type": event.type,
        "worker_id": event.worker_id,
        "organization": mapped.organization,
        "effective_at": event.effective_at.isoformat() if event.effective_at else None,
        "sequence": event.sequence,
        "attributes": dict(event.attributes),
        "groups": list(event.groups) if event.groups is not None else None,
        "immediate": event.immediate,
        "employment_id": event.employment_id,
        "snapshot": event.snapshot,
        "count": event.count,
        "enrich": mapped.enrich,
    }
