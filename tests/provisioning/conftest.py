"""Worlds on SQLite, and on Postgres for the rules that the database has a part in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.directory.database import Database, open_database
from service.people import User
from tests.infrastructure.schema import migrated_sqlite
from tests.provisioning.hand import Hand, TakeOver, take_over
from tests.provisioning.world import Simulator, World


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = open_database(migrated_sqlite(tmp_path / "directory.db"))
    yield opened
    await opened.close()


@pytest.fixture
async def postgres(postgres_migrated: str) -> AsyncIterator[Database]:
    opened = open_database(postgres_migrated)
    yield opened
    await opened.close()


async def _world(database: Database, folder: Path) -> AsyncIterator[World]:
    simulator = Simulator(folder / "simulator")
    url = await simulator.start()
    async with httpx.AsyncClient(base_url=url) as http:
        world = World(database=database, url=url, folder=folder, http=http)
        await world.declare()
        yield world
        await world.rest()
    await simulator.stop()


@pytest.fixture
async def world(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async for made in _world(database, tmp_path):
        yield made


@pytest.fixture
async def postgres_world(postgres: Database, tmp_path: Path) -> AsyncIterator[World]:
    async for made in _world(postgres, tmp_path):
        yield made


@pytest.fixture
async def hand(world: World) -> AsyncIterator[TakeOver]:
    taken: list[Hand] = []

    async def take(user: User) -> Hand:
        taken.append(await take_over(world, user))
        return taken[-1]

    yield take
    for one in taken:
        await one.performer.client.close()
