"""Records that a declared mapping reads: one input or several, each with its own ending and its replay."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from consumers.admission import Input, NotUnderstood, Understood
from consumers.mappings.packs import checked
from consumers.records import Record, Route, inputs, routes
from consumers.storing import portions, store, whole_records
from operators import reading
from service.directory import mappings, organizations, replays
from service.directory.database import Database
from service.directory.events import Event
from service.directory.mappings import Declared
from service.organizations import EventSource
from tests.consumers.support import START, events_of, outcomes_of

HR = """
mapping: hr
version: 1
rules:
  - name: batch
    match: payload.people
    split: payload.people
    subject: payload.id
    type: worker.changed
    attributes: {email: payload.mail, title: whole.title}
  - name: single
    subject: payload.id
    time: payload.at
    organization: payload.org
    type: {from: payload.kind, table: {ping: ignore, in: worker.hired, thin: worker.changed}}
    effective_at: payload.start
    attributes: {email: payload.mail}
"""
THIN = """
mapping: thin
version: 1
rules: [{subject: payload.id, type: worker.changed, enrich: required}]
"""


def declared(text: str = HR) -> dict[str, Declared]:
    document, _ = checked(text, where="hr.yaml")
    written = orjson.dumps(document.model_dump(mode="json", by_alias=True, exclude_unset=True))
    name = document.mapping
    return {name: Declared(name=name, version=1, text=written.decode(), modified_at=START)}


def route(text: str = HR, **changes: Any) -> Route:
    known = declared(text)
    given: dict[str, Any] = {"name": "hr", "topic": "hr", "organizations": ("acme",)}
    given |= {"mapping": next(iter(known))} | changes
    source = EventSource(**given)
    found, problems = routes([source], stored=known)
    assert problems == []
    return found["hr"]


def record(payload: Any, offset: int = 7, **changes: Any) -> Record:
    given: dict[str, Any] = {
        "topic": "hr",
        "partition": 0,
        "offset": offset,
        "timestamp": 1_790_000_000_000,
        "key": b"k",
        "value": payload if isinstance(payload, bytes) else orjson.dumps(payload),
    }
    return Record(**given | changes)


def read(payload: Any, by: Route | None = None, **changes: Any) -> list[Input]:
    return inputs(record(payload, **changes), by or route(), START)


def test_plain_json_is_read_by_the_mapping() -> None:
    (only,) = read({"id": 5, "kind": "in", "mail": "a@acme.example"})
    assert isinstance(only, Understood)
    assert (only.organization, only.event.worker_id, only.event.type) == (
        "acme",
        "5",
        "worker.hired",
    )
    assert (only.received.source, only.received.type) == ("hr", "in")
    assert only.received.source_id


def test_cloudevents_in_canonical_form_are_always_read() -> None:
    sent = {
        "specversion": "1.0",
        "id": "e",
        "source": "/s",
        "type": "worker.hired",
        "data": {"worker_id": "w"},
    }
    (only,) = read(sent)
    assert isinstance(only, Understood)
    assert (only.received.source, only.received.source_id) == ("/s", "e")


def test_cloudevents_of_other_types_go_to_the_mapping() -> None:
    sent = {
        "specversion": "1.0",
        "id": "e",
        "source": "/s",
        "type": "com.hr.news",
        "data": {"id": 5, "kind": "in"},
    }
    (only,) = read(sent)
    assert isinstance(only, Understood)
    assert (only.event.type, only.received.source_id) == ("worker.hired", "e")
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e2"),
        ("ce_source", b"/s"),
        ("ce_type", b"news"),
    ]
    (binary,) = read({"id": 5, "kind": "in"}, headers=headers)
    assert isinstance(binary, Understood)
    assert binary.received.source_id == "e2"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"not json", "malformed_json"),
        (b"[1]", "missing_worker_id"),
        (b"{}", "unmapped_type"),
        (b"[" * 100 + b"]" * 100, "too_deep"),
        (b'"' + b"x" * (1024 * 1024) + b'"', "too_large"),
        (b'{"kind": "in", "id": 1, "start": "soon"}', "invalid_effective_at"),
    ],
)
def test_what_cannot_be_read_is_dead_lettered(value: bytes, code: str) -> None:
    (only,) = read(value)
    assert isinstance(only, NotUnderstood)
    assert only.ended == "deadlettered"
    assert only.problem.code == code or (value == b"[1]" and only.problem.code == "unmapped_type")


def test_an_organization_that_the_source_may_not_speak_for_is_refused() -> None:
    (only,) = read({"id": 5, "kind": "in", "org": "globex"})
    assert isinstance(only, NotUnderstood)
    assert (only.ended, only.problem.code) == ("rejected", "organization_not_allowed")
    both = route(organizations=("acme", "globex"))
    (known,) = read({"id": 5, "kind": "in", "org": "globex"}, both)
    assert known.organization == "globex"


def test_a_source_whose_mapping_is_missing_is_not_read() -> None:
    found, problems = routes(
        [EventSource(name="a", topic="hr", organizations=("acme",), mapping="none")]
    )
    assert found == {}
    assert problems == ["Topic hr is not read: there is no mapping none."]


def test_the_sources_zone_counts_for_dates_of_canonical_events_too() -> None:
    amsterdam = route(zone="Europe/Amsterdam")
    (mapped,) = read({"id": 5, "kind": "in", "start": "2027-01-01"}, amsterdam)
    data = {"worker_id": "w", "effective_at": "2027-01-01"}
    sent = {"specversion": "1.0", "id": "e", "source": "/s", "type": "worker.hired", "data": data}
    (canonical,) = read(sent, amsterdam)
    assert isinstance(mapped, Understood)
    assert isinstance(canonical, Understood)
    assert mapped.event.effective_at == canonical.event.effective_at
    assert mapped.event.effective_at is not None
    assert mapped.event.effective_at.hour == 23


def test_a_thin_event_without_enrichment_says_what_to_configure() -> None:
    (only,) = read({"id": 5}, route(THIN))
    assert isinstance(only, NotUnderstood)
    assert (only.ended, only.problem.code) == ("deadlettered", "enrichment_missing")


def test_records_are_never_cut_in_two() -> None:
    (one,) = read({"id": 5, "kind": "in"})
    shapes = [1, 600, 600, 0, 2000, 1]
    records = [[one] * count for count in shapes]
    assert [[len(each) for each in portion] for portion in portions(records)] == [
        [1, 600],
        [600, 0],
        [2000],
        [1],
    ]
    assert [whole_records(records[:2], stored) for stored in (0, 1, 2, 600, 601)] == [0, 1, 1, 1, 2]


# Stored

PEOPLE = {"title": "Dr", "people": [{"id": 1, "mail": "a@acme.example"}, {"mail": "b"}, {"id": 3}]}


async def take(database: Database, payload: Any, **changes: Any) -> None:
    found = read(payload, **changes)
    stored = await store(database, found)
    assert stored.count == len(found)


async def states(database: Database) -> list[str]:
    return [event.state for event in await events_of(database)]


async def test_one_bad_child_ends_alone_and_once(database: Database) -> None:
    await take(database, PEOPLE)
    assert await states(database) == ["succeeded", "deadlettered", "succeeded"]
    ended = [each for each in await outcomes_of(database) if "event.deadlettered" in each.type]
    assert len(ended) == 1


async def test_a_redelivered_record_changes_nothing(database: Database) -> None:
    await take(database, PEOPLE)
    before, told = await events_of(database), len(await outcomes_of(database))
    await take(database, PEOPLE)
    assert await events_of(database) == before
    assert len(await outcomes_of(database)) == told


async def test_a_record_that_was_stored_in_part_is_completed(database: Database) -> None:
    found = read(PEOPLE)
    await store(database, found[:2])
    await take(database, PEOPLE)
    assert await states(database) == ["succeeded", "deadlettered", "succeeded"]


async def test_the_same_event_at_another_offset_is_a_duplicate(database: Database) -> None:
    payload = {"id": 5, "kind": "in", "mail": "a@acme.example", "at": "2026-11-01T00:00:00Z"}
    await take(database, payload)
    await take(database, payload, offset=8, timestamp=1_790_000_009_000)
    assert await states(database) == ["accepted", "duplicate"]


async def test_without_a_time_the_same_words_later_are_another_event(database: Database) -> None:
    payload = {"id": 5, "kind": "in", "mail": "a@acme.example"}
    await take(database, payload)
    await take(database, payload, offset=8)
    await take(database, payload, offset=9, timestamp=1_790_000_009_000)
    assert await states(database) == ["accepted", "duplicate", "accepted"]


async def test_a_mapping_may_have_each_delivery_count_once(database: Database) -> None:
    each = HR.replace("time: payload.at", "time: payload.at || received_at")
    payload = {"id": 5, "kind": "in", "mail": "a@acme.example"}
    for seconds, offset in ((0, 7), (60, 7), (120, 8)):  # the second is a redelivery
        at = START + timedelta(seconds=seconds)
        await store(database, inputs(record(payload, offset=offset), route(each), at))
    assert await states(database) == ["accepted", "accepted"]


async def test_an_ignored_event_ends_as_discarded_and_says_why(database: Database) -> None:
    await take(database, {"id": 5, "kind": "ping"})
    [event] = await events_of(database)
    assert event.state == "discarded"
    assert (event.error or {})["code"] == "ignored_by_mapping"
    assert [each.type for each in await outcomes_of(database)] == [
        "io.auth0-provisioner.event.discarded.v1"
    ]


async def declare(database: Database, text: str) -> None:
    document, _ = checked(text, where="hr.yaml")
    written = document.model_dump(mode="json", by_alias=True, exclude_unset=True)
    source = EventSource(name="hr", topic="hr", organizations=("acme",), mapping="hr")
    await database.transact(lambda tx: mappings.apply(tx, "hr", 1, written, START))
    await database.transact(lambda tx: organizations.apply_source(tx, source))


async def replayed(database: Database, event: Event, *, force: bool = False) -> Event:
    result = await database.transact(
        lambda tx: replays.replay(
            tx, event.id, read=reading.read, actor="ada", now=START, force=force
        )
    )
    assert result.replay_id is not None, result.reason
    return next(each for each in await events_of(database) if each.id == result.replay_id)


async def test_a_replay_reads_a_child_by_todays_mapping(database: Database) -> None:
    await declare(database, HR)
    await take(database, PEOPLE)
    dead = (await events_of(database))[1]
    assert orjson.loads(dead.body or b"") == {"title": "Dr", "people": [{"mail": "b"}]}
    still = await replayed(database, dead)
    assert still.state == "deadlettered"
    await declare(
        database,
        HR.replace(
            "subject: payload.id\n    type: worker.changed",
            "subject: payload.mail\n    type: worker.changed",
        ),
    )
    mended = await replayed(database, still)
    assert mended.state == "succeeded"  # it has no address
    assert mended.user_id is not None


async def test_an_ignored_event_is_replayed_by_force_once_the_mapping_reads_it(
    database: Database,
) -> None:
    await declare(database, HR)
    await take(database, {"id": 5, "kind": "ping"})
    [event] = await events_of(database)
    result = await database.transact(
        lambda tx: replays.replay(tx, event.id, read=reading.read, actor="ada", now=START)
    )
    assert result.verdict == "skipped"
    assert "--force" in result.reason
    await declare(database, HR.replace("ping: ignore", "ping: worker.hired"))
    assert (await replayed(database, event, force=True)).state == "succeeded"


def test_a_child_of_a_cloudevent_is_kept_in_its_envelope() -> None:
    sent = {"specversion": "1.0", "id": "e", "source": "/s", "type": "com.hr.batch", "data": PEOPLE}
    children = read(sent)
    assert [child.received.source_id for child in children] == ["e/0", "e/1", "e/2"]
    for index, child in enumerate(children):
        body = child.received.body or b""
        assert orjson.loads(body)["id"] == "e"
        again = inputs(
            record(body, headers=[("provisioner-child", str(index).encode())]), route(), START
        )
        assert len(again) == 1
        assert replace(again[0].received, headers=()) == replace(child.received, headers=())
