"""What an outcome looks like to those who read it."""

from datetime import UTC, datetime
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from consumers.cloudevents import read_record
from service.directory.outbox import Outcome
from service.outcomes.cloudevents import to_document, to_record

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def outcome(**changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "number": 7,
        "id": "o-1",
        "key": "acme:u-1",
        "sequence": 3,
        "type": "io.auth0-provisioner.user.created.v1",
        "organization": "acme",
        "user_id": "u-1",
        "event_id": "ev-1",
        "correlation_id": "c-1",
        "traceparent": TRACE,
        "data": {"latencyMs": 12},
        "created_at": datetime(2026, 11, 23, 9, tzinfo=UTC),
        "published_at": None,
    }
    return Outcome(**values | changes)


def test_record_is_keyed_by_organization_and_user_and_tells_its_cause() -> None:
    record = to_record(outcome())
    assert record.key == b"acme:u-1"
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"o-1",
        "ce_source": b"/auth0-provisioner/acme",
        "ce_type": b"io.auth0-provisioner.user.created.v1",
        "ce_subject": b"u-1",
        "ce_time": b"2026-11-23T09:00:00Z",
        "ce_partitionkey": b"acme:u-1",
        "ce_sequence": b"3",
        "ce_causationid": b"ev-1",
        "ce_correlationid": b"c-1",
        "ce_traceparent": TRACE.encode(),
        "ce_organization": b"acme",
        "content-type": b"application/json",
        "traceparent": TRACE.encode(),
    }
    assert orjson.loads(record.value) == {
        "organization": "acme",
        "userId": "u-1",
        "eventId": "ev-1",
        "latencyMs": 12,
    }


def test_document_says_what_the_record_says() -> None:
    document = to_document(outcome())
    record = to_record(outcome())
    assert document.pop("data") == orjson.loads(record.value)
    assert document.pop("datacontenttype") == "application/json"
    headers = {name: value.decode() for name, value in record.headers if name.startswith("ce_")}
    assert {f"ce_{name}": value for name, value in document.items()} == headers


def test_outcome_without_user_or_organization_has_a_subject_still() -> None:
    bare = outcome(
        key="hr.events",
        organization=None,
        user_id=None,
        correlation_id=None,
        traceparent=None,
    )
    document = to_document(bare)
    assert (document["source"], document["subject"]) == ("/auth0-provisioner", "ev-1")
    assert to_document(outcome(user_id=None, event_id=None))["subject"] == "acme:u-1"
    assert "correlationid" not in document


_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@given(
    data=st.dictionaries(_text, st.integers(-(2**63), 2**63) | _text, max_size=4),
    key=st.text(st.characters(categories=("L", "N")), min_size=1, max_size=30),
)
def test_any_outcome_is_read_back_as_a_cloudevent(data: dict[str, Any], key: str) -> None:
    record = to_record(outcome(data=data, key=key))
    envelope = read_record(record.headers, record.value)
    assert (envelope.id, envelope.partition_key, envelope.sequence) == ("o-1", key, "3")
    assert envelope.data == data | {"organization": "acme", "userId": "u-1", "eventId": "ev-1"}
