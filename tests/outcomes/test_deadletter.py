"""The dead letter: as the record came, and what went wrong beside it."""

import base64
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.directory.events import Event
from service.outcomes.deadletter import RECORD_TIMESTAMP, dead_letter
from tests.outcomes.test_cloudevents import TRACE, outcome

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
FAILED = {"class": "input", "code": "malformed_json", "message": "No JSON.", "httpStatus": None}


def event(**changes: Any) -> Event:
    values: dict[str, Any] = {
        "number": 1,
        "id": "ev-1",
        "organization": "acme",
        "door": "kafka",
        "source": "hr.events",
        "source_id": None,
        "type": "unreadable",
        "topic": "hr.events",
        "partition": 2,
        "offset": 41,
        "key": b"w-1",
        "headers": [[RECORD_TIMESTAMP, base64.b64encode(b"1700000000000").decode()]],
        "body": b"\x00",
        "body_hash": "",
        "user_id": None,
        "state": "deadlettered",
        "result": None,
        "error": FAILED,
        "causation_id": None,
        "correlation_id": None,
        "traceparent": None,
        "accepted_at": AT,
        "effective_at": None,
        "finished_at": AT,
    }
    return Event(**values | changes)


def letter_of(stored: Event) -> Any:
    failed = outcome(type="io.auth0-provisioner.event.deadlettered.v1", data={"error": FAILED})
    return dead_letter(stored, failed, group="intake", service_version="0.1.0")


def test_headers_tell_where_it_came_from_and_why_it_is_here() -> None:
    assert dict(letter_of(event(causation_id="ev-0")).headers) == {
        "dlq-original-topic": b"hr.events",
        "dlq-original-partition": b"2",
        "dlq-original-offset": b"41",
        "dlq-original-timestamp": b"1700000000000",
        "dlq-group": b"intake",
        "dlq-event-id": b"ev-1",
        "dlq-tenant": b"acme",
        "dlq-reason": b"malformed_json",
        "dlq-class": b"input",
        "dlq-attempts": b"1",
        "dlq-first-failed-at": b"2026-11-23T09:00:00+00:00",
        "dlq-last-failed-at": b"2026-11-23T09:00:00+00:00",
        "dlq-service-version": b"0.1.0",
        "dlq-replay-of": b"ev-0",
        "kafka_dlt-original-topic": b"hr.events",
        "kafka_dlt-original-partition": b"2",
        "kafka_dlt-original-offset": b"41",
        "kafka_dlt-original-timestamp": b"1700000000000",
        "kafka_dlt-original-consumer-group": b"intake",
    }


def test_headers_tell_how_often_it_was_tried_by_which_mapping_and_where_its_trace_leads() -> None:
    told = {"error": FAILED, "attempts": 3, "firstFailedAt": "2026-11-23T08:00:00+00:00"}
    failed = outcome(type="io.auth0-provisioner.event.deadlettered.v1", data=told)
    stored = event(mapping="workday@3", traceparent=TRACE, tracestate="vendor=1")
    headers = dict(dead_letter(stored, failed, group="intake", service_version="0.1.0").headers)
    assert headers["dlq-attempts"] == b"3"
    assert headers["dlq-first-failed-at"] == b"2026-11-23T08:00:00+00:00"
    assert headers["dlq-last-failed-at"] == b"2026-11-23T09:00:00+00:00"
    assert headers["dlq-mapping-version"] == b"workday@3"
    assert (headers["traceparent"], headers["tracestate"]) == (TRACE.encode(), b"vendor=1")


def test_a_trace_that_came_as_a_header_is_there_once_and_as_it_came() -> None:
    came = ["traceparent", base64.b64encode(TRACE.encode()).decode()]
    stamp = [RECORD_TIMESTAMP, base64.b64encode(b"1").decode()]
    letter = letter_of(event(headers=[came, stamp], traceparent=TRACE))
    assert [value for name, value in letter.headers if name == "traceparent"] == [TRACE.encode()]


def test_a_replay_that_failed_is_the_record_as_it_came_under_an_id_of_its_own() -> None:
    came = event(organization=None)
    again = event(
        id="ev-2",
        door="operator",
        type="operator.replay",
        causation_id="ev-1",
        **dict.fromkeys(("topic", "partition", "offset", "key", "body")),
        headers=[],
    )
    letter = dead_letter(
        again,
        outcome(data={"error": FAILED}),
        group="intake",
        service_version="0.1.0",
        origin=came,
        replays=1,
    )
    headers = dict(letter.headers)
    assert (letter.key, letter.value) == (came.key, came.body)
    assert headers["dlq-original-offset"] == b"41"
    assert headers["dlq-original-timestamp"] == b"1700000000000"
    assert (headers["dlq-event-id"], headers["dlq-replay-of"]) == (b"ev-2", b"ev-1")
    assert headers["dlq-replay-count"] == b"1"
    assert headers["dlq-tenant"] == b"acme"


def test_a_reused_id_is_no_replay() -> None:
    reused = outcome(data={"error": FAILED | {"code": "id_reuse_conflict"}})
    stored = event(causation_id="ev-0")
    headers = dead_letter(stored, reused, group="intake", service_version="0.1.0").headers
    assert "dlq-replay-of" not in dict(headers)


def test_value_that_is_too_large_is_left_out_and_said_so() -> None:
    smaller = letter_of(event()).without_value()
    assert smaller.value is None
    assert smaller.headers[-1] == ("dlq-value-omitted", b"true")


@given(
    key=st.none() | st.binary(max_size=20),
    body=st.none() | st.binary(max_size=200),
    headers=st.lists(
        st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=20)), max_size=4
    ),
)
def test_key_value_and_headers_stay_identical(
    key: bytes | None, body: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    kept: list[list[str | None]] = [
        [name, None if value is None else base64.b64encode(value).decode()]
        for name, value in headers
    ]
    stamp: list[str | None] = [RECORD_TIMESTAMP, base64.b64encode(b"1").decode()]
    letter = letter_of(event(key=key, body=body, headers=[*kept, stamp]))
    assert (letter.key, letter.value) == (key, body)
    assert letter.headers[: len(headers)] == headers
    assert all(name != RECORD_TIMESTAMP for name, _ in letter.headers[len(headers) :])
