"""Events from a real broker into a real database: every record once, in order, none lost."""

import asyncio
import base64
import contextlib
import gc
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import AIOKafkaConnection
from aiokafka.structs import RecordMetadata
from prometheus_client import CollectorRegistry

from consumers.cloudevents import MAX_BYTES, STRUCTURED, Envelope
from consumers.intake import Intake
from consumers.kafka import IntakeSettings
from consumers.mappings import packs
from consumers.mappings.canonical import MAPPINGS, Mapped
from service.clock import SystemClock
from service.directory import ending, fuses, mappings, organizations
from service.directory.database import Database, Transaction, Work
from service.directory.events import Event
from service.intake_metrics import IntakeMetrics
from service.kafka import KafkaConnection
from service.organizations import EventSource
from tests.conftest import CreateTopic
from tests.consumers.conftest import database, database_url
from tests.consumers.support import events_of, outcomes_of
from tests.integration.kafka_door import door_to
from tests.integration.raw_records import batch, send_raw

__all__ = ["database", "database_url"]

T = TypeVar("T")
Headers = Sequence[tuple[str, bytes]]
AS_STRUCTURED: Headers = (("content-type", STRUCTURED.encode()),)


def event(id: str, worker: str = "w-1", **changes: Any) -> bytes:
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": id,
        "source": "/hr",
        "type": "worker.hired",
        "subject": worker,
        "data": {"attributes": {"email": f"{worker}@acme.example", "title": id}},
    }
    return json.dumps(document | changes).encode()


