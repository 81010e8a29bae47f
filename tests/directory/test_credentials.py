"""Bearer tokens: two live ones for a door, each with its scopes, and when it was last used."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.directory import credentials
from service.directory.credentials import Credential, TokenDoor
from service.directory.database import Database, Work
from service.directory.uses import Uses
from service.errors import Refused
from service.organizations import TokenScope
from tests.consumers.support import SetClock

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
PEPPER = b"a pepper for these tests only....."
DAY = timedelta(days=1)


async def create(
    database: Database,
    door: TokenDoor = "scim",
    *,
    organization: str = "hoekstra",
    at: datetime = NOW,
    lifetime: timedelta | None = None,
    scopes: tuple[TokenScope, ...] = ("read", "write"),
) -> str:
    return await database.transact(
        lambda tx: credentials.create(
            tx,
            organization=organization,
            door=door,
            pepper=PEPPER,
            now=at,
            lifetime=lifetime,
            scopes=scopes,
        )
    )


async def verify(
    database: Database,
    token: str,
    door: TokenDoor = "scim",
    organization: str = "hoekstra",
    at: datetime = NOW,
) -> Credential | None:
    return await database.read(
        lambda tx: credentials.verify(
            tx, token, organization=organization, door=door, pepper=PEPPER, now=at
        )
    )


async def listed(database: Database) -> list[Credential]:
    return await database.read(lambda tx: credentials.listing(tx, "hoekstra"))


async def last_use(database: Database, token: str) -> datetime | None:
    (found,) = [each for each in await listed(database) if each.id == token.split("_")[1]]
    return found.last_used_at


async def test_a_token_opens_its_door_with_its_scopes_and_nothing_else(database: Database) -> None:
    token = await create(database, scopes=("read",))
    found = await verify(database, token)
    assert found is not None
    assert found.scopes == ("read",)
    assert await verify(database, token, "events") is None
    assert await verify(database, token, organization="globex") is None
    assert await verify(database, f"{token}x") is None
    assert await verify(database, token[:-1]) is None


async def test_new_tokens_may_read_and_write(database: Database) -> None:
    token = await database.transact(
        lambda tx: credentials.create(
            tx, organization="hoekstra", door="scim", pepper=PEPPER, now=NOW
        )
    )
    found = await verify(database, token)
    assert found is not None
    assert found.scopes == ("read", "write")


async def test_a_third_live_token_is_refused_with_the_ids_of_the_two(database: Database) -> None:
    first, second = await create(database), await create(database)
    with pytest.raises(Refused) as refused:
        await create(database)
    message = str(refused.value)
    assert first.split("_")[1] in message
    assert second.split("_")[1] in message
    assert "org token revoke hoekstra" in message
    assert first.split("_", 2)[2] not in message
    assert len(await listed(database)) == 2


async def test_each_door_and_each_organization_has_two_of_its_own(database: Database) -> None:
    for door in ("scim", "events"):
        for organization in ("hoekstra", "globex"):
            await create(database, door, organization=organization)
            await create(database, door, organization=organization)


async def test_a_revoked_or_expired_token_makes_room(database: Database) -> None:
    first = await create(database)
    await create(database, lifetime=DAY)
    key_id = first.split("_")[1]
    assert await database.transact(lambda tx: credentials.revoke(tx, "hoekstra", key_id, NOW))
    third = await create(database)
    with pytest.raises(Refused):
        await create(database)
    fourth = await create(database, at=NOW + DAY)
    assert await verify(database, third, at=NOW + DAY)
    assert await verify(database, fourth, at=NOW + DAY)


async def test_of_many_who_create_at_once_two_succeed(database: Database) -> None:
    made = await asyncio.gather(*(create(database) for _ in range(8)), return_exceptions=True)
    assert len([each for each in made if isinstance(each, str)]) == 2
    assert len([each for each in made if isinstance(each, Refused)]) == 6


@pytest.mark.parametrize(("door", "scopes"), [("events", ("read",)), ("scim", ())])
async def test_a_token_that_could_do_nothing_is_not_made(
    database: Database, door: TokenDoor, scopes: tuple[TokenScope, ...]
) -> None:
    with pytest.raises(Refused, match="scope"):
        await create(database, door, scopes=scopes)


# Last use


async def test_last_use_is_written_at_most_once_a_minute(database: Database) -> None:
    clock = SetClock(NOW)
    uses = Uses(database=database, clock=clock)
    token = await create(database)
    key_id = token.split("_")[1]
    assert await last_use(database, token) is None

    seen: list[datetime | None] = []
    for _ in range(9):  # every 10 seconds
        uses.note(key_id)
        await uses.write()
        seen.append(await last_use(database, token))
        await clock.sleep(10)

    minute = NOW + timedelta(minutes=1)
    assert seen == [NOW] * 6 + [minute] * 3


async def test_what_was_not_written_yet_is_written_at_the_end(database: Database) -> None:
    clock = SetClock(NOW)
    uses = Uses(database=database, clock=clock)
    token = await create(database)
    for _ in range(2):
        await clock.sleep(1)
        uses.note(token.split("_")[1])
        await uses.write()
    await uses.finish()
    assert await last_use(database, token) == NOW + timedelta(seconds=2)


async def test_a_minute_is_kept_by_two_processes_together_and_time_runs_forward_only(
    database: Database,
) -> None:
    clock, late = SetClock(NOW), SetClock(NOW - timedelta(seconds=90))
    token = await create(database)
    key_id = token.split("_")[1]
    first, second = (Uses(database=database, clock=clock) for _ in range(2))
    first.note(key_id)
    await first.write()
    await clock.sleep(30)
    second.note(key_id)
    await second.write()
    assert await last_use(database, token) == NOW

    third = Uses(database=database, clock=late)
    third.note(key_id)
    await third.write()
    await third.finish()
    assert await last_use(database, token) == NOW


async def test_a_database_that_is_away_costs_no_use(database: Database) -> None:
    clock = SetClock(NOW)
    away = Away(database)
    uses = Uses(database=away, clock=clock)
    token = await create(database)
    uses.note(token.split("_")[1])
    with capture_logs() as logged:
        await uses.write()
        await uses.finish()
    assert [entry["log_level"] for entry in logged] == ["warning", "warning"]
    away.is_away = False
    await uses.write()
    assert await last_use(database, token) == NOW


async def test_the_worker_writes_until_it_is_asked_to_stop(database: Database) -> None:
    uses = Uses(database=database, clock=SetClock(NOW))
    token = await create(database)
    uses.note(token.split("_")[1])
    stop = asyncio.Event()
    running = asyncio.create_task(uses.run(stop))
    async with asyncio.timeout(5):
        while await last_use(database, token) is None:  # noqa: ASYNC110 - a table tells no event
            await asyncio.sleep(0.01)
        stop.set()
        await running
    assert await last_use(database, token) == NOW


class Away:
    """A database that does not answer until it is back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_away = True

    async def transact(self, work: Work[Any]) -> Any:
        if self.is_away:
            raise ConnectionRefusedError
        return await self._database.transact(work)

    async def read(self, work: Work[Any]) -> Any:
        return await self._database.read(work)

    async def look_up(self, work: Work[Any]) -> Any:
        return await self._database.look_up(work)

    async def close(self) -> None:
        await self._database.close()
