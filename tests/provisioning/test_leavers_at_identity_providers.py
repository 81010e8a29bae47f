"""Whoever is out does not get in by an enterprise connection, however they come to be in it."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from service.directory import tables as t
from service.people import User
from tests.provisioning.logins import blocked, follow, let_logins_join, log_in
from tests.provisioning.world import World

EVE = "Eve@MetaHexa.example"


async def are_blocked(world: World) -> list[bool]:
    return [user["blocked"] for user in (await world.state())["users"]]


async def all_blocked(world: World, count: int) -> None:
    async def hold() -> bool:
        return await are_blocked(world) == [True] * count

    await world.until(hold, 5.0)


async def looked_for_again(world: World) -> None:
    """As after the first minutes of waiting."""
    await world.database.transact(
        lambda tx: tx.execute(
            update(t.accounts)
            .values(look_at=world.clock.now())
            .where(t.accounts.c.look_at.is_not(None))
        )
    )


async def set_account(world: World, user: User, **values: object) -> None:
    account_id = (await world.user(user)).account_id
    await world.database.transact(
        lambda tx: tx.execute(
            update(t.accounts).values(**values).where(t.accounts.c.id == account_id)
        )
    )


@pytest.mark.parametrize("active", [True, False])
async def test_who_was_there_before_is_found_as_the_directory_spells_the_address(
    world: World, active: bool
) -> None:
    await log_in(world, EVE)
    world.work()
    eve = await world.join("metahexa", EVE, active=active)
    await world.settled()
    assert (await world.user(eve)).state == "applied"
    assert await are_blocked(world) == [not active]


async def test_who_was_there_before_under_another_address_is_found_by_a_stable_id(
    world: World,
) -> None:
    await log_in(world, "e123@metahexa.example", subject="metahexa-ad|stable-1")
    world.work()
    await world.join("metahexa", EVE, active=False, externalId="stable-1")
    await world.settled()
    await looked_for_again(world)
    await blocked(world, "e123@metahexa.example")


@pytest.mark.parametrize("subject", [None, "second"])
async def test_a_second_profile_of_somebody_who_is_out_is_blocked_too(
    world: World, subject: str | None
) -> None:
    await let_logins_join(world)
    await follow(world)
    eve = await world.join("metahexa", EVE, externalId="second")
    await world.settled()
    await log_in(world, EVE, subject="first")
    await world.until(lambda: _is_applied(world, eve), 5.0)
    await world.change(eve, active=False)
    await world.settled()
    await log_in(world, EVE if subject is None else "other@metahexa.example", subject=subject)
    await all_blocked(world, 2)
    await world.settled()

    async def is_out() -> bool:
        state = await world.state()
        return not state["sessions"] and not state["members"]

    await world.until(is_out, 5.0)


async def _is_applied(world: World, user: User) -> bool:
    return (await world.user(user)).state == "applied"


async def test_who_comes_back_is_let_in_by_the_profile_that_they_used_last(world: World) -> None:
    await follow(world)
    eve = await world.join("metahexa", EVE)
    await world.settled()
    await log_in(world, EVE, subject="first")
    await world.until(lambda: _is_applied(world, eve), 5.0)
    await world.change(eve, active=False)
    await world.settled()
    await log_in(world, EVE, subject="second")
    await all_blocked(world, 2)
    await world.settled()
    await world.change(eve, active=True)
    await world.settled()
    state = await world.state()
    assert {u["user_id"]: u["blocked"] for u in state["users"]} == {
        "waad|first": True,
        "waad|second": False,
    }
    assert [member["user_id"] for member in state["members"]] == ["waad|second"]


async def test_a_look_that_was_refused_keeps_nobody_from_being_met(world: World) -> None:
    await world.fault("status", "GET", "/users-by-email", status=400)
    await follow(world)
    eve = await world.join("metahexa", EVE, active=False)
    await world.settled()
    assert (await world.user(eve)).state == "failed"
    await world.mend()
    await log_in(world, EVE)
    await blocked(world, EVE)


@pytest.mark.parametrize("presence", ["unknown", "missing"])
async def test_who_appears_while_something_else_is_asked_is_met_after_it(
    world: World, presence: str
) -> None:
    """What is asked of an invitation, say, whose answer was lost: for as long as Auth0 is slow."""
    await follow(world)
    eve = await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await world.fault("status", "GET", "/users/*", status=503, times=3)
    await world.fault("status", "GET", "/users", status=503, times=3)
    await set_account(
        world, eve, observed={"presence": presence}, doubt=None, due_at=world.clock.now()
    )
    await asyncio.sleep(0.1)
    await log_in(world, EVE)
    await blocked(world, EVE)


@pytest.mark.parametrize("active", [True, False])
async def test_an_address_says_nothing_where_a_stable_id_names_somebody_else(
    world: World, active: bool
) -> None:
    """Ada logs in with the address that Bob has in the directory: the profile is no word on Bob."""
    await log_in(world, "bob@metahexa.example", subject="stable-of-ada")
    ada = await world.join("metahexa", "ada@metahexa.example", externalId="stable-of-ada")
    bob = await world.join("metahexa", "bob@metahexa.example", active=active)
    world.work()
    await world.settled()
    await looked_for_again(world)

    async def applied() -> bool:
        return (await world.user(ada)).state == "applied"

    await world.until(applied, 5.0)
    await world.settled()
    assert await are_blocked(world) == [False]
    assert await world.members() == {("metahexa", "bob@metahexa.example")}
    assert (await world.user(bob)).state == ("waiting" if active else "applied")
