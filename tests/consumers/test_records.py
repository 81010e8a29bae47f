"""Who a record speaks for, and that every record becomes an input."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.admission import Input, NotUnderstood, Understood
from consumers.mappings.canonical import canonical
from consumers.records import Record, Route, read, routes
from service.organizations import EventSource
from tests.consumers.support import START

EVENT = {"specversion": "1.0", "id": "e", "source": "/hr", "type": "worker.hired", "subject": "w"}


def taken(
    value: bytes | None,
    *organizations: str,
    key: bytes | None = b"w-1",
    headers: list[tuple[str, bytes | None]] | None = None,
) -> Input:
    record = Record(
        topic="hr.events",
        partition=0,
        offset=5,
        timestamp=1,
        key=key,
        value=value,
        headers=headers or [],
    )
    allowed = organizations or ("acme",)
    route = Route(source="hr", topic="hr.events", organizations=allowed, mapper=canonical)
    return read(record, route, START)


def code_of(given_one: Input) -> str:
    assert isinstance(given_one, NotUnderstood)
    return given_one.problem.code


def event(**data: Any) -> bytes:
    return json.dumps(EVENT | {"data": data}).encode()


def test_source_of_one_organization_speaks_for_it_unnamed() -> None:
    found = taken(event())
    assert isinstance(found, Understood)
    assert (found.organization, found.event.worker_id) == ("acme", "w")
    assert (found.received.source, found.received.source_id) == ("/hr", "e")


def test_source_of_several_names_one_of_its_own() -> None:
    found = taken(event(organization="globex"), "acme", "globex")
    assert isinstance(found, Understood)
    assert found.organization == "globex"
    assert code_of(taken(event(), "acme", "globex")) == "organization_missing"
    refused = taken(event(organization="initech"), "acme", "globex")
    assert isinstance(refused, NotUnderstood)
    assert (refused.ended, refused.problem.code) == ("rejected", "organization_not_allowed")
    assert refused.organization is None


def test_tombstone_is_a_deletion_of_the_key() -> None:
    found = taken(None)
    assert isinstance(found, Understood)
    assert (found.event.type, found.event.worker_id) == ("worker.deleted", "w-1")
    assert found.received.source_id is None


@pytest.mark.parametrize(
    ("key", "organizations", "code"),
    [
        (None, ("acme",), "tombstone_without_key"),
        (b"", ("acme",), "tombstone_without_key"),
        (b"\xff", ("acme",), "invalid_worker_id"),
        (b" ", ("acme",), "invalid_worker_id"),
        (b"w-1", ("acme", "globex"), "tombstone_without_organization"),
    ],
)
def test_tombstone_that_names_nobody_is_a_dead_letter(
    key: bytes | None, organizations: tuple[str, ...], code: str
) -> None:
    refused = taken(None, *organizations, key=key)
    assert code_of(refused) == code
    assert isinstance(refused, NotUnderstood)
    assert refused.ended == "deadlettered"


def test_event_without_data_does_what_its_type_says() -> None:
    headers: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-1"),
        ("ce_source", b"/hr"),
        ("ce_type", b"worker.terminated"),
        ("ce_subject", b"w-9"),
    ]
    found = taken(None, headers=headers)
    assert isinstance(found, Understood)
    assert (found.event.type, found.event.worker_id) == ("worker.terminated", "w-9")


def test_topic_of_two_sources_speaks_for_both() -> None:
    found, problems = routes(
        [
            EventSource(name="a", topic="hr", organizations=("acme",)),
            EventSource(name="b", topic="hr", organizations=("globex", "acme")),
        ]
    )
    assert found["hr"].organizations == ("acme", "globex")
    assert problems == []


def test_topic_whose_mapping_is_in_doubt_is_not_read() -> None:
    found, problems = routes(
        [
            EventSource(name="a", topic="hr", organizations=("acme",)),
            EventSource(name="b", topic="hr", organizations=("globex",), mapping="other"),
            EventSource(name="c", topic="more", organizations=("acme",), mapping="unknown"),
        ]
    )
    assert found == {}
    assert len(problems) == 2


@given(
    value=st.none() | st.binary(max_size=100) | st.just(event()),
    key=st.none() | st.binary(max_size=10),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["ce_type", "ce_id", "ce_source", "ce_specversion", "content-type"])
            | st.text(max_size=5),
            st.none() | st.binary(max_size=8) | st.just(b"1.0"),
        ),
        max_size=6,
    ),
)
def test_every_record_becomes_an_input_with_its_bytes(
    value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    received = taken(value, key=key, headers=headers).received
    assert (received.body, received.key) == (value, key)
    assert (received.topic, received.partition, received.offset) == ("hr.events", 0, 5)
    assert len(received.headers) == len(headers) + 1
    assert not any("\x00" in name for name, _ in received.headers)
