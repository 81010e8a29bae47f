"""What others do in Auth0 between two looks of ours lets nobody in who is out."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from service.people import User
from tests.provisioning import auth0
from tests.provisioning.logins import follow
from tests.provisioning.test_leavers_at_identity_providers import set_account
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
NOBODY = {"users": [], "start": 0, "limit": 10, "length": 0, "total": 0}


async def change(world: World, user_id: str, **body: Any) -> None:
    await auth0.call(world, "PATCH", f"/users/{quote(user_id, safe='')}", body)


async def _id_of(world: World, address: str) -> str:
    user = await world.auth0_user(address)
    assert user is not None
    return user["user_id"]


async def _is_blocked(world: World, user_id: str) -> bool:
    users = {user["user_id"]: user for user in (await world.state())["users"]}
    return users[user_id]["blocked"]


async def test_a_leaver_who_is_linked_is_met_before_search_shows_it(world: World) -> None:
    await follow(world)
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(ada, active=False)
    await world.settled()
    identity = (await _id_of(world, ADA)).partition("|")[2]
    primary = await auth0.sign_up(world, "clinics-users", "ada@home.example", verified=True)
    await world.fault("status", "GET", "/users", status=200, body=NOBODY)
    path = f"/users/{quote(primary, safe='')}/identities"
    await auth0.call(world, "POST", path, {"provider": "auth0", "user_id": identity})
    await world.until(lambda: _is_blocked(world, primary), 5.0)


async def _read(world: World, user: User) -> None:
    """Has the account read, as after anything that was heard of it."""
    await set_account(world, user, doubt={"kind": "drift"}, due_at=world.clock.now())
    await world.settled()


async def test_a_block_of_somebody_elses_is_not_relied_on(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await change(world, await _id_of(world, ADA), blocked=True)
    await _read(world, ada)
    await change(world, await _id_of(world, ADA), blocked=False)
    await world.change(ada, active=False)
    await world.settled()
    assert await _is_blocked(world, await _id_of(world, ADA))
    assert "user.blocked" in await world.told(ada)


async def test_a_block_of_somebody_elses_that_stands_is_not_made_ours(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await change(world, await _id_of(world, ADA), blocked=True)
    await _read(world, ada)
    await world.change(ada, active=False)
    await world.settled()
    await world.change(ada, active=True)
    await world.settled()
    assert await _is_blocked(world, await _id_of(world, ADA))
    assert "user.blocked" not in await world.told(ada)


async def test_a_block_that_nobody_told_us_of_is_not_made_ours_in_a_shared_connection(
    world: World,
) -> None:
    world.work()
    rio = await world.join("clinic-a", "rio@clinics.example")
    await world.settled()
    await change(world, await _id_of(world, "rio@clinics.example"), blocked=True)
    await world.change(rio, active=False)
    await world.settled()
    await world.change(rio, active=True)
    await world.settled()
    assert await _is_blocked(world, await _id_of(world, "rio@clinics.example"))
    assert not {"user.blocked", "user.unblocked"} & {*await world.told(rio)}


async def test_the_id_that_auth0_gave_is_the_one_that_is_blocked(world: World) -> None:
    """A database with scripts of its own may give another than was asked for."""
    other = await auth0.sign_up(world, "hoekstra-users", ADA, verified=False)
    answer = {"user_id": other, "email": ADA, "identities": []}
    await world.fault("status", "POST", "/users", status=201, body=answer, times=1)
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.members() == {("hoekstra", ADA)}
    await world.change(ada, active=False)
    await world.settled()
    assert await _is_blocked(world, other)


async def test_whoever_appeared_and_is_gone_again_is_no_word_on_who_is_missing(
    world: World,
) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await auth0.call(world, "DELETE", f"/users/{quote(await _id_of(world, ADA), safe='')}")
    doubt = {"kind": "changed-by-others"}
    await set_account(world, ada, doubt=doubt, appeared="auth0|nobody", due_at=world.clock.now())
    await world.settled()
    assert await world.members() == {("hoekstra", ADA)}
    calls = [c for c in await world.calls() if c["path"].endswith("nobody")]
    assert len(calls) <= 2
