"""CloudEvents 1.0 from Kafka records and HTTP requests. Pure: bytes in, envelopes out.

Knows binary, structured and batch mode, and JSON data; not what the data means.
"""

from __future__ import annotations

import base64
import binascii
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from urllib.parse import unquote

import orjson
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent

from consumers.unusable import Unusable
from service.tracing import NONE, Trace, trace_of

MAX_BYTES: Final = 1024 * 1024
"""Longest value or body that is read, in bytes."""
MAX_BATCH: Final = 1000
"""Most events in one batch: they are taken in together, and others wait for that long."""
MAX_DEPTH: Final = 64
"""Deepest nesting of JSON that is read."""

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

_JSON_TYPE: Final = re.compile(r"^[a-z]+/(?:[a-z0-9.!#$&^_-]+\+)?json$")
_RFC_3339: Final = re.compile(
    r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d)$"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# Together they stay below what one entry of a Postgres index can hold (about 2,700 bytes).
_LONGEST: Final[Mapping[str, int]] = {"id": 512, "source": 1024, "type": 256, "subject": 512}
_REQUIRED: Final = frozenset({"specversion", "id", "source", "type"})
_CORE: Final = ("specversion", "id", "source", "type", "subject", "datacontenttype")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One CloudEvent: the attributes that we use, and its data parsed from JSON.

    ``data`` is None where the event carries none. ``sequence`` is the text of the extension.
    """

    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    partition_key: str | None = None
    sequence: str | None = None
    trace: Trace = NONE
    content_type: str | None = None
    data: Any = None

    @property
    def traceparent(self) -> str | None:
        return self.trace.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One event of an HTTP request, with the bytes that were sent for it.

    An element of a batch has no bytes of its own: ``body`` is its JSON, written again; ``index`` is
    its place.
    """

    envelope: Envelope
    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    index: int | None = None


class UnsupportedMediaType(Unusable):
    """The HTTP body is of a kind that this door does not read (415)."""


class InvalidItem(Unusable):
    """An event of a batch is unusable; ``index`` counts from 0."""

    def __init__(self, index: int, cause: Unusable) -> None:
        super().__init__(cause.code, cause.message)
        self.index = index


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """JSON that is no CloudEvent: only a mapping can tell what it says."""

    payload: Any


def read_record(headers: Sequence[tuple[str, bytes | None]], value: bytes | None) -> Envelope:
    """As ``read_any_record``, where nothing but a CloudEvent will do."""
    found = read_any_record(headers, value)
    if isinstance(found, Plain):
        raise _not_a_cloudevent()
    return found


def read_any_record(
    headers: Sequence[tuple[str, bytes | None]], value: bytes | None
) -> Envelope | Plain:
    """The CloudEvent in a Kafka record (CloudEvents Kafka binding 1.0, section 3), or plain JSON.

    Structured where ``content-type`` starts with ``application/cloudevents``, whatever ``ce_``
    headers are there as well; else binary. A JSON object with ``specversion`` and no ``ce_`` headers
    counts as structured too: its producer forgot the content type. Raises Unusable.
    """
    content_type = _kafka_header(headers, "content-type")
    media_type = _media_type(content_type)
    if media_type.startswith("application/cloudevents"):
        if media_type != STRUCTURED:
            raise Unusable(
                "unsupported_format", f"On Kafka, structured events are sent as {STRUCTURED}."
            )
        return _structured(_object(_json(value or b"")))
    attributes = _kafka_attributes(headers)
    if not attributes:
        document = _json(value or b"")
        if isinstance(document, dict) and "specversion" in document:
            return _structured(_object(document))
        return Plain(payload=document)
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    return _envelope(attributes, _binary_data(media_type, value))


def read_request(content_type: str, headers: Mapping[str, str], body: bytes) -> list[Item]:
    """As ``read_any_request``, where nothing but CloudEvents will do."""
    found = read_any_request(content_type, headers, body)
    if isinstance(found, Plain):
        raise _not_a_cloudevent()
    return found


