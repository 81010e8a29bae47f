"""A SCIM request that asked for it is told once Auth0 has been brought to it, or cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from scim.app import create_app
from service.directory import credentials
from service.directory.outbox import Outcome
from tests.provisioning.world import World

PEPPER = b"pepper of the tests"
LATER = {"Prefer": "respond-async"}


@pytest.fixture
async def scim(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The SCIM door of ``hoekstra`` on this world's directory."""
    now = world.clock.now()
    token = await world.database.transact(
        lambda tx: credentials.create(
            tx, organization="hoekstra", door="scim", pepper=PEPPER, now=now
        )
    )
    door = create_app(database=world.database, clock=world.clock, pepper=PEPPER)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=door),
        base_url="http://scim.test/hoekstra/",
        headers={"Authorization": f"Bearer {token}", **LATER},
    ) as client:
        yield client


def person(name: str, **attributes: Any) -> dict[str, Any]:
    return {"userName": f"{name}@hoekstra.example", "name": {"givenName": name}, **attributes}


async def responses(world: World) -> list[Outcome]:
    return [told for told in await world.outcomes() if told.type.endswith(".scim.responded.v1")]


async def test_the_answer_comes_after_auth0_has_the_user(
    world: World, scim: httpx.AsyncClient
) -> None:
    answer = await scim.post("Users", json=person("ada"))
    assert answer.status_code == 202
    assert await responses(world) == []
    world.work()
    await world.settled()
    (told,) = await responses(world)
    assert (told.data["txn"], told.data["status"]) == (answer.headers["set-txn"], "201")
    assert (await world.told())[-2:] == ["event.succeeded", "scim.responded"]
    assert await world.auth0_user("ada@hoekstra.example") is not None


async def test_what_auth0_refuses_for_good_is_told_as_an_error(
    world: World, scim: httpx.AsyncClient
) -> None:
    await world.fault("status", "POST", "/api/v2/users", status=400, times=100)
    answer = await scim.post("Users", json=person("ada"))
    world.work()
    await world.settled()
    (told,) = await responses(world)
    assert told.data["txn"] == answer.headers["set-txn"]
    assert told.data["status"] == told.data["response"]["status"] == "500"
    assert told.data["response"]["detail"]
    assert "ada" not in repr(told.data)


async def test_a_joiner_who_leaves_before_their_turn_is_told_of_both(
    world: World, scim: httpx.AsyncClient
) -> None:
    joined = await scim.post("Users", json=person("ada"))
    left = await scim.delete(joined.headers["location"])
    world.work()
    await world.settled()
    told = [(each.data["txn"], each.data["status"]) for each in await responses(world)]
    assert told == [(joined.headers["set-txn"], "201"), (left.headers["set-txn"], "204")]
    states = [event.state for event in await world.events()]
    assert states == ["superseded", "succeeded"]


async def test_of_a_bulk_each_is_told_when_its_own_account_is_there(
    world: World, scim: httpx.AsyncClient
) -> None:
    names = ("ada", "bob", "cas")
    operations = [
        {"method": "POST", "path": "/Users", "bulkId": name, "data": person(name)} for name in names
    ]
    answer = await scim.post("Bulk", json={"Operations": operations})
    txn = answer.headers["set-txn"]
    world.work()
    await world.settled()
    told = {each.data["txn"]: each.data for each in await responses(world)}
    assert told.keys() == {f"{txn}:{index}" for index in range(3)}
    assert {each["bulkId"]: each["status"] for each in told.values()} == dict.fromkeys(names, "201")


async def test_effects_tell_auth0s_own_id_of_the_request_that_did_them(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    (created,) = [
        each.data for each in await world.outcomes(user) if each.type.endswith("user.created.v1")
    ]
    assert len(bytes.fromhex(created["auth0RequestId"])) == 10
