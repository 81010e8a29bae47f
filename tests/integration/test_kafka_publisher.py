"""Outcomes from the database to a real broker: none lost, in order, recognisable when repeated."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord

from consumers.admission import input_problem
from consumers.cloudevents import MAX_BYTES
from consumers.kafka import as_record
from consumers.mappings.canonical import canonical
from consumers.records import Route, read
from consumers.storing import store
from service.clock import SystemClock
from service.directory import outbox, replays
from service.directory.database import Database, Work
from service.directory.events import Event
from service.directory.outbox import Outcome
from service.directory.replays import Reading
from service.kafka import KafkaConnection, create_missing_topics
from service.outcomes.data import UserUpdated
from service.outcomes.publisher import Publisher, PublisherSettings
from tests.conftest import CreateTopic
from tests.consumers.conftest import database, database_url
from tests.consumers.support import START, outcomes_of
from tests.infrastructure.kafka import delete_topic
from tests.infrastructure.processes import free_ports
from tests.integration.kafka_door import door_to

__all__ = ["database", "database_url"]

T = TypeVar("T")


@pytest.fixture
async def settings(kafka_bootstrap_servers: str, kafka_topic: CreateTopic) -> PublisherSettings:
    return PublisherSettings(
        connection=KafkaConnection(bootstrap_servers=kafka_bootstrap_servers),
        outcomes_topic=await kafka_topic("outcomes", partitions=3),
        deadletters_topic=await kafka_topic("deadletters"),
        group="intake",
        service_version="0.1.0",
        poll_every=0.02,
        longest_backoff=0.5,
    )


async def emit(database: Database, users: Sequence[str], count: int) -> None:
    """``count`` outcomes for each user, in turn."""

    def work(transaction: Any) -> None:
        for _ in range(count):
            for user in users:
                updated = UserUpdated(changed=("name",))
                outbox.emit(transaction, updated, now=START, organization="acme", user_id=user)

    await database.transact(work)


def publisher_of(database: Database, settings: PublisherSettings, owner: str = "one") -> Publisher:
    return Publisher(database=database, clock=SystemClock(), settings=settings, owner=owner)


@contextlib.asynccontextmanager
async def running(publisher: Publisher) -> AsyncGenerator[Publisher]:
    stop = asyncio.Event()
    task = asyncio.create_task(publisher.run(stop))
    try:
        yield publisher
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


async def all_published(database: Database, within: float = 20) -> list[Outcome]:
    async with asyncio.timeout(within):
        while True:
            outcomes = await outcomes_of(database)
            if all(each.published_at for each in outcomes):
                return outcomes
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], object], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(0.02)


async def everything_on(settings: PublisherSettings, topic: str) -> list[Any]:
    """Every record of a topic, in order within each partition."""
    records: list[ConsumerRecord[Any, Any]] = []
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.connection.bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 * MAX_BYTES,
    ) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        expected = sum(ends.values())
        async with asyncio.timeout(20):
            while len(records) < expected:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += batch
    return records


def ids(records: Sequence[Any]) -> list[str]:
    return [dict(each.headers)["ce_id"].decode() for each in records]


def assert_in_order_per_key(records: Sequence[Any]) -> None:
    """Of each key, first appearances in the order of ``ce_sequence``, without a gap."""
    seen: dict[bytes, list[int]] = {}
    for each in records:
        sequence = int(dict(each.headers)["ce_sequence"])
        if sequence not in seen.setdefault(each.key, []):
            seen[each.key].append(sequence)
    for sequences in seen.values():
        assert sequences == list(range(1, len(sequences) + 1))


async def test_every_outcome_is_published_once_in_order_per_key(
    database: Database, settings: PublisherSettings
) -> None:
    await emit(database, [f"u-{number}" for number in range(10)], 30)
    async with running(publisher_of(database, replace(settings, batch=64))) as publisher:
        outcomes = await all_published(database)
        assert publisher.facts.published == 300
        assert publisher.facts.problem is None
    records = await everything_on(settings, settings.outcomes_topic)
    assert sorted(ids(records)) == sorted(each.id for each in outcomes)
    assert_in_order_per_key(records)
    assert {each.key for each in records} == {f"acme:u-{n}".encode() for n in range(10)}
    assert orjson.loads(records[0].value)["organization"] == "acme"


class MarksOnce:
    """A database whose first marking of published outcomes fails, as if we died just before it."""

    def __init__(self, real: Database) -> None:
        self._real = real
        self.failed = 0

    async def transact(self, work: Work[T]) -> T:
        if "numbers" in work.__code__.co_freevars and not self.failed:
            self.failed += 1
            raise ConnectionResetError
        return await self._real.transact(work)

    async def read(self, work: Work[T]) -> T:
        return await self._real.read(work)

    async def look_up(self, work: Work[T]) -> T:
        return await self._real.look_up(work)

    async def close(self) -> None:
        await self._real.close()


async def test_crash_between_acknowledgement_and_mark_repeats_under_the_same_ids(
    database: Database, settings: PublisherSettings
) -> None:
    await emit(database, ["u-1", "u-2"], 5)
    failing = MarksOnce(database)
    async with running(publisher_of(failing, settings)):
        outcomes = await all_published(database)
    assert failing.failed == 1
    records = await everything_on(settings, settings.outcomes_topic)
    assert len(records) == 20
    assert set(ids(records)) == {each.id for each in outcomes}
    assert_in_order_per_key(records)


async def test_two_publishers_share_the_work_and_one_takes_over(
    database: Database, settings: PublisherSettings
) -> None:
    users = [f"u-{number}" for number in range(40)]
    quick = replace(settings, lease=1.0, send_within=0.5)
    async with running(publisher_of(database, quick, "stays")) as stays:
        async with running(publisher_of(database, quick, "leaves")) as leaves:
            await until(lambda: stays.facts.shards == leaves.facts.shards == 8)
            await emit(database, users, 3)
            await all_published(database)
            assert stays.facts.published > 0
            assert leaves.facts.published > 0
            assert stays.facts.published + leaves.facts.published == 120
        await emit(database, users, 3)
        outcomes = await all_published(database)
    records = await everything_on(settings, settings.outcomes_topic)
    assert sorted(ids(records)) == sorted(each.id for each in outcomes)
    assert_in_order_per_key(records)


async def refuse(
    database: Database,
    value: bytes | None,
    *,
    key: bytes | None = b"w-1",
    headers: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Takes in a record as it would come from Kafka, which ends it where it is unusable."""

    class Consumed:
        topic, partition, offset, timestamp = "hr.events", 3, 1234, 1_700_000_000_000

    consumed = Consumed()
    for name, given in (("key", key), ("value", value), ("headers", headers)):
        setattr(consumed, name, given)
    route = Route(source="hr", topic="hr.events", organizations=("acme",), mapper=canonical)
    inputs = [read(as_record(consumed), route, START)]
    assert (await store(database, inputs)).stopped_by is None


