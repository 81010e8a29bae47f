"""While a partition is being stored the others go on, and what is in hand is neither lost nor overtaken."""

import asyncio
from dataclasses import replace
from typing import TypeVar

from consumers.kafka import IntakeSettings
from service.directory.database import Database, Work
from tests.consumers.conftest import database, database_url
from tests.consumers.support import events_of
from tests.integration.test_kafka_intake import (
    Hr,
    committed,
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
T = TypeVar("T")


class Holding:
    """A database that holds its next transaction up until it is released; otherwise the real one."""

    def __init__(self, real: Database) -> None:
        self._real = real
        self.holds = False
        self.held = 0
        self.released = asyncio.Event()

    async def transact(self, work: Work[T]) -> T:
        if self.holds:
            self.holds = False
            self.held += 1
            await self.released.wait()
        return await self._real.transact(work)

    async def read(self, work: Work[T]) -> T:
        return await self._real.read(work)

    async def look_up(self, work: Work[T]) -> T:
        return await self._real.look_up(work)

    async def close(self) -> None:
        await self._real.close()

    async def holds_one(self) -> bool:
        return self.held > 0


async def send(hr: Hr, partition: int, *numbers: int) -> None:
    for number in numbers:
        await hr.send(event(f"e-{partition}-{number}", f"w-{partition}"), partition=partition)


async def test_a_partition_that_takes_its_time_holds_up_itself_alone(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    slow = Holding(database)
    async with running(intake_of(slow, settings)) as intake:

        async def joined() -> bool:
            return len(intake.facts.assigned) == 2

        await until(joined)
        slow.holds = True
        await send(hr, 0, 0)
        await until(slow.holds_one)
        for number in range(3):
            await send(hr, 0, number + 1)
            await send(hr, 1, number)
            await stored(database, number + 1)
        assert {each.partition for each in await events_of(database)} == {1}
        await until(lambda: committed_is(settings, hr.topic, {0: None, 1: 3}))
        assert intake.is_ready
        slow.released.set()
        events = await stored(database, 7)
    ids = [each.source_id for each in events if each.partition == 0]
    assert ids == [f"e-0-{number}" for number in range(4)]
    assert await committed(settings, hr.topic) == {0: 4, 1: 3}


async def committed_is(settings: IntakeSettings, topic: str, due: dict[int, int | None]) -> bool:
    return await committed(settings, topic) == due


async def test_a_transaction_that_outlasts_the_end_costs_neither_time_nor_records(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    slow = Holding(database)
    slow.holds = True
    loop = asyncio.get_running_loop()
    async with running(intake_of(slow, replace(settings, drain_within=0.3))):
        await send(hr, 0, 0, 1)
        await until(slow.holds_one)
        began = loop.time()
    assert loop.time() - began < 3
    assert not (await committed(settings, hr.topic))[0]
    async with running(intake_of(database, settings)):
        events = await stored(database, 2)
    assert [each.source_id for each in events] == ["e-0-0", "e-0-1"]


async def test_a_transaction_that_hangs_gives_its_records_to_another_consumer(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    await declare(database, hr.topic)
    slow = Holding(database)
    slow.holds = True
    impatient = replace(settings, stall_after=0.6, session_timeout=6.0, drain_within=0.2)
    async with running(intake_of(slow, impatient)) as intake:
        await send(hr, 0, 0)
        await until(slow.holds_one)
        await stored(database, 1)
        assert intake.facts.restarts >= 1


async def test_what_a_rebalance_finds_in_hand_is_stored_once_and_in_order(
    database: Database, hr: Hr, settings: IntakeSettings
) -> None:
    """Also where its transaction ends only after the partition has gone to another member."""
    await declare(database, hr.topic)
    slow = Holding(database)
    brief = replace(settings, drain_within=0.2)
    async with running(intake_of(slow, brief)) as stays:

        async def joined() -> bool:
            return len(stays.facts.assigned) == 2

        await until(joined)
        slow.holds = True
        await send(hr, 0, 0, 1, 2)
        await until(slow.holds_one)
        async with running(intake_of(database, brief)) as joins:

            async def shared() -> bool:
                return len(stays.facts.assigned) == len(joins.facts.assigned) == 1

            await until(shared)
            slow.released.set()
            await stored(database, 3)
            await send(hr, 0, 3, 4)
            await send(hr, 1, 0)
            events = await stored(database, 6)
    ids = [each.source_id for each in events if each.partition == 0]
    assert ids == [f"e-0-{number}" for number in range(5)]
    assert {each.state for each in events} == {"accepted"}
    assert await committed(settings, hr.topic) == {0: 5, 1: 1}
