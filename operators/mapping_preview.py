"""What payloads of a file would be taken for, line by line. Stores nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import orjson

from consumers.cloudevents import STRUCTURED as _STRUCTURED
from consumers.cloudevents import Envelope, Plain, parse_json, read_any_request, read_request
from consumers.mappings import packs
from consumers.mappings.canonical import Mapped, canonical, canonical_type, in_zone
from consumers.mappings.compiling import Compiled
from consumers.mappings.engine import Arrived, Found, Ignored, Result, read
from consumers.mappings.trial import shown
from consumers.unusable import Unusable
from service.directory.mappings import Declared
from service.errors import ConfigurationError

SOURCE: Final = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One event of a line. ``line`` counts from 1; ``child`` from 0, None where nothing was split."""

    line: int
    child: int | None
    id: str
    result: Result


def is_file(mapping: str) -> bool:
    """Whether a mapping is named by its file."""
    return Path(mapping).suffix in (".yaml", ".yml") or os.sep in mapping


def is_shipped(mapping: str) -> bool:
    return mapping in packs.names()


def chosen(mapping: str, stored: Mapping[str, Declared]) -> Compiled | None:
    """The mapping of a name or a file, None for canonical. The tests of a file run first.

    Raises ConfigurationError that names what is wrong, or the mappings that there are.
    """
    if is_file(mapping):
        return packs.file(Path(mapping))[1]
    if not is_shipped(mapping) and mapping not in stored:
        names = ", ".join([*packs.names(), *sorted(stored)])
        raise ConfigurationError(f"There is no mapping {mapping}: use {names}, or a file.")
    return packs.named(mapping, stored)


def preview(
    mapping: Compiled | None, file: Path, *, now: datetime, zone: str | None = None
) -> Iterator[Preview]:
    """The events of each line; empty lines are passed over.

    A payload is JSON as the mapping's source sends it, or a structured CloudEvent; for canonical
    also a canonical event by itself with its ``type``. Raises ConfigurationError for an unreadable
    file.
    """
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}).") from error
    for number, payload in enumerate(content.split(b"\n"), start=1):
        if not payload.strip():
            continue
        for found in _found(mapping, payload, number, now, zone):
            yield Preview(line=number, child=found.child, id=found.id, result=found.result)


def document(found: Preview, mapped: Mapped) -> dict[str, Any]:
    """A canonical event as the command prints it."""
    return shown(mapped) | {"id": found.id}


def problem_of(result: Ignored | Unusable) -> str:
    return f"{result.code}: {result.message}"


def _found(
    mapping: Compiled | None, payload: bytes, number: int, now: datetime, zone: str | None
) -> list[Found]:
    try:
        if mapping is None:
            return [_canonical(_envelope(payload, number), zone)]
        sent = read_any_request("application/json", {}, payload)
        envelope = None if isinstance(sent, Plain) else sent[0].envelope
        if envelope is not None and canonical_type(envelope.type) is not None:
            return [_canonical(envelope, zone)]
        return read(
            mapping,
            Arrived(
                payload=sent.payload if isinstance(sent, Plain) else sent[0].envelope.data,
                source=SOURCE if envelope is None else envelope.source,
                at=now,
                envelope=envelope,
                zone=zone,
            ),
        )
    except Unusable as problem:
        return [Found(id=str(number), type="", result=problem, content=b"")]


def _canonical(envelope: Envelope, zone: str | None) -> Found:
    result: Result
    try:
        result = in_zone(canonical, zone)(envelope)
    except Unusable as problem:
        result = problem
    return Found(id=envelope.id, type=envelope.type, result=result, content=b"")


def _envelope(payload: bytes, number: int) -> Envelope:
    try:
        document = parse_json(payload)
    except orjson.JSONDecodeError:
        raise Unusable("malformed_json", "The line is not valid JSON in UTF-8.") from None
    if not isinstance(document, dict):
        raise Unusable("not_an_event", "A payload is a JSON object.")
    event = cast("dict[str, Any]", document)
    if "specversion" in event:
        (item,) = read_request(_STRUCTURED, {}, payload)
        return item.envelope
    kind, data = event.get("type"), event.get("data")
    if not isinstance(kind, str):
        raise Unusable("missing_type", "A payload has a type, or is a structured CloudEvent.")
    return Envelope(
        id=str(event.get("id") or number),
        source=str(event.get("source") or SOURCE),
        type=kind,
        subject=event.get("subject") if isinstance(event.get("subject"), str) else None,
        data=data if isinstance(data, dict) else event,
    )