async def test_dead_letter_is_the_record_as_it_came_and_says_why(
    database: Database, settings: PublisherSettings
) -> None:
    value = b"\x00\xff no JSON \xfe" + os.urandom(64)
    headers = [("trace", b"\x01\xff"), ("trace", b"again"), ("empty", b"")]
    await refuse(database, value, key=b"\xffkey", headers=headers)
    async with running(publisher_of(database, settings)):
        [ending] = await all_published(database)
    [letter] = await everything_on(settings, settings.deadletters_topic)
    assert (letter.key, letter.value) == (b"\xffkey", value)
    assert list(letter.headers[: len(headers)]) == headers
    said = dict(letter.headers[len(headers) :])
    assert said["dlq-original-topic"] == said["kafka_dlt-original-topic"] == b"hr.events"
    assert (said["dlq-original-partition"], said["dlq-original-offset"]) == (b"3", b"1234")
    assert said["dlq-original-timestamp"] == b"1700000000000"
    assert said["dlq-reason"] == b"malformed_json"
    assert said["dlq-group"] == b"intake"
    assert said["dlq-event-id"].decode() == ending.event_id


async def test_a_replay_that_fails_again_leaves_a_dead_letter_of_its_own(
    database: Database, settings: PublisherSettings
) -> None:
    await refuse(database, b"{not json", headers=[("x-note", b"\xff")])
    first = (await outcomes_of(database))[-1].event_id
    assert first is not None

    def unusable(event: Event, *_: object) -> Reading:
        problem = input_problem("malformed_json", "No JSON.")
        return Reading(organization=event.organization, problem=problem)

    again = await database.transact(
        lambda tx: replays.replay(tx, first, read=unusable, actor="ops", now=START)
    )
    assert again.verdict == "failed"
    async with running(publisher_of(database, settings)):
        await all_published(database)
    letters = await everything_on(settings, settings.deadletters_topic)
    assert [(each.key, each.value) for each in letters] == [(b"w-1", b"{not json")] * 2
    headers = [dict(each.headers) for each in letters]
    assert [each["x-note"] for each in headers] == [b"\xff"] * 2
    assert [each["dlq-event-id"].decode() for each in headers] == [first, again.replay_id]
    assert [each.get("dlq-replay-of") for each in headers] == [None, first.encode()]


async def test_outcomes_of_other_doors_leave_no_dead_letter(
    database: Database, settings: PublisherSettings
) -> None:
    await emit(database, ["u-1"], 2)
    async with running(publisher_of(database, settings)):
        await all_published(database)
    assert await everything_on(settings, settings.deadletters_topic) == []


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 9 * MAX_BYTES])
async def test_dead_letter_whose_headers_are_too_large_goes_without_them_and_holds_nobody_up(
    database: Database, settings: PublisherSettings, size: int
) -> None:
    """Refused by the broker, or by our own producer."""
    await refuse(database, b"{not json", headers=[("x", b"h" * size)])
    await emit(database, ["u-1"], 3)
    async with running(publisher_of(database, settings)):
        outcomes = await all_published(database)
    [letter] = await everything_on(settings, settings.deadletters_topic)
    headers = dict(letter.headers)
    assert (letter.value, headers.get("x")) == (None, None)
    assert headers["dlq-headers-omitted"] == headers["dlq-value-omitted"] == b"true"
    assert headers["dlq-reason"] == b"malformed_json"
    assert len(outcomes) == 4