class Hr:
    """Somebody who writes to one topic."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self.topic = topic

    async def send(
        self,
        value: bytes | None,
        *,
        key: bytes | None = b"w-1",
        headers: Headers = AS_STRUCTURED,
        partition: int | None = None,
    ) -> RecordMetadata:
        return await self._producer.send_and_wait(
            self.topic, value, key=key, headers=list(headers), partition=partition
        )


@pytest.fixture
async def hr(kafka_bootstrap_servers: str, kafka_topic: CreateTopic) -> AsyncIterator[Hr]:
    topic = await kafka_topic("hr.events", partitions=2)
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap_servers, max_request_size=4 * MAX_BYTES
    ) as producer:
        yield Hr(producer, topic)


@pytest.fixture
def settings(kafka_bootstrap_servers: str, hr: Hr) -> IntakeSettings:
    return IntakeSettings(
        connection=KafkaConnection(bootstrap_servers=kafka_bootstrap_servers),
        group_id=f"intake-of-{hr.topic}",
        poll_timeout=0.05,
        commit_every=0.05,
        refresh_sources_every=0.2,
        measure_lag_every=0.1,
        session_timeout=10.0,
        heartbeat_every=0.5,
        longest_backoff=0.5,
    )


async def declare(database: Database, topic: str, *names: str, **changes: Any) -> None:
    source = EventSource(name=topic, topic=topic, organizations=names or ("acme",), **changes)
    await database.transact(lambda tx: organizations.apply_source(tx, source))


@contextlib.asynccontextmanager
async def running(intake: Intake) -> AsyncGenerator[Intake]:
    stop = asyncio.Event()
    task = asyncio.create_task(intake.run(stop))
    try:
        yield intake
    finally:
        stop.set()
        await asyncio.wait_for(task, 10)


def intake_of(database: Database, settings: IntakeSettings, **changes: Any) -> Intake:
    return Intake(database=database, clock=SystemClock(), settings=settings, **changes)


async def until(condition: Callable[[], Awaitable[T]], within: float = 20) -> T:
    async with asyncio.timeout(within):
        while not (met := await condition()):  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(0.02)
        return met


async def stored(database: Database, count: int) -> list[Event]:
    async def enough() -> list[Event] | None:
        events = await events_of(database)
        return events if len(events) >= count else None

    found = await until(enough)
    assert found is not None
    assert len(found) == count
    return found


async def committed(settings: IntakeSettings, topic: str) -> dict[int, int | None]:
    """Offsets as another member of the group would find them."""
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.connection.bootstrap_servers,
        group_id=settings.group_id,
        enable_auto_commit=False,
    ) as consumer:
        consumer.assign([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        return {n: await consumer.committed(TopicPartition(topic, n)) for n in (0, 1)}


async def test_binary_and_structured_events_are_taken_in_and_committed(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    first = await hr.send(event("e-1"))
    binary = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e-2"),
        ("ce_source", b"/hr"),
        ("ce_type", b"com.example.hr.worker.hired.v1"),
        ("content-type", b"application/json"),
    ]
    await hr.send(b'{"worker_id":"w-1","email":"w-1@acme.example"}', headers=binary)
    async with running(intake_of(database, settings)) as intake:
        one, two = await stored(database, 2)
        assert intake.is_ready
        assert intake.facts.problems == ()
    assert (one.door, one.organization, one.source) == ("kafka", "acme", "/hr")
    assert (one.topic, one.partition, one.offset) == (hr.topic, first.partition, first.offset)
    assert (one.key, one.body, one.state) == (b"w-1", event("e-1"), "accepted")
    assert (two.source_id, two.type) == ("e-2", "com.example.hr.worker.hired.v1")
    assert one.user_id == two.user_id
    kept = [(name, base64.b64decode(value or "")) for name, value in two.headers]
    assert kept[: len(binary)] == binary
    assert (await committed(settings, hr.topic))[first.partition] == first.offset + 2


async def test_order_of_a_worker_is_kept_over_many_batches(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    for number in range(60):
        worker = f"w-{number % 6}"
        await hr.send(event(f"e-{number}", worker), key=worker.encode())
    async with running(intake_of(database, replace(settings, max_poll_records=7))):
        events = await stored(database, 60)
    for worker in range(6):
        ids = [each.source_id for each in events if each.key == f"w-{worker}".encode()]
        assert ids == [f"e-{number}" for number in range(worker, 60, 6)]


async def test_repeated_event_is_a_duplicate_and_changes_nothing(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    for _ in range(3):
        await hr.send(event("e-1"))
    async with running(intake_of(database, settings)):
        events = await stored(database, 3)
    assert [each.state for each in events] == ["accepted", "duplicate", "duplicate"]


class Forgetful(AIOKafkaConsumer):
    """A consumer whose commits never arrive."""

    async def commit(self, offsets: Any = None) -> None:
        await asyncio.sleep(0)


async def test_redelivery_after_a_lost_commit_is_no_new_input(
    database: Database, hr: Hr, settings: IntakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare(database, hr.topic)
    for number in range(5):
        await hr.send(event(f"e-{number}"))
    with monkeypatch.context() as patched:
        patched.setattr("consumers.kafka.AIOKafkaConsumer", Forgetful)
        async with running(intake_of(database, settings)):
            await stored(database, 5)
    assert set((await committed(settings, hr.topic)).values()) == {None}
    outcomes = await outcomes_of(database)
    await hr.send(event("e-last"))
    async with running(intake_of(database, settings)):
        await stored(database, 6)
    assert [each for each in await outcomes_of(database) if "duplicate" in each.type] == []
    assert len(await outcomes_of(database)) == len(outcomes)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"\x00\x01 not JSON", "malformed_json"),
        (b'{"worker_id":"w-1"}', "unsupported_specversion"),
        (event("e-9", type="worker.frobnicated.v9"), "unmapped_type"),
        (event("e-9", data={"effective_at": "soon"}), "invalid_effective_at"),
        (b'"' + b"x" * (MAX_BYTES + 1) + b'"', "too_large"),
    ],
    ids=["garbage", "no event", "unknown type", "bad data", "1 MiB and more"],
)
async def test_unusable_record_is_dead_lettered_with_its_bytes_and_the_next_goes_on(
    database: Database,
    hr: Hr,
    kafka_bootstrap_servers: str,
    settings: IntakeSettings,
    value: bytes,
    code: str,
) -> None:
    await declare(database, hr.topic)
    if len(value) > MAX_BYTES:
        larger = {"max.message.bytes": str(4 * MAX_BYTES)}
        await configure(kafka_bootstrap_servers, hr.topic, larger)
    await hr.send(value, headers=[("content-type", STRUCTURED.encode()), ("mine", b"\xff\x00")])
    await hr.send(event("e-10"))
    async with running(intake_of(database, settings)):
        bad, good = await stored(database, 2)
    assert (bad.state, bad.organization, bad.body, bad.key) == (
        "deadlettered",
        "acme",
        value,
        b"w-1",
    )
    assert bad.error is not None
    assert bad.error["code"] == code
    assert ["mine", base64.b64encode(b"\xff\x00").decode()] in bad.headers
    assert good.state == "accepted"
    ends = [each for each in await outcomes_of(database) if each.event_id == bad.id]
    assert [each.type for each in ends] == ["io.auth0-provisioner.event.deadlettered.v1"]


async def configure(bootstrap_servers: str, topic: str, change: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, change)])
    finally:
        await admin.close()


async def test_organization_that_the_source_may_not_speak_for_is_rejected(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    await hr.send(event("e-1", data={"organization": "globex"}))
    await hr.send(event("e-2", data={"organization": "acme"}))
    async with running(intake_of(database, settings)):
        refused, accepted = await stored(database, 2)
    assert (refused.state, refused.organization) == ("rejected", None)
    assert refused.error is not None
    assert refused.error["code"] == "organization_not_allowed"
    assert (accepted.state, accepted.organization) == ("succeeded", "acme")  # it has no address


async def test_source_of_several_organizations_needs_one_named(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic, "acme", "globex", "initech")
    await hr.send(event("e-1", data={"organization": "globex"}))
    await hr.send(event("e-2"))
    await hr.send(None, headers=())
    await hr.send(event("e-3", data={"organization": "initech"}))
    async with running(intake_of(database, settings)):
        events = await stored(database, 4)
    assert [(each.state, (each.error or {}).get("code")) for each in events] == [
        ("succeeded", None),
        ("rejected", "organization_missing"),
        ("deadlettered", "tombstone_without_organization"),
        ("rejected", "unknown_organization"),
    ]


async def test_tombstone_deletes_the_worker_that_its_key_names(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    await hr.send(event("e-1"))
    await hr.send(None, headers=())
    await hr.send(None, headers=(), key=b"")
    async with running(intake_of(database, settings)):
        events = await stored(database, 3)
    by_type = {each.type: each for each in events}
    tombstone = by_type["worker.deleted"]
    assert tombstone.user_id == by_type["worker.hired"].user_id
    assert tombstone.body is None
    keyless = by_type["unreadable"]
    assert keyless.error is not None
    assert keyless.error["code"] == "tombstone_without_key"


@pytest.mark.parametrize(
    ("breaks", "code"),
    [
        (lambda event: 1 / 0, "mapping_crash"),
        (lambda event: replace(event, effective_at=datetime(2030, 1, 1)), "intake_crash"),
        (lambda event: replace(event, attributes={"title": object()}), "cannot_be_stored"),
    ],
    ids=["the mapping raises", "taking in raises", "what is mapped cannot be stored"],
)
async def test_crash_over_one_record_is_a_dead_letter_not_a_standstill(
    database: Database, hr: Hr, settings: IntakeSettings, breaks: Callable[..., Any], code: str
) -> None:
    def fragile(envelope: Envelope) -> Mapped:
        mapped = MAPPINGS["canonical"](envelope)
        return replace(mapped, event=breaks(mapped.event)) if envelope.id == "e-bad" else mapped

    await declare(database, hr.topic, mapping="fragile")
    for id in ("e-1", "e-bad", "e-2"):
        await hr.send(event(id, f"w-{id}"))
    async with running(intake_of(database, settings, mappings={"fragile": fragile})) as intake:
        events = await stored(database, 3)
        assert intake.facts.problems == ()
    assert [each.state for each in events] == ["accepted", "deadlettered", "accepted"]
    assert events[1].error is not None
    assert events[1].error["code"] == code


async def test_source_whose_events_all_fail_is_stopped_and_goes_on_when_let(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    """The dead letters stay a handful, offsets stay, another source goes on, and nothing is lost."""
    await declare(database, hr.topic, fuse=10)
    for number in range(60):
        await hr.send(event(f"e-{number}", f"w-{number}", type="worker.odd"), partition=number % 2)
    async with running(intake_of(database, settings)) as intake:
        await stored(database, 10)

        async def told() -> bool:
            return any("unmapped_type" in each for each in intake.facts.problems)

        await until(told)
        polled = intake.facts.polled_at
        await asyncio.sleep(0.5)
        assert intake.facts.polled_at != polled  # still in the group
        assert any("is stopped since" in each for each in intake.facts.problems)
        await stored(database, 10)
        assert sum(each or 0 for each in (await committed(settings, hr.topic)).values()) == 10
        assert intake.is_ready
    async with running(intake_of(database, settings)) as another:  # which joins stopped

        async def told_too() -> bool:
            return any("is stopped since" in each for each in another.facts.problems)

        await until(told_too)
        await stored(database, 10)
    mended = {"canonical": canonical_but_odd}
    async with running(intake_of(database, settings, mappings=mended)) as intake:
        await database.transact(lambda tx: fuses.reset(tx, hr.topic))
        events = await stored(database, 60)

        async def well() -> bool:
            return intake.facts.problems == ()

        await until(well)
    states = [each.state for each in events]
    assert (states.count("deadlettered"), states.count("accepted")) == (10, 50)


def canonical_but_odd(envelope: Envelope) -> Mapped:
    return MAPPINGS["canonical"](replace(envelope, type="worker.hired"))


async def test_source_applied_later_is_read_without_a_restart(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await hr.send(event("e-1"))
    async with running(intake_of(database, settings)) as intake:

        async def ready() -> bool:
            return intake.is_ready

        await until(ready)
        assert await events_of(database) == []
        await declare(database, hr.topic)
        await stored(database, 1)


async def test_missing_topic_and_unknown_mapping_are_told_and_hold_up_nobody(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    await declare(database, "no.such.topic")
    await declare(database, "hr.other", mapping="not-there")
    await hr.send(event("e-1"))
    async with running(intake_of(database, settings)) as intake:
        await stored(database, 1)
        told = " ".join(intake.facts.problems)
    assert "no.such.topic" in told
    assert "not-there" in told


class Faulty:
    """A database that fails as it is told to; otherwise the real one."""

    def __init__(self, real: Database) -> None:
        self._real = real
        self.failure: Exception | None = None
        self.refused = 0

    async def transact(self, work: Work[T]) -> T:
        self._fail()
        return await self._real.transact(work)

    async def read(self, work: Work[T]) -> T:
        self._fail()
        return await self._real.read(work)

    async def look_up(self, work: Work[T]) -> T:
        self._fail()
        return await self._real.look_up(work)

    async def close(self) -> None:
        await self._real.close()

    def _fail(self) -> None:
        if self.failure is not None:
            self.refused += 1
            raise self.failure


async def test_database_that_is_away_pauses_intake_and_loses_nothing(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    await hr.send(event("e-0"))
    faulty = Faulty(database)
    async with running(intake_of(faulty, settings)) as intake:
        await stored(database, 1)
        faulty.failure = ConnectionRefusedError()
        for number in range(1, 6):
            await hr.send(event(f"e-{number}"), partition=number % 2)

        async def noticed() -> bool:
            return any("database is away" in each for each in intake.facts.problems)

        await until(noticed)
        polled = intake.facts.polled_at
        await asyncio.sleep(1.0)
        assert intake.facts.polled_at != polled  # still in the group
        assert faulty.refused < 30  # and not in a busy loop
        faulty.failure = None
        events = await stored(database, 6)
        assert intake.facts.restarts == 0

        async def well() -> bool:
            return intake.facts.problems == ()

        await until(well)
    assert {each.state for each in events} == {"accepted"}
    for partition in (0, 1):
        offsets = [each.offset for each in events if each.partition == partition]
        assert offsets == sorted(offsets, key=lambda offset: offset or 0)


async def test_what_is_not_durable_is_not_committed_and_the_next_member_takes_it_in(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    """Also not at the end of a process, with the last commit that it makes then."""
    await declare(database, hr.topic)
    await hr.send(event("e-0"), partition=0)
    faulty = Faulty(database)
    async with running(intake_of(faulty, settings)) as intake:
        await stored(database, 1)
        faulty.failure = ConnectionRefusedError()
        await hr.send(event("e-1"), partition=0)
        await hr.send(event("e-2"), partition=1)

        async def noticed() -> bool:
            return any("database is away" in each for each in intake.facts.problems)

        await until(noticed)
        await asyncio.sleep(4 * settings.commit_every)
        offsets = await committed(settings, hr.topic)
        assert offsets[0] in (None, 1)
        assert not offsets[1]
    offsets = await committed(settings, hr.topic)
    assert offsets[0] in (None, 1)
    assert not offsets[1]
    async with running(intake_of(database, settings)):
        await stored(database, 3)


async def test_fault_of_the_database_is_never_a_dead_letter(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    faulty = Faulty(database)
    async with running(intake_of(faulty, settings)) as intake:

        async def joined() -> bool:
            return len(intake.facts.assigned) == 2

        await until(joined)
        faulty.failure = RuntimeError("something is wrong with the database")
        sent = await hr.send(event("e-1"))

        async def blocked() -> bool:
            return any(f"offset {sent.offset}" in each for each in intake.facts.problems)

        await until(blocked)
        assert await events_of(database) == []
        faulty.failure = None
        assert [each.state for each in await stored(database, 1)] == ["accepted"]


async def test_two_members_share_the_topic_and_one_takes_over_from_the_other(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    async with running(intake_of(database, settings)) as stays:
        async with running(intake_of(database, settings)) as leaves:

            async def shared() -> bool:
                return len(stays.facts.assigned) == len(leaves.facts.assigned) == 1

            await until(shared)
            for number in range(20):
                await hr.send(event(f"e-{number}", f"w-{number}"), partition=number % 2)
            await stored(database, 20)
        for number in range(20, 40):
            await hr.send(event(f"e-{number}", f"w-{number}"), partition=number % 2)
        events = await stored(database, 40)
        assert len(stays.facts.assigned) == 2
    assert {each.state for each in events} == {"accepted"}


async def test_static_member_goes_on_after_a_restart(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    static = replace(settings, group_instance_id="intake-0")
    for number in (1, 2):
        await hr.send(event(f"e-{number}", f"w-{number}"))
        async with running(intake_of(database, static)):
            events = await stored(database, number)
    assert {each.state for each in events} == {"accepted"}


async def test_lag_is_told(database: Database, hr: Hr, settings: IntakeSettings) -> None:
    await declare(database, hr.topic)
    for _ in range(3):
        await hr.send(event("e-1"), partition=0)
    async with running(intake_of(database, settings)) as intake:

        async def caught_up() -> bool:
            return intake.facts.lag == {f"{hr.topic}[0]": 0, f"{hr.topic}[1]": 0}

        await until(caught_up)
        assert intake.facts.committed_at is not None


@pytest.mark.kill
async def test_topics_rest_while_auth0_is_to_catch_up_also_after_an_assignment(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    low = replace(settings, high_water=10, max_poll_records=5)
    for number in range(10):
        await hr.send(event(f"e-{number}", f"w-{number}"), partition=number % 2)
    async with running(intake_of(database, low)) as intake:
        events = await stored(database, 10)

        async def rests() -> bool:
            return any("has caught up" in each for each in intake.facts.problems)

        await until(rests)
        async with running(intake_of(database, low)) as another:

            async def shared() -> bool:
                return len(another.facts.assigned) == len(intake.facts.assigned) == 1

            await until(shared)
            for number in range(10, 14):
                await hr.send(event(f"e-{number}", f"w-{number}"), partition=number % 2)
            await asyncio.sleep(1.0)
            await stored(database, 10)
            assert intake.is_ready
            await finish(database, events)
            await stored(database, 14)
        assert intake.facts.restarts == 0


async def finish(database: Database, events: Sequence[Event]) -> None:
    def work(tx: Transaction) -> None:
        for each in events:
            ending.finish(tx, each.id, "succeeded", now=each.accepted_at, result="applied")

    await database.transact(work)


async def test_age_of_what_waits_is_told_and_warns_before_kafka_deletes_it(
    database: Database, hr: Hr, settings: IntakeSettings, kafka_bootstrap_servers: str
) -> None:
    """Also of a source that is stopped when the process starts: nothing of it has been read then."""
    minutes = {"retention.ms": str(60 * 60 * 1000), "cleanup.policy": "delete"}
    await configure(kafka_bootstrap_servers, hr.topic, minutes)
    await declare(database, hr.topic, fuse=1)
    raw = batch((b"w-0", event("e-0", type="worker.odd"), AS_STRUCTURED))
    await send_raw(kafka_bootstrap_servers, hr.topic, 0, raw)
    old = int((time.time() - 50 * 60) * 1000)
    raw = batch((b"w-1", event("e-1"), AS_STRUCTURED), timestamp=old)
    await send_raw(kafka_bootstrap_servers, hr.topic, 0, raw)
    async with running(intake_of(database, replace(settings, max_poll_records=1))):
        await stored(database, 1)
    registry = CollectorRegistry()
    intake = intake_of(database, settings, metrics=IntakeMetrics(registry))

    def told(name: str, partition: int = 0) -> float | None:
        intake.tell_metrics()
        labels = {"topic": hr.topic, "partition": str(partition)}
        return registry.get_sample_value(f"provisioner_intake_{name}", labels)

    async with running(intake):

        async def warned() -> bool:
            return any("about to delete" in each for each in intake.facts.problems)

        await until(warned)
        assert told("lag_records") == 1
        assert 3000 <= (told("lag_seconds") or 0) < 3100
        assert 0.83 <= (told("retention_used") or 0) < 0.9
        assert told("lag_seconds", partition=1) == 0
        await database.transact(lambda tx: fuses.reset(tx, hr.topic))
        await stored(database, 2)

        async def well() -> bool:
            return intake.facts.problems == () and told("lag_records") == 0

        await until(well)
        assert told("retention_used") == 0
    taken = registry.get_sample_value("provisioner_intake_events_total", {"topic": hr.topic})
    assert taken == 1
    batches = "provisioner_intake_batch_seconds_count"
    assert registry.get_sample_value(batches, {"topic": hr.topic}) == 1
    assert (registry.get_sample_value("provisioner_intake_polled_seconds_ago") or 99) < 30


class Hanging(AIOKafkaConsumer):
    """A consumer whose first fetch never returns."""

    hung = False

    async def getmany(self, *partitions: Any, **options: Any) -> Any:
        if not Hanging.hung:
            Hanging.hung = True
            await asyncio.sleep(3600)
        return await super().getmany(*partitions, **options)


async def test_watchdog_replaces_a_consumer_that_stands_still(
    database: Database, hr: Hr, settings: IntakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hanging, "hung", False)
    monkeypatch.setattr("consumers.kafka.AIOKafkaConsumer", Hanging)
    await declare(database, hr.topic)
    await hr.send(event("e-1"))
    impatient = replace(settings, stall_after=1.0, session_timeout=6.0, drain_within=0.2)
    async with running(intake_of(database, impatient)) as intake:

        async def noticed() -> bool:
            return not intake.is_ready and Hanging.hung

        await until(noticed)
        await stored(database, 1)
        assert intake.facts.restarts >= 1

        async def ready() -> bool:
            return intake.is_ready

        await until(ready)


async def test_brokers_that_are_away_are_waited_for_and_the_end_is_prompt(
    database: Database, settings: IntakeSettings
) -> None:
    nowhere = replace(settings, connection=KafkaConnection(bootstrap_servers="127.0.0.1:9"))
    intake = intake_of(database, nowhere)
    loop = asyncio.get_running_loop()
    async with running(intake):

        async def told() -> bool:
            return bool(intake.facts.problems)

        await until(told)
        assert not intake.is_ready
        began = loop.time()
    assert loop.time() - began < timedelta(seconds=5).total_seconds()


def connected() -> set[AIOKafkaConnection]:
    return {
        each
        for each in gc.get_objects()
        if isinstance(each, AIOKafkaConnection) and each.connected()
    }


async def test_end_that_has_no_time_leaves_no_connection_open(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    await hr.send(event("e-1"))
    before = connected()
    async with running(intake_of(database, replace(settings, stop_within=0.001))):
        await stored(database, 1)
        assert connected() - before
    assert connected() - before == set()


@pytest.mark.kill
@pytest.mark.parametrize("how", ["shut", "fall_silent"])
async def test_brokers_that_go_away_and_come_back_cost_nothing(
    database: Database,
    hr: Hr,
    settings: IntakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    await declare(database, hr.topic)
    await hr.send(event("e-1"))
    async with door_to(settings.connection.bootstrap_servers, monkeypatch) as door:
        through = replace(
            settings,
            connection=KafkaConnection(bootstrap_servers=door.address),
            request_within=0.5,
        )
        async with running(intake_of(database, through)) as intake:
            await stored(database, 1)
            getattr(door, how)()
            await hr.send(event("e-2"))

            async def told() -> bool:
                return not intake.is_ready and bool(intake.facts.problems)

            await until(told)
            cpu = time.process_time()
            await asyncio.sleep(1.0)
            assert time.process_time() - cpu < 0.5  # no busy loop
            door.open()
            events = await stored(database, 2)

            async def well() -> bool:
                return intake.is_ready and intake.facts.problems == ()

            await until(well)
    assert [each.source_id for each in events] == ["e-1", "e-2"]


@pytest.mark.kill
@pytest.mark.parametrize("how", ["shut", "fall_silent"])
async def test_end_is_prompt_when_brokers_have_gone_away(
    database: Database,
    hr: Hr,
    settings: IntakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    await declare(database, hr.topic)
    await hr.send(event("e-1"))
    loop = asyncio.get_running_loop()
    async with door_to(settings.connection.bootstrap_servers, monkeypatch) as door:
        through = replace(
            settings, connection=KafkaConnection(bootstrap_servers=door.address), commit_every=60.0
        )
        async with running(intake_of(database, through)):
            await stored(database, 1)
            getattr(door, how)()
            began = loop.time()
        assert loop.time() - began < 10


OWN_HR = """
mapping: own-hr
version: 1
rules:
  - split: payload
    subject: payload.id
    type: {from: payload.kind, table: {in: worker.hired}}
    attributes: {email: payload.mail}
