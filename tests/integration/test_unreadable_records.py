"""Records that a fetch raises over: a dead letter with its bytes, or a partition that says why it stands."""

import asyncio
import base64
from dataclasses import replace

import aiokafka.codec
import pytest
from aiokafka import AIOKafkaProducer

from consumers.cloudevents import STRUCTURED
from consumers.kafka import IntakeSettings
from service.directory.database import Database
from service.outcomes.deadletter import RECORD_TIMESTAMP
from tests.integration.raw_records import Named, batch, send_raw, snappy
from tests.integration.test_kafka_intake import (
    Hr,
    committed,
    database,
    database_url,
    declare,
    event,
    hr,
    intake_of,
    running,
    settings,
    stored,
    until,
)

__all__ = ["database", "database_url", "hr", "settings"]
PLAIN = ("content-type", STRUCTURED.encode())


async def test_header_name_that_is_not_utf8_is_a_dead_letter_and_all_others_go_on(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    servers = settings.connection.bootstrap_servers
    for number in range(3):
        await hr.send(event(f"e-{number}", f"w-{number}"), partition=number % 2)
    misnamed = [PLAIN, (Named(b"caf\xe9"), b"\xff\x00")]
    raw = batch(
        (b"w-3", event("e-3", "w-3"), [PLAIN]),
        (b"w-4", event("e-4", "w-4"), misnamed),
        (b"w-5", event("e-5", "w-5"), [PLAIN]),
    )
    first = await send_raw(servers, hr.topic, 0, raw)
    await hr.send(event("e-6", "w-6"), partition=0)
    await hr.send(event("e-7", "w-7"), partition=1)
    async with running(intake_of(database, replace(settings, max_poll_records=2))) as intake:
        events = await stored(database, 8)
        assert intake.facts.restarts == 0
        assert intake.facts.problems == ()
    (dead,) = (each for each in events if each.state == "deadlettered")
    assert (dead.topic, dead.partition, dead.offset) == (hr.topic, 0, first + 1)
    assert (dead.key, dead.body) == (b"w-4", event("e-4", "w-4"))
    assert (dead.error or {})["code"] == "header_name_not_utf8"
    kept = [(name, base64.b64decode(value or "")) for name, value in dead.headers]
    assert kept == [PLAIN, ("caf\\xe9", b"\xff\x00"), (RECORD_TIMESTAMP, b"1790000000000")]
    others = {each.source_id: each.state for each in events if each is not dead}
    assert others == {f"e-{n}": "accepted" for n in (0, 1, 2, 3, 5, 6, 7)}
    assert sum(each or 0 for each in (await committed(settings, hr.topic)).values()) == 8


async def test_many_such_records_after_what_was_taken_in_before_cost_no_restart(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic, fuse=0)
    await hr.send(event("e-0"), partition=1)
    async with running(intake_of(database, settings)) as intake:
        await stored(database, 1)
        misnamed = [PLAIN, (Named(b"\xff"), b"")]
        for start in (0, 30):
            raw = batch(*((b"k", event(f"m-{start + n}"), misnamed) for n in range(30)))
            await send_raw(settings.connection.bootstrap_servers, hr.topic, 1, raw)
        await hr.send(event("e-last", "w-9"), partition=1)
        events = await stored(database, 62)
        assert intake.facts.restarts == 0
    assert [each.state for each in events].count("deadlettered") == 60
    offsets = [each.offset for each in events]
    assert offsets == sorted(offsets, key=lambda offset: offset or 0)


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_records_are_read_however_the_producer_compressed_them(
    database: Database, hr: Hr, settings: IntakeSettings, codec: str
) -> None:
    await declare(database, hr.topic)
    bodies = [event(f"e-{number}", f"w-{number}") for number in range(20)]
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.connection.bootstrap_servers,
        compression_type=codec,
        linger_ms=50,
    )
    async with producer:
        sent = [
            await producer.send(hr.topic, body, partition=0, headers=[PLAIN]) for body in bodies
        ]
        await asyncio.gather(*sent)
    async with running(intake_of(database, settings)):
        events = await stored(database, 20)
    assert [each.body for each in events] == bodies


async def test_compression_that_we_cannot_read_blocks_its_partition_and_says_what_to_do(
    database: Database, hr: Hr, settings: IntakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Brokers let no codec in that they do not know themselves: ours is as an older one would be.
    monkeypatch.setattr(aiokafka.codec, "cramjam", None)
    await declare(database, hr.topic)
    raw = snappy(batch((b"w-1", event("e-1"), [PLAIN])))
    offset = await send_raw(settings.connection.bootstrap_servers, hr.topic, 0, raw)
    await hr.send(event("e-2", "w-2"), partition=1)
    async with running(intake_of(database, settings)) as intake:

        async def told() -> bool:
            where = f"{hr.topic}[0] does not get past offset {offset}"
            return any(where in each and "compressed" in each for each in intake.facts.problems)

        await until(told)
        (event_,) = await stored(database, 1)
        assert event_.source_id == "e-2"
        await hr.send(event("e-3", "w-2"), partition=1)
        await stored(database, 2)
        assert intake.facts.restarts == 0
    assert not (await committed(settings, hr.topic))[0]