async def test_dead_letter_that_the_broker_refuses_for_its_size_goes_without_its_value(
    database: Database, settings: PublisherSettings
) -> None:
    await refuse(database, b"x" * (MAX_BYTES + 1))
    await emit(database, ["u-1", "u-2"], 3)
    async with running(publisher_of(database, settings)):
        outcomes = await all_published(database)
    [letter] = await everything_on(settings, settings.deadletters_topic)
    assert letter.value is None
    assert dict(letter.headers)["dlq-value-omitted"] == b"true"
    records = await everything_on(settings, settings.outcomes_topic)
    assert set(ids(records)) == {each.id for each in outcomes}
    assert_in_order_per_key(records)


async def test_missing_topic_is_told_and_never_created_unasked(
    database: Database, settings: PublisherSettings
) -> None:
    missing = replace(settings, deadletters_topic="not.there")
    await emit(database, ["u-1"], 1)
    async with running(publisher_of(database, missing)) as publisher:
        await until(lambda: "not.there" in (publisher.facts.problem or ""))
    assert not any(each.published_at for each in await outcomes_of(database))
    with pytest.raises(RuntimeError, match="error 3"):
        await _fail_unless_deleted(settings, "not.there")


async def _fail_unless_deleted(settings: PublisherSettings, topic: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=settings.connection.bootstrap_servers)
    await admin.start()
    try:
        response: Any = await admin.delete_topics([topic])
        for _, code, *_rest in response.topic_error_codes:
            if code:
                raise RuntimeError(f"error {code}")
    finally:
        await admin.close()


async def test_topics_are_created_where_that_is_asked_for(
    database: Database, settings: PublisherSettings
) -> None:
    topics = [f"{settings.outcomes_topic}.new", f"{settings.deadletters_topic}.new"]
    asked = replace(
        settings, outcomes_topic=topics[0], deadletters_topic=topics[1], create_topics=True
    )
    await refuse(database, b"x" * (MAX_BYTES + 1))
    async with running(publisher_of(database, asked)):
        await all_published(database)
    [letter] = await everything_on(asked, topics[1])
    assert len(letter.value) == MAX_BYTES + 1  # room for the largest input
    assert await create_missing_topics(settings.connection, topics) == []
    for topic in topics:
        await delete_topic(settings.connection.bootstrap_servers, topic)


@pytest.mark.kill
@pytest.mark.parametrize("how", ["shut", "fall_silent"])
async def test_brokers_that_go_away_get_everything_when_they_are_back(
    database: Database, settings: PublisherSettings, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    quick = replace(settings, send_within=1.0, start_within=1.0, stop_within=0.5)
    async with door_to(settings.connection.bootstrap_servers, monkeypatch) as door:
        through = replace(quick, connection=KafkaConnection(bootstrap_servers=door.address))
        async with running(publisher_of(database, through)) as publisher:
            await emit(database, ["u-1", "u-2"], 3)
            await all_published(database)
            getattr(door, how)()
            await emit(database, ["u-1", "u-2"], 3)
            await until(lambda: publisher.facts.problem)
            assert publisher.facts.published == 6
            refused, cpu = door.refused, time.process_time()
            await asyncio.sleep(1.0)
            assert door.refused - refused <= 8  # no busy loop
            assert time.process_time() - cpu < 0.5
            door.open()
            await emit(database, ["u-1", "u-2"], 3)
            outcomes = await all_published(database)
            assert publisher.facts.problem is None
    records = await everything_on(settings, settings.outcomes_topic)
    assert set(ids(records)) == {each.id for each in outcomes}
    assert_in_order_per_key(records)


@pytest.mark.kill
@pytest.mark.parametrize("how", ["shut", "fall_silent"])
async def test_end_is_prompt_with_outcomes_on_the_way(
    database: Database, settings: PublisherSettings, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    loop = asyncio.get_running_loop()
    async with door_to(settings.connection.bootstrap_servers, monkeypatch) as door:
        through = replace(settings, connection=KafkaConnection(bootstrap_servers=door.address))
        async with running(publisher_of(database, through)):
            await emit(database, ["u-1"], 1)
            await all_published(database)
            getattr(door, how)()
            await emit(database, ["u-1"], 50)
            await asyncio.sleep(0.3)
            began = loop.time()
        assert loop.time() - began < 10
    assert sum(1 for each in await outcomes_of(database) if each.published_at) == 1


async def test_end_is_prompt_while_brokers_are_away(
    database: Database, settings: PublisherSettings
) -> None:
    [port] = free_ports(1)
    nowhere = replace(settings, connection=KafkaConnection(bootstrap_servers=f"127.0.0.1:{port}"))
    await emit(database, ["u-1"], 1)
    loop = asyncio.get_running_loop()
    async with running(publisher_of(database, nowhere)) as publisher:
        await until(lambda: publisher.facts.problem)
        began = loop.time()
    assert loop.time() - began < 5
