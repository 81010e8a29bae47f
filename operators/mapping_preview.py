"""What payloads of a file would be taken for, line by line. Stores nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson

from consumers.cloudevents import STRUCTURED, Envelope, read_request
from consumers.mappings.canonical import MAPPINGS, Mapped, Mapper
from consumers.unusable import Unusable
from service.errors import ConfigurationError


def preview(mapping: str, file: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line number (from 1) and the canonical event, or why there is none; empty lines are passed over.

    A payload is a structured CloudEvent, or a canonical event by itself with its ``type``. Raises
    ConfigurationError for an unknown mapping or an unreadable file.
    """
    mapper = MAPPINGS.get(mapping)
    if mapper is None:
        raise ConfigurationError(f"There is no mapping {mapping}: use {', '.join(MAPPINGS)}.")
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}).") from error
    for number, payload in enumerate(content.split(b"\n"), start=1):
        if payload.strip():
            yield number, _mapped(mapper, payload, number)


def _mapped(mapper: Mapper, payload: bytes, number: int) -> dict[str, Any] | str:
    try:
        return _document(mapper(_envelope(payload, number)))
    except Unusable as problem:
        return f"{problem.code}: {problem.message}"


def _envelope(payload: bytes, number: int) -> Envelope:
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise Unusable("malformed_json", "The line is not valid JSON in UTF-8.") from None
    if not isinstance(document, dict):
        raise Unusable("not_an_event", "A payload is a JSON object.")
    event = cast("dict[str, Any]", document)
    if "specversion" in event:
        (item,) = read_request(STRUCTURED, {}, payload)
        return item.envelope
    kind, data = event.get("type"), event.get("data")
    if not isinstance(kind, str):
        raise Unusable("missing_type", "A payload has a type, or is a structured CloudEvent.")
    return Envelope(
        id=str(event.get("id") or number),
        source=str(event.get("source") or "preview"),
        type=kind,
        subject=event.get("subject") if isinstance(event.get("subject"), str) else None,
        data=data if isinstance(data, dict) else event,
    )


def _document(mapped: Mapped) -> dict[str, Any]:
    event = mapped.event
    return {
        "type": event.type,
        "worker_id": event.worker_id,
        "organization": mapped.organization,
        "effective_at": event.effective_at,
        "sequence": event.sequence,
        "attributes": dict(event.attributes),
        "groups": list(event.groups) if event.groups is not None else None,
        "immediate": event.immediate,
        "employment_id": event.employment_id,
        "snapshot": event.snapshot,
    }