def read_any_request(
    content_type: str, headers: Mapping[str, str], body: bytes
) -> list[Item] | Plain:
    """The CloudEvents in an HTTP request (CloudEvents HTTP binding 1.0, section 3), or plain JSON.

    ``headers``: names in lower case. Raises Unusable; UnsupportedMediaType where the body is not
    JSON; InvalidItem where one event of a batch is the cause.
    """
    media_type = _media_type(content_type)
    attributes = _http_attributes(headers)
    if media_type.startswith("application/cloudevents"):
        if media_type == BATCH:
            return _batch(_json(body))
        if media_type != STRUCTURED:
            raise UnsupportedMediaType(
                "unsupported_format", f"Send events as {STRUCTURED} or {BATCH}."
            )
        return [Item(envelope=_structured(_object(_json(body))), body=body)]
    if media_type and not _JSON_TYPE.fullmatch(media_type):
        raise UnsupportedMediaType("unsupported_format", "Send the data of events as JSON.")
    if attributes:
        if content_type:
            attributes["datacontenttype"] = content_type
        sent = [(name, headers[name]) for name in headers if name.startswith("ce-")]
        envelope = _envelope(attributes, _binary_data(media_type, body))
        return [Item(envelope=envelope, body=body, headers=[*sent, ("content-type", content_type)])]
    document = _json(body)
    if isinstance(document, dict) and "specversion" in document:
        return [Item(envelope=_structured(_object(document)), body=body)]
    return Plain(payload=document)


def with_data(envelope: Envelope, body: bytes | None, data: Any) -> bytes:
    """The body of the same event with other data: in structured mode the envelope is around it."""
    document = parse_json(body) if body else None
    if isinstance(document, dict) and _is_envelope(cast("dict[str, Any]", document), envelope):
        members = cast("dict[str, Any]", document)
        kept = {name: value for name, value in members.items() if name != "data_base64"}
        return orjson.dumps(kept | {"data": data})
    return orjson.dumps(data)


def _is_envelope(document: Mapping[str, Any], envelope: Envelope) -> bool:
    return "specversion" in document and document.get("id") == envelope.id


def content_of(envelope: Envelope) -> bytes:
    """What an event says of its subject: the same bytes for every mode that it may be sent in."""
    said = [envelope.subject, envelope.sequence, envelope.data]
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


def rfc_3339(text: str) -> datetime | None:
    """The instant that an RFC 3339 timestamp names, None where it is none. ``+0000`` is read too."""
    if not _RFC_3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _batch(document: Any) -> list[Item]:
    if not isinstance(document, list):
        raise Unusable("invalid_batch", "A batch is a JSON array of CloudEvents.")
    if len(cast("list[Any]", document)) > MAX_BATCH:
        raise Unusable("batch_too_large", f"A batch has {MAX_BATCH} events at most.")
    items: list[Item] = []
    for index, element in enumerate(cast("list[Any]", document)):
        try:
            envelope = _structured(_object(element))
        except Unusable as problem:
            raise InvalidItem(index, problem) from problem
        items.append(Item(envelope=envelope, body=orjson.dumps(element), index=index))
    return items


def _structured(document: dict[str, Any]) -> Envelope:
    # A null attribute is an absent one (CloudEvents JSON format 1.0, section 2.2).
    present = {name: value for name, value in document.items() if value is not None}
    data = present.pop("data", None)
    encoded = present.pop("data_base64", None)
    if data is None and encoded is not None:
        try:
            data = _json(base64.b64decode(encoded, validate=True))
        except (binascii.Error, TypeError, ValueError):
            raise Unusable("invalid_data", "data_base64 is not base64.") from None
    elif not _is_json(present.get("datacontenttype")):
        raise Unusable("unsupported_data", "The data of an event must be JSON.")
    return _envelope(present, data)


def _binary_data(media_type: str, value: bytes | None) -> Any:
    if not value:
        return None
    if media_type and not _JSON_TYPE.fullmatch(media_type):
        raise Unusable("unsupported_data", "The data of an event must be JSON.")
    return _json(value)


def _is_json(content_type: object) -> bool:
    return not isinstance(content_type, str) or bool(
        _JSON_TYPE.fullmatch(_media_type(content_type))
    )


def _envelope(attributes: Mapping[str, Any], data: Any) -> Envelope:
    """Checks the attributes that we use; extensions that we do not know are left alone.

    The package's own readers are not used: they make up a missing id, which defeats recognising
    duplicates, take unreadable JSON for text, and put the Kafka key over ``partitionkey``.
    """
    core = {name: attributes[name] for name in _CORE if name in attributes}
    if core.get("specversion") != "1.0":
        raise Unusable("unsupported_specversion", 'specversion must be "1.0".')
    if not _is_plain(core):
        _validate(core)
    for name, longest in _LONGEST.items():
        value = core.get(name, "")
        if len(value.encode()) > longest or _CONTROL.search(value):
            raise Unusable(
                "invalid_attribute",
                f"The attribute {name} must be at most {longest} bytes without control characters.",
            )
    time = _text(attributes, "time")
    return Envelope(
        id=core["id"],
        source=core["source"],
        type=core["type"],
        subject=core.get("subject"),
        time=rfc_3339(time) if time else None,  # nothing is decided by it
        partition_key=_text(attributes, "partitionkey"),
        sequence=_text(attributes, "sequence"),
        trace=trace_of(_text(attributes, "traceparent"), _text(attributes, "tracestate")),
        content_type=core.get("datacontenttype"),
        data=data,
    )


