"""What counts as a CloudEvent on Kafka and over HTTP, and what is refused."""

import base64
import contextlib
import string
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings import http as http_binding
from cloudevents.core.bindings import kafka as kafka_binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from consumers.cloudevents import (
    BATCH,
    MAX_BYTES,
    MAX_DEPTH,
    STRUCTURED,
    InvalidItem,
    UnsupportedMediaType,
    read_record,
    read_request,
    rfc_3339,
    with_data,
)
from consumers.unusable import Unusable

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/hr",
    "type": "worker.hired",
    "subject": "w-1",
    "sequence": "7",
    "partitionkey": "w-1",
    "traceparent": TRACE,
    "data": {"email": "ada@acme.example"},
}
HEADERS: list[tuple[str, bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-1"),
    ("ce_source", b"/hr"),
    ("ce_type", b"worker.hired"),
    ("ce_subject", b"w-1"),
    ("ce_sequence", b"7"),
    ("ce_partitionkey", b"w-1"),
    ("ce_traceparent", TRACE.encode()),
]
DATA = orjson.dumps(EVENT["data"])


def refused(headers: list[tuple[str, bytes | None]], value: bytes | None) -> str:
    with pytest.raises(Unusable) as caught:
        read_record(headers, value)
    assert caught.value.message.endswith(".")
    return caught.value.code


def test_binary_and_structured_records_read_alike() -> None:
    structured = read_record([("content-type", STRUCTURED.encode())], orjson.dumps(EVENT))
    assert read_record(HEADERS, DATA) == structured
    assert (structured.id, structured.source, structured.type) == ("e-1", "/hr", "worker.hired")
    assert (structured.subject, structured.sequence) == ("w-1", "7")
    assert (structured.partition_key, structured.traceparent) == ("w-1", TRACE)
    assert structured.data == {"email": "ada@acme.example"}


def test_content_type_decides_for_structured_even_beside_ce_headers() -> None:
    headers = [*HEADERS, ("Content-Type", b"Application/CloudEvents+JSON; charset=UTF-8")]
    assert read_record(headers, orjson.dumps(EVENT | {"id": "inside"})).id == "inside"


def test_structured_event_without_content_type_is_recognised_by_specversion() -> None:
    assert read_record([], orjson.dumps(EVENT)).id == "e-1"


def test_a_byte_order_mark_is_no_part_of_the_event() -> None:
    marked = b"\xef\xbb\xbf" + orjson.dumps(EVENT)
    assert read_record([], marked) == read_record([], orjson.dumps(EVENT))
    (item,) = read_request(STRUCTURED, {}, marked)
    assert item.body == marked
    kept = orjson.loads(with_data(item.envelope, item.body, {"email": None}))
    assert kept["data"] == {"email": None}


def test_header_names_are_read_in_any_case() -> None:
    assert read_record([(name.upper(), value) for name, value in HEADERS], DATA).id == "e-1"


def test_bare_traceparent_header_is_read() -> None:
    headers = [pair for pair in HEADERS if pair[0] != "ce_traceparent"]
    assert read_record([*headers, ("traceparent", TRACE.encode())], DATA).traceparent == TRACE


def test_malformed_traceparent_is_dropped() -> None:
    headers = [pair for pair in HEADERS if pair[0] != "ce_traceparent"]
    assert read_record([*headers, ("traceparent", b"me")], DATA).traceparent is None


def test_kafka_key_is_not_taken_for_the_partition_key() -> None:
    headers = [pair for pair in HEADERS if pair[0] != "ce_partitionkey"]
    assert read_record(headers, DATA).partition_key is None


def test_binary_event_without_data_has_none() -> None:
    assert read_record(HEADERS, None).data is None


def test_data_may_come_in_base64() -> None:
    event = {name: value for name, value in EVENT.items() if name != "data"}
    encoded = base64.b64encode(DATA).decode()
    assert read_record([], orjson.dumps(event | {"data_base64": encoded})).data == EVENT["data"]


def test_null_attribute_is_an_absent_one() -> None:
    assert read_record([], orjson.dumps(EVENT | {"subject": None})).subject is None


def test_unknown_extensions_are_left_alone() -> None:
    assert read_record([], orjson.dumps(EVENT | {"someThing": {"a": 1}})).id == "e-1"


def test_time_that_is_no_timestamp_is_dropped() -> None:
    assert read_record([], orjson.dumps(EVENT | {"time": "yesterday"})).time is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": None}, "invalid_attribute"),
        ({"id": ""}, "invalid_attribute"),
        ({"id": 5}, "invalid_attribute"),
        ({"id": "x" * 513}, "invalid_attribute"),
        ({"id": "line\nfeed"}, "invalid_attribute"),
        ({"source": None}, "invalid_attribute"),
        ({"source": "/" * 1025}, "invalid_attribute"),
        ({"type": {}}, "invalid_attribute"),
        ({"subject": ""}, "invalid_attribute"),
        ({"specversion": "0.3"}, "unsupported_specversion"),
        ({"specversion": None}, "unsupported_specversion"),
        ({"datacontenttype": "text/xml", "data": "<a/>"}, "unsupported_data"),
        ({"data": None, "data_base64": "%%%"}, "invalid_data"),
        ({"data": None, "data_base64": "e30"}, "invalid_data"),
        ({"data": {"a": "nul \x00"}}, "malformed_json"),
    ],
)
def test_bad_structured_events_are_refused_with_a_reason(change: dict[str, Any], code: str) -> None:
    headers: list[tuple[str, bytes | None]] = [("content-type", STRUCTURED.encode())]
    assert refused(headers, orjson.dumps(EVENT | change)) == code