"""


async def declare_mapping(database: Database, text: str) -> None:
    document, _ = packs.checked(text, where="own-hr")
    form = packs.stored_form(document)
    await database.transact(
        lambda tx: mappings.apply(tx, document.mapping, document.version, form, datetime.now(UTC))
    )


async def test_plain_json_is_read_by_a_declared_mapping_and_a_changed_one_without_restart(
    database: Database, settings: IntakeSettings, hr: Hr
) -> None:
    await declare_mapping(database, OWN_HR)
    await declare(database, hr.topic, mapping="own-hr")
    people = [{"id": n, "kind": "in", "mail": f"{n}@acme.example"} for n in range(3)]
    async with running(intake_of(database, settings)) as intake:
        await hr.send(json.dumps([*people, {"kind": "in"}]).encode(), headers=(), partition=0)
        found = await stored(database, 4)
        assert [each.state for each in found] == ["accepted"] * 3 + ["deadlettered"]
        assert {each.offset for each in found} == {0}
        assert intake.facts.taken == 1
        await until(lambda: _committed_at(settings, hr.topic, 1))
        await declare_mapping(database, OWN_HR.replace("in: worker", "joined: worker"))
        joined = json.dumps([people[0] | {"kind": "joined"}]).encode()

        async def read_by_the_new_one() -> bool:
            await hr.send(joined, headers=(), partition=0)
            later = [each for each in await events_of(database) if each.offset]
            return any(each.state == "accepted" for each in later)

        await until(read_by_the_new_one)


async def _committed_at(settings: IntakeSettings, topic: str, offset: int) -> bool:
    return (await committed(settings, topic))[0] == offset