def _is_plain(core: Mapping[str, Any]) -> bool:
    """Whether the package would find nothing wrong, which takes it longer than all else here."""
    return all(type(value) is str and value for value in core.values()) and core.keys() >= _REQUIRED


def _validate(core: Mapping[str, Any]) -> None:
    if "id" not in core:  # CloudEvent would make one up
        raise Unusable("invalid_attribute", "The attribute id is missing.")
    try:
        CloudEvent(dict(core))
    except CloudEventValidationError as error:
        names = ", ".join(sorted(error.errors))
        raise Unusable(
            "invalid_attribute", f"These attributes are missing, empty or no text: {names}."
        ) from None


def _text(attributes: Mapping[str, Any], name: str) -> str | None:
    """An extension as text; one that is no plain, short value is as good as absent."""
    value = attributes.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or len(value) > 512 or _CONTROL.search(value):
        return None
    return value or None


def _kafka_attributes(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in headers:
        lower = name.lower()
        if not lower.startswith("ce_") or value is None:
            continue
        try:
            found[lower.removeprefix("ce_")] = value.decode()
        except UnicodeDecodeError:
            raise Unusable("invalid_attribute", f"The header {lower} is not UTF-8.") from None
    return _with_trace(found, trace_of_record(headers))


def _with_trace(found: dict[str, Any], bare: Trace) -> dict[str, Any]:
    """A binary event's attributes; its own trace counts before that of what carries it."""
    if found and "traceparent" not in found and bare.parent is not None:
        found |= {"traceparent": bare.parent, "tracestate": bare.state}
    return found


def trace_of_record(headers: Sequence[tuple[str, bytes | None]]) -> Trace:
    """The trace of a record by its bare headers, as OpenTelemetry's instrumentation sends them."""
    return trace_of(_kafka_header(headers, "traceparent"), _kafka_header(headers, "tracestate"))


def trace_of_request(headers: Mapping[str, str]) -> Trace:
    """The same of a request. ``headers``: names in lower case."""
    return trace_of(headers.get("traceparent"), headers.get("tracestate"))


def _kafka_header(headers: Iterable[tuple[str, bytes | None]], wanted: str) -> str | None:
    for name, value in headers:
        if name.lower() == wanted and value is not None:
            return value.decode("utf-8", "replace")
    return None


def _http_attributes(headers: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in headers.items():
        if name.startswith("ce-"):
            try:
                found[name.removeprefix("ce-")] = unquote(value, errors="strict")
            except UnicodeDecodeError:
                raise Unusable("invalid_attribute", f"The header {name} is not UTF-8.") from None
    return _with_trace(found, trace_of_request(headers))


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Unusable("not_a_cloudevent", "A structured CloudEvent is a JSON object.")
    return cast("dict[str, Any]", document)


def _not_a_cloudevent() -> Unusable:
    return Unusable(
        "not_a_cloudevent",
        "Neither CloudEvents headers nor a structured CloudEvent were found.",
    )


def _json(text: bytes) -> Any:
    if len(text) > MAX_BYTES:
        raise Unusable("too_large", f"An event may have {MAX_BYTES} bytes at most.")
    try:
        document = parse_json(text)
    except orjson.JSONDecodeError:
        raise Unusable("malformed_json", "The event is not valid JSON in UTF-8.") from None
    check_shape(document)
    return document


def parse_json(text: bytes) -> Any:
    """JSON, behind a byte order mark, too (RFC 8259 section 8.1): some systems write one, and would
    not send an event again that was refused for it. Raises JSONDecodeError.
    """
    return orjson.loads(text.removeprefix(BOM_UTF8))


def check_shape(document: Any) -> None:
    """Refuses deep nesting, and U+0000, which no database column for text can hold."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                members = cast("dict[str, Any]", value)
                below += members.values()
                below += members.keys()
            elif isinstance(value, list):
                below += cast("list[Any]", value)
            elif isinstance(value, str) and "\x00" in value:
                raise Unusable("malformed_json", "The event holds the character U+0000.")
        if not below:
            return
        level = below
    raise Unusable("too_deep", f"JSON may be nested {MAX_DEPTH} levels at most.")