@pytest.mark.parametrize(
    ("headers", "value", "code"),
    [
        ([], b"\x00\xff garbage", "malformed_json"),
        ([], b'{"worker_id": "w-1"}', "not_a_cloudevent"),
        ([], b"[]", "not_a_cloudevent"),
        ([("content-type", STRUCTURED.encode())], b"[1]", "not_a_cloudevent"),
        ([("content-type", STRUCTURED.encode())], b"", "malformed_json"),
        ([("content-type", BATCH.encode())], b"[]", "unsupported_format"),
        ([("content-type", b"application/cloudevents+avro")], b"", "unsupported_format"),
        ([*HEADERS, ("content-type", b"text/plain")], b"hello", "unsupported_data"),
        (HEADERS, b"{", "malformed_json"),
        (HEADERS, b'"' + b"x" * MAX_BYTES + b'"', "too_large"),
        ([("ce_specversion", b"1.0"), ("ce_id", b"\xff")], b"{}", "invalid_attribute"),
        (HEADERS[:1], b"{}", "invalid_attribute"),
        (HEADERS, b'{"a":"\xff"}', "malformed_json"),
        (HEADERS, b"[" * 2000 + b"]" * 2000, "malformed_json"),
    ],
)
def test_bad_records_are_refused_with_a_reason(
    headers: list[tuple[str, bytes | None]], value: bytes, code: str
) -> None:
    assert refused(headers, value) == code


def test_nesting_has_a_limit() -> None:
    assert read_record(HEADERS, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH).data
    too_deep = b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2)
    assert refused(HEADERS, too_deep) == "too_deep"


def test_http_binary_structured_and_batch_read_alike() -> None:
    binary = read_request(
        "application/json",
        {name.replace("ce_", "ce-"): (value or b"").decode() for name, value in HEADERS},
        DATA,
    )
    structured = read_request(STRUCTURED, {}, orjson.dumps(EVENT))
    batch = read_request(BATCH, {}, orjson.dumps([EVENT, EVENT]))
    assert binary[0].envelope.data == structured[0].envelope.data
    assert [item.envelope for item in batch] == [structured[0].envelope] * 2
    assert orjson.loads(batch[0].body) == EVENT
    assert binary[0].body == DATA
    assert ("ce-id", "e-1") in binary[0].headers


