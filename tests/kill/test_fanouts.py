"""A change of many accounts, carried out by a process that is killed half-way, touches each once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import func, select

from service.directory import events, fanouts, groups, migrate
from service.directory import tables as t
from service.directory.database import Database, Transaction, open_database
from service.directory.inbox import Received
from service.organizations import Connection, Organization
from tests.directory.crowd import enrol, settle_in
from tests.directory.customer import registered
from tests.infrastructure.processes import RunningProcess, provisioner, start
from tests.kill.conftest import ENVIRONMENT

CROWD = 6_000
KILLS = 3


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/directory.db"
    return request.getfixturevalue("postgres_database")


@pytest.mark.kill
async def test_a_fan_out_whose_worker_is_killed_goes_on_where_it_stopped(
    url: str, tmp_path: Path, random: Random
) -> None:
    await migrate.upgrade(url)
    database = open_database(url)
    try:
        event_id = await _rename_of_a_crowd(database)
        lefts = [CROWD]
        for life in range(KILLS):
            process = _serve(url, tmp_path, life)
            # After its first portion, and before the last: in the middle, wherever that is.
            await _until_fewer(database, event_id, lefts[-1])
            await asyncio.sleep(random.uniform(0, 0.05))
            process.kill()
            lefts.append(await _left(database, event_id))
        assert CROWD > lefts[1] > lefts[2] > lefts[3] > 0, lefts
        process = _serve(url, tmp_path, KILLS)
        async with asyncio.timeout(60):
            while await _left(database, event_id):  # noqa: ASYNC110 - the database tells no event
                await asyncio.sleep(0.02)
        assert process.stop() == 0
        assert await database.read(_revisions) == {2: CROWD}
        assert await database.read(lambda tx: _waiting(tx, event_id)) == CROWD
        event = await database.read(lambda tx: events.get(tx, event_id))
        assert event is not None
        assert event.state == "accepted"
    finally:
        await database.close()


async def _rename_of_a_crowd(database: Database) -> str:
    """A group of many that gains a role by its new name; the id of that event."""
    airline = await registered(
        database,
        Organization(
            name="airline",
            connections=(Connection(name="airline-users"),),
            roles={"Pilots": "pilot"},
        ),
    )
    now = datetime.now(UTC)
    received = Received(door="scim", source="scim", type="scim.group.patched", at=now)

    def work(tx: Transaction) -> None:
        made = groups.create(tx, airline.registered, {"displayName": "Crew"}, (), received)
        enrol(tx, made.id, settle_in(tx, "airline", CROWD, now))
        held = groups.lock(tx, "airline", made.id)
        pilots = {"displayName": "Pilots"}
        groups.change(tx, airline.registered, held, pilots, groups.MemberChange(), received)

    await database.transact(work)
    return (await airline.events())[-1].id


def _serve(url: str, folder: Path, life: int) -> RunningProcess:
    environment = {
        **ENVIRONMENT,
        "PROVISIONER_DATABASE_URL": url.replace("+asyncpg", ""),
        "PROVISIONER_TOKEN_PEPPER": "x" * 32,
    }
    return start(
        provisioner("serve", "--roles", "lanes", "--port", "0"),
        name=f"serve-{life}",
        directory=folder,
        environment=environment,
    )


async def _left(database: Database, event_id: str) -> int:
    return await database.read(lambda tx: fanouts.left(tx, event_id))


async def _until_fewer(database: Database, event_id: str, than: int) -> None:
    async with asyncio.timeout(30):
        while await _left(database, event_id) >= than:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


def _revisions(tx: Transaction) -> dict[int, int]:
    rows = tx.execute(select(t.accounts.c.revision, func.count()).group_by(t.accounts.c.revision))
    return dict(rows.tuples().all())


def _waiting(tx: Transaction, event_id: str) -> int:
    return tx.execute(select(func.count()).where(t.waits.c.event_id == event_id)).scalar_one()
