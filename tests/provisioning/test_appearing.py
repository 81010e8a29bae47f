"""Who appears in a customer's connection is met at once: let in, or blocked where they are out."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from operators import showing
from service.directory import appearances, groups
from service.directory import tables as t
from service.organizations import Connection
from service.people import User
from tests.faults import proves
from tests.provisioning import auth0
from tests.provisioning.logins import (
    blocked,
    follow,
    followed,
    is_blocked,
    let_logins_join,
    log_in,
)
from tests.provisioning.world import World


async def test_who_is_awaited_is_let_in_at_their_first_login(world: World) -> None:
    await follow(world)
    ada = await world.join("metahexa", "ada@metahexa.example")
    await world.settled()
    assert (await world.user(ada)).state == "waiting"
    assert not (await log_in(world, "ada@metahexa.example"))["allowed"]

    async def applied() -> bool:
        return (await world.user(ada)).state == "applied"

    await world.until(applied, 5.0)
    assert ("metahexa", "ada@metahexa.example") in await world.members()


@pytest.mark.parametrize("how", ["created inactive", "deactivated", "deleted", "terminated"])
async def test_who_is_out_is_blocked_at_their_first_login(world: World, how: str) -> None:
    await let_logins_join(world)
    await follow(world)
    match how:
        case "created inactive":
            await world.join("metahexa", "eve@metahexa.example", active=False)
        case "deactivated":
            eve = await world.join("metahexa", "eve@metahexa.example")
            await world.change(eve, active=False)
        case "deleted":
            eve = await world.join("metahexa", "eve@metahexa.example")
            await world.delete(eve)
        case _:
            attributes = {"email": "eve@metahexa.example"}
            await world.worker("metahexa", "hired", "7", attributes=attributes)
            await world.worker("metahexa", "terminated", "7", immediate=True)
    await world.settled()
    assert (await log_in(world, "eve@metahexa.example"))["allowed"]
    await blocked(world, "eve@metahexa.example")
    await world.settled()

    async def is_out() -> bool:
        state = await world.state()
        return not state["sessions"] and not state["refresh_tokens"] and not state["members"]

    await world.until(is_out, 5.0)
    assert not (await log_in(world, "eve@metahexa.example"))["allowed"]


async def test_the_address_may_be_written_in_any_case(world: World) -> None:
    await follow(world)
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await log_in(world, "Eve@MetaHexa.example")
    await blocked(world, "Eve@MetaHexa.example")


async def test_a_stable_id_goes_before_the_address(world: World) -> None:
    await follow(world)
    await world.join("metahexa", "eve@metahexa.example", active=False, externalId="stable-1")
    ada = await world.join("metahexa", "ada@metahexa.example", externalId="stable-2")
    await world.settled()
    await log_in(world, "eva.new@metahexa.example", subject="stable-1")
    await blocked(world, "eva.new@metahexa.example")
    await log_in(world, "eve@metahexa.example", subject="stable-2")

    async def applied() -> bool:
        return (await world.user(ada)).state == "applied"

    await world.until(applied, 5.0)
    assert not await is_blocked(world, "eve@metahexa.example")


async def test_somebody_in_another_connection_is_none_of_ours(world: World) -> None:
    await follow(world)
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await auth0.sign_up(world, "clinics-users", "eve@metahexa.example", verified=True)
    await log_in(world, "other@metahexa.example")
    await asyncio.sleep(0.3)
    await world.settled()
    assert not await is_blocked(world, "eve@metahexa.example")


async def test_what_happened_while_nobody_listened_is_caught_up_with(world: World) -> None:
    await follow(world)
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await world.rest()
    await log_in(world, "eve@metahexa.example")
    world.work(world.lanes(feed=True))
    await blocked(world, "eve@metahexa.example")


@proves("feed: place too old")
async def test_a_place_that_auth0_has_forgotten_is_not_the_end(world: World) -> None:
    await follow(world)
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await world.rest()
    await log_in(world, "eve@metahexa.example")
    for cursor in ("bm8gb2Zmc2V0", "MS4wIDE="):  # no offset, and one of 1970
        await world.database.transact(
            lambda tx, it=cursor: appearances.store_feed(tx, "main", cursor=it)
        )
    world.work(world.lanes(feed=True))
    await blocked(world, "eve@metahexa.example")


@proves("feed: not in the plan")
async def test_without_a_feed_who_is_new_is_found_by_looking(world: World) -> None:
    await world.fault("status", "GET", "/events", status=404)
    world.work(world.lanes(feed=True, sweep=0.2))
    await world.join("metahexa", "eve@metahexa.example", active=False)
    await world.settled()
    await log_in(world, "eve@metahexa.example")
    await blocked(world, "eve@metahexa.example")
    refused = (await followed(world)).refused
    assert refused is not None
    assert refused["code"] == "not_offered"

    await world.mend()

    async def open() -> bool:
        return (await followed(world)).refused is None

    await world.until(open)


async def test_who_is_awaited_is_looked_for_by_name_in_turn(world: World) -> None:
    world.work()
    ada = await world.join("metahexa", "ada@metahexa.example")
    await world.settled()
    await log_in(world, "ada@metahexa.example")
    # As after the five minutes that are the first wait.
    await world.database.transact(
        lambda tx: tx.execute(
            update(t.accounts).values(look_at=world.clock.now()).where(t.accounts.c.looked == 1)
        )
    )

    async def applied() -> bool:
        return (await world.user(ada)).state == "applied"

    await world.until(applied, 5.0)


async def test_a_block_that_somebody_lifts_is_put_back(world: World) -> None:
    await follow(world)
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    await world.change(ada, active=False)
    await world.settled()
    user = await world.auth0_user("ada@hoekstra.example")
    assert user is not None
    assert user["blocked"]
    path = f"/users/{user['user_id'].replace('|', '%7C')}"
    await auth0.call(world, "PATCH", path, {"blocked": False})

    async def told() -> bool:
        return "drift.detected" in await world.told(ada)

    await world.until(told, 5.0)
    await blocked(world, "ada@hoekstra.example")


async def test_what_we_do_ourselves_is_no_news(world: World) -> None:
    await follow(world)
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    await world.change(ada, active=False)
    await world.settled()
    await asyncio.sleep(0.3)
    await world.settled()
    reads = [call for call in await world.calls() if "/users/auth0" in call["path"]]
    assert [call for call in reads if call["method"] == "GET"] == []


async def test_a_membership_that_somebody_takes_is_made_again(world: World) -> None:
    await follow(world)
    await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    user = await world.auth0_user("ada@hoekstra.example")
    assert user is not None
    organization = await auth0.call(world, "GET", "/organizations/name/hoekstra")
    path = f"/organizations/{organization['id']}/members"
    await auth0.call(world, "DELETE", path, {"members": [user["user_id"]]})

    async def again() -> bool:
        return len(await world.writes("POST", "/members")) == 2

    await world.until(again, 5.0)
    await world.settled()
    assert ("hoekstra", "ada@hoekstra.example") in await world.members()


async def test_a_role_of_ours_that_somebody_takes_is_granted_again(world: World) -> None:
    await world.declare(hoekstra={"roles": {"Editors": "member"}})
    await follow(world)
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    registered = await world.registered("hoekstra")
    editors = {"displayName": "Editors"}
    await world.database.transact(
        lambda tx: groups.create(tx, registered, editors, [ada.id], world.received("group"))
    )
    await world.settled()
    user = await world.auth0_user("ada@hoekstra.example")
    assert user is not None
    organization = await auth0.call(world, "GET", "/organizations/name/hoekstra")
    role = next(r for r in await auth0.call(world, "GET", "/roles") if r["name"] == "member")
    path = (
        f"/organizations/{organization['id']}/members/{user['user_id'].replace('|', '%7C')}/roles"
    )
    await auth0.call(world, "DELETE", path, {"roles": [role["id"]]})

    async def again() -> bool:
        return len(await world.writes("POST", "/roles")) == 2

    await world.until(again, 5.0)


async def _linked(world: World) -> tuple[User, str]:
    """Somebody of ours has become a part of another user; their user id."""
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    world.work()
    await world.settled()
    ours = await world.auth0_user("ada@hoekstra.example")
    assert ours is not None
    primary = await auth0.sign_up(world, "clinics-users", "ada@home.example", verified=True)
    body = {"provider": "auth0", "user_id": ours["user_id"].partition("|")[2]}
    path = f"/users/{primary.replace('|', '%7C')}/identities"
    await auth0.call(world, "POST", path, body)
    return ada, primary


@proves("identity linked to another user")
async def test_a_leaver_whose_identity_was_linked_is_blocked_on_the_primary(world: World) -> None:
    ada, primary = await _linked(world)
    await world.change(ada, active=False)
    await world.settled()
    users = {user["user_id"]: user for user in (await world.state())["users"]}
    assert users[primary]["blocked"]
    assert len(users[primary]["identities"]) == 2
    assert users[primary]["email"] == "ada@home.example"
    assert set(users) == {primary}


@proves("identity linked to another user")
async def test_who_comes_back_to_a_linked_identity_is_let_in_by_the_primary(world: World) -> None:
    ada, primary = await _linked(world)
    await world.change(ada, active=False)
    await world.settled()
    await world.change(ada, active=True)
    await world.settled()
    state = await world.state()
    (user,) = state["users"]
    assert user["user_id"] == primary
    assert not user["blocked"]
    assert [(each["organization"], each["user_id"]) for each in state["members"]] == [
        ("hoekstra", primary)
    ]
    assert (await world.user(ada)).state == "applied"
    assert user["email"] == "ada@home.example", "the primary's profile is not ours"


async def test_who_is_rehired_after_their_identity_was_linked_is_let_in_by_the_primary(
    world: World,
) -> None:
    hired = {"attributes": {"email": "bo@hoekstra.example"}}
    await world.worker("hoekstra", "hired", "w-1", **hired)
    world.work()
    await world.settled()
    await world.worker("hoekstra", "terminated", "w-1", immediate=True)
    await world.settled()
    ours = await world.auth0_user("bo@hoekstra.example")
    assert ours is not None
    primary = await auth0.sign_up(world, "clinics-users", "bo@home.example", verified=True)
    body = {"provider": "auth0", "user_id": ours["user_id"].partition("|")[2]}
    await auth0.call(world, "POST", f"/users/{primary.replace('|', '%7C')}/identities", body)
    await world.worker("hoekstra", "rehired", "w-1", **hired)
    await world.settled()
    state = await world.state()
    (user,) = state["users"]
    assert user["user_id"] == primary
    assert not user["blocked"]
    assert [each["user_id"] for each in state["members"]] == [primary]
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


async def test_operators_are_told_of_no_deletion_by_a_connection_that_is_not_declared_any_more(
    world: World,
) -> None:
    """Auth0's id of the account tells that its profile is an identity provider's."""
    await follow(world)
    eve = await world.join("metahexa", "eve@metahexa.example")
    await world.settled()
    await log_in(world, "eve@metahexa.example")

    async def applied() -> bool:
        return (await world.user(eve)).state == "applied"

    await world.until(applied, 5.0)
    metahexa = (await world.registered("metahexa")).organization
    policies = metahexa.policies.model_copy(update={"deletion": "delete"})
    others = (Connection(name="another", strategy="samlp"),)
    await world.apply(metahexa.model_copy(update={"connections": others, "policies": policies}))
    await world.delete(eve)
    former, now = await world.user(eve), world.clock.now()
    shown = await world.database.read(lambda tx: showing.user(tx, former, now))
    assert shown.account is not None
    assert not shown.account.user_id.startswith("auth0|")
    assert "deletion" not in {each.name for each in shown.aspects}
