"""Whoever waits for work is told of it by one look for all, and of nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from service.clock import SystemClock
from service.directory.database import Database, T, Work
from service.directory.prospects import Aspect
from service.provisioning.outlook import Outlook, rest
from tests.directory.test_prospects import NOW, SOON, account, declared


class Counted:
    """A database that counts looks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.looks = 0

    async def look_up(self, work: Work[T]) -> T:
        self.looks += 1
        return await self._database.look_up(work)

    async def transact(self, work: Work[T]) -> T:
        return await self._database.transact(work)

    async def read(self, work: Work[T]) -> T:
        return await self._database.read(work)

    async def close(self) -> None:
        await self._database.close()


@asynccontextmanager
async def looking(database: Database) -> AsyncGenerator[tuple[Outlook, Counted]]:
    counted, stop = Counted(database), asyncio.Event()
    outlook = Outlook(database=counted, clock=SystemClock(), soon=0.01, later=0.03)
    running = asyncio.create_task(outlook.run(stop))
    try:
        yield outlook, counted
    finally:
        stop.set()
        await running


async def test_whoever_waits_is_told_once_there_is_work_and_others_are_not(
    database: Database,
) -> None:
    await declared(database, "main", "other")
    never = asyncio.Event()
    async with looking(database) as (outlook, _):
        theirs = asyncio.create_task(outlook.wait("accounts", "main", never))
        others = asyncio.create_task(outlook.wait("accounts", "other", never, 0.3))
        await asyncio.sleep(0.1)
        assert not theirs.done()
        await database.transact(account(due_at=NOW + SOON))
        assert await asyncio.wait_for(theirs, 2) is True
        assert await others is False


async def test_many_tenants_that_wait_cost_one_look(database: Database) -> None:
    names = [f"t{number}" for number in range(20)]
    await declared(database, *names)
    ended = asyncio.Event()
    kinds: tuple[Aspect, ...] = ("accounts", "looks", "imports", "drift")
    async with looking(database) as (outlook, counted):
        waiting = [
            asyncio.create_task(outlook.wait(kind, name, ended)) for kind in kinds for name in names
        ]
        await asyncio.sleep(0.3)
        looks = counted.looks
        ended.set()
        told = await asyncio.gather(*waiting)
        assert not any(told)
        assert 3 <= looks <= 45
        await asyncio.sleep(0.1)
        idle = counted.looks
        await asyncio.sleep(0.1)
        assert counted.looks == idle, "it looks although nobody waits"


async def test_where_the_look_fails_everybody_looks_for_themselves(tmp_path: object) -> None:
    class Broken(Counted):
        def __init__(self) -> None:
            self.looks = 0

        async def look_up(self, work: Work[T]) -> T:
            raise OSError("away")

    stop = asyncio.Event()
    outlook = Outlook(database=Broken(), clock=SystemClock(), soon=0.01)
    running = asyncio.create_task(outlook.run(stop))
    assert await asyncio.wait_for(outlook.wait("accounts", "main", stop), 2) is True
    stop.set()
    await running


async def test_without_an_outlook_a_poll_does() -> None:
    began: datetime = SystemClock().now()
    assert await rest(None, "accounts", "main", asyncio.Event(), poll=0.05)
    assert SystemClock().now() - began >= timedelta(seconds=0.05)