def test_http_header_values_are_percent_decoded() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "caf%C3%A9",
        "ce-source": "/hr",
        "ce-type": "worker.hired",
    }
    assert read_request("application/json", headers, b"{}")[0].envelope.id == "café"
    with pytest.raises(Unusable):
        read_request("application/json", headers | {"ce-id": "%FF"}, b"{}")


def test_empty_batch_holds_nothing() -> None:
    assert read_request(BATCH, {}, b"[]") == []


def test_bad_element_of_a_batch_is_named() -> None:
    with pytest.raises(InvalidItem) as caught:
        read_request(BATCH, {}, orjson.dumps([EVENT, EVENT | {"id": ""}]))
    assert (caught.value.index, caught.value.code) == (1, "invalid_attribute")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/cloudevents+xml", "multipart/form-data"]
)
def test_other_media_types_are_not_read(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        read_request(content_type, {}, b"{}")


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("2026-01-31T18:42:00Z", True),
        ("2026-01-31t18:42:00.1234567z", True),
        ("2026-01-31T18:42:00+0000", True),
        ("2026-01-31T18:42:00", False),
        ("2026-02-30T18:42:00Z", False),
        ("2026-01-31T18:42:60Z", False),
        ("20260131T184200Z", False),
    ],
)
def test_timestamps_have_an_offset(text: str, readable: bool) -> None:
    assert (rfc_3339(text) is not None) is readable


_values = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40
)
_data = st.dictionaries(
    st.text(string.ascii_letters, min_size=1, max_size=8),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _values,
    min_size=1,
    max_size=5,
)


@given(id=_values, source=_values, subject=_values, data=_data)
def test_what_another_implementation_writes_is_read_back(
    id: str, source: str, subject: str, data: dict[str, Any]
) -> None:
    attributes: dict[str, Any] = {
        "id": id,
        "source": source,
        "type": "worker.changed",
        "subject": subject,
        "datacontenttype": "application/json",
    }
    event = CloudEvent(attributes, data)
    binary = kafka_binding.to_binary(event, JSONFormat())
    structured = kafka_binding.to_structured(event, JSONFormat())
    request = http_binding.to_binary(event, JSONFormat())
    envelopes = [
        read_record(list(binary.headers.items()), binary.value),
        read_record(list(structured.headers.items()), structured.value),
        read_request(request.headers["content-type"], request.headers, request.body)[0].envelope,
    ]
    for envelope in envelopes:
        assert (envelope.id, envelope.source, envelope.subject) == (id, source, subject)
        assert envelope.data == data
        assert envelope.time is not None


@given(
    st.lists(st.tuples(st.text(max_size=12), st.none() | st.binary(max_size=20)), max_size=5),
    st.none() | st.binary(max_size=200),
)
def test_any_record_is_read_or_refused(
    headers: list[tuple[str, bytes | None]], value: bytes | None
) -> None:
    with contextlib.suppress(Unusable):
        read_record(headers, value)


@given(
    st.dictionaries(
        st.sampled_from(["specversion", "id", "source", "type", "subject", "datacontenttype"]),
        st.sampled_from(["1.0", "", " ", "x", "application/json", 1, True, [], {}]),
    )
)
def test_what_is_taken_for_a_cloudevent_the_package_takes_for_one_too(
    attributes: dict[str, Any],
) -> None:
    document = {**{name: EVENT[name] for name in ("specversion", "id", "source")}, **attributes}
    record = [("content-type", STRUCTURED.encode())], orjson.dumps(document)
    try:
        CloudEvent(dict(document))
    except Exception:
        with pytest.raises(Unusable):
            read_record(*record)
    else:
        with contextlib.suppress(Unusable):  # of data that is no JSON, or a text that is too long
            assert read_record(*record).id == document["id"]
