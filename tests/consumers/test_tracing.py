"""A trace from the event that comes in to the outcomes and the dead letter that go out."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from consumers.mappings.canonical import canonical
from consumers.records import Record, Route, read
from consumers.storing import store
from service.directory.database import Database
from service.outcomes.cloudevents import to_record
from service.outcomes.deadletter import dead_letter
from tests.consumers.support import START, events_of, outcomes_of
from tests.consumers.test_http import client, clock, event, send, token

__all__ = ["client", "clock", "token"]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"traceparent": PARENT, "tracestate": "vendor=1"}
ROUTE = Route(source="hr", topic="hr.events", organizations=("acme",), mapper=canonical)


def record(document: Any, headers: dict[str, str]) -> Record:
    return Record(
        topic="hr.events",
        partition=0,
        offset=0,
        timestamp=0,
        key=b"w-1",
        value=json.dumps(document).encode(),
        headers=[(name, value.encode()) for name, value in headers.items()],
    )


async def traces(database: Database) -> set[tuple[str | None, str | None]]:
    """Those of everything that was stored."""
    rows = [*await events_of(database), *await outcomes_of(database)]
    return {(row.traceparent, row.tracestate) for row in rows}


@pytest.mark.parametrize(
    ("attributes", "headers"), [(TRACE, {}), ({}, TRACE), (TRACE, {"traceparent": OTHER})]
)
async def test_over_http_it_stands_in_the_event_or_in_the_request(
    client: httpx.AsyncClient,
    database: Database,
    attributes: dict[str, str],
    headers: dict[str, str],
) -> None:
    for number in range(2):  # the second one is a duplicate, and ends
        document = event(**attributes) | {"data": {"worker_id": "w-1"}}
        assert (await send(client, document, **headers)).status_code == 202, number
    assert len(await outcomes_of(database)) >= 1
    assert await traces(database) == {(PARENT, "vendor=1")}


BINARY = {"ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "/hr", "ce_type": "worker.hired"}


@pytest.mark.parametrize(
    ("document", "headers"),
    [
        (event() | TRACE, {"content-type": "application/cloudevents+json"}),
        (event(), {"content-type": "application/cloudevents+json", **TRACE}),
        ({"worker_id": ""}, {**BINARY, **TRACE}),
        ({"worker_id": ""}, {**BINARY, "ce_traceparent": PARENT, "ce_tracestate": "vendor=1"}),
        (["no event"], TRACE),
    ],
)
async def test_over_kafka_it_reaches_outcome_and_dead_letter_once(
    database: Database, document: Any, headers: dict[str, str]
) -> None:
    if isinstance(document, dict) and "specversion" in document:
        document["data"] = {"worker_id": ""}  # nobody: it ends as a dead letter
    came = record(document, headers)
    await store(database, [read(came, ROUTE, START)])
    assert await traces(database) == {(PARENT, "vendor=1")}
    [stored], [told] = await events_of(database), await outcomes_of(database)
    out = to_record(told).headers
    assert ("traceparent", PARENT.encode()) in out
    assert ("tracestate", b"vendor=1") in out
    assert ("ce_tracestate", b"vendor=1") in out
    letter = dead_letter(stored, told, group="g", service_version="0")
    assert (letter.key, letter.value) == (came.key, came.value)
    assert letter.headers[: len(headers)] == list(came.headers)
    names = [name.removeprefix("ce_") for name, _ in letter.headers]
    assert names.count("traceparent") == 1
    assert names.count("tracestate") == 1
