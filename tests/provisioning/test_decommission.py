"""An organization ends in stages: nobody is let in, nothing is deleted before its time, and what is
shared or was there before us stays.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from service.directory import decommissions, setups
from service.directory import tables as t
from service.directory.decommissions import Decommission, Stage
from service.errors import Refused
from service.provisioning.decommissioning import Decommissions
from service.provisioning.fleet import FanOuts
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.links import log_in, look
from tests.provisioning.test_setup import codes, declare, set_up, state_of
from tests.provisioning.world import World

NOW: dict[str, Any] = {"deletion": "delete", "deletion_hold": "PT0S"}
LATER: dict[str, Any] = {"deletion": "delete", "deletion_hold": "P30D"}


@pytest.fixture
async def running(world: World) -> World:
    start(world)
    return world


def start(world: World) -> None:
    world.work()
    for worker in (
        Decommissions(database=world.database, clock=world.clock, look=0.05),
        FanOuts(database=world.database, clock=world.clock),
    ):
        world.running.append(asyncio.create_task(worker.run(world.stop)))


async def end(world: World, name: str = "acme") -> None:
    now = world.clock.now()
    await world.database.transact(lambda tx: decommissions.begin(tx, name, actor="kim", now=now))


async def undo(world: World, name: str = "acme") -> None:
    now = world.clock.now()
    await world.database.transact(lambda tx: decommissions.undo(tx, name, actor="kim", now=now))


async def ending(world: World, name: str = "acme") -> Decommission:
    found = await world.database.read(lambda tx: decommissions.find(tx, name))
    assert found is not None
    return found


async def reached(world: World, stage: Stage, name: str = "acme") -> None:
    async def there() -> bool:
        return (await ending(world, name)).stage == stage

    await world.until(there)


async def stages(world: World) -> list[str]:
    return [
        outcome.data["stage"]
        for outcome in await world.outcomes()
        if outcome.type == "io.auth0-provisioner.organization.decommissioned.v1"
    ]


async def names_in(world: World, kind: str) -> set[str]:
    return {each["name"] for each in (await world.state())[kind]}


async def people(world: World, *addresses: str, organization: str = "acme") -> None:
    for address in addresses:
        await world.join(organization, address)
    await world.settled()


async def test_all_are_locked_out_and_kept_until_the_hold_is_over(running: World) -> None:
    await declare(running, policies=LATER)
    await set_up(running)
    await people(running, "ada@acme.example", "bob@acme.example")
    await end(running)
    await reached(running, "held")

    for address in ("ada@acme.example", "bob@acme.example"):
        assert (await running.auth0_user(address) or {})["blocked"] is True
    assert await running.members() == set()
    assert "acme" in await names_in(running, "organizations")
    until = (await ending(running)).hold_until
    assert until is not None
    assert until - running.clock.now() > timedelta(days=29)
    assert await stages(running) == ["locking", "held"]


async def test_what_was_made_for_it_goes_after_its_accounts(running: World) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await people(running, "ada@acme.example", "bob@acme.example")
    await end(running)
    await reached(running, "ended")

    assert (await running.state())["users"] == []
    assert "acme" not in await names_in(running, "organizations")
    assert "acme-users" not in await names_in(running, "connections")
    assert await stages(running) == ["locking", "held", "deleting", "dismantling", "ended"]
    writes = [c for c in await running.calls() if c["method"] == "DELETE"]
    assert [c["path"].split("/")[-2] for c in writes][-2:] == ["connections", "organizations"]


async def test_where_policy_keeps_nothing_is_deleted(running: World) -> None:
    await declare(running)
    await set_up(running)
    await people(running, "ada@acme.example")
    await end(running)
    await reached(running, "kept")
    assert (await running.auth0_user("ada@acme.example") or {})["blocked"] is True
    assert "acme" in await names_in(running, "organizations")
    assert "acme-users" in await names_in(running, "connections")


async def test_it_can_be_taken_back_until_deletion_begins(running: World) -> None:
    await declare(running, policies=LATER)
    await set_up(running)
    await people(running, "ada@acme.example")
    await end(running)
    await reached(running, "held")
    await undo(running)
    await running.settled()

    assert (await running.auth0_user("ada@acme.example") or {})["blocked"] is False
    assert await running.members() == {("acme", "ada@acme.example")}
    assert await stages(running) == ["locking", "held", "undone"]
    with pytest.raises(Refused, match="not decommissioned"):
        await undo(running)


@pytest.mark.parametrize("ours", [True, False])
async def test_nobody_comes_in_by_logging_in_to_an_organization_that_has_ended(
    running: World, ours: bool
) -> None:
    connections = [{"name": "acme-users", "assign_membership_on_login": ours}]
    if not ours:
        await call(running, "POST", "/organizations", {"name": "acme"})
    await declare(running, connections=connections)
    await set_up(running)
    if not ours:
        theirs = await call(running, "GET", "/organizations/name/acme")
        users = (await call(running, "GET", "/connections?name=acme-users"))[0]["id"]
        switched = {"connection_id": users, "assign_membership_on_login": True}
        path = f"/organizations/{theirs['id']}/enabled_connections"
        await call(running, "POST", path, switched)
    await sign_up(running, "acme-users", "zoe@acme.example", verified=True)
    await end(running)
    await reached(running, "kept")
    state = await set_up(running)

    login = await log_in(running, "acme-users", "zoe@acme.example", organization="acme")
    assert login["allowed"] is not ours
    assert codes(state) == ([] if ours else ["organization_not_ours"])
    if ours:
        await undo(running)
        await set_up(running)
        login = await log_in(running, "acme-users", "zoe@acme.example", organization="acme")
        assert login["allowed"] is True


async def test_it_cannot_be_taken_back_once_deletion_has_begun(running: World) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await end(running)
    await reached(running, "ended")
    with pytest.raises(Refused, match="cannot be taken back"):
        await undo(running)


async def test_what_is_shared_with_others_stays_theirs(running: World) -> None:
    await declare(running, model="shared", connections=[{"name": "clinics-users"}], policies=NOW)
    await set_up(running)
    await people(running, "ada@clinics.example", organization="clinic-a")
    await people(running, "ada@clinics.example")
    await end(running)
    await reached(running, "ended")

    assert (await running.auth0_user("ada@clinics.example") or {})["blocked"] is False
    assert await running.members() == {("clinic-a", "ada@clinics.example")}
    assert "clinics-users" in await names_in(running, "connections")
    assert "acme" not in await names_in(running, "organizations")


async def test_what_was_there_before_us_stays(running: World) -> None:
    theirs = {"name": "acme-users", "strategy": "auth0", "enabled_clients": ["sample-app"]}
    await call(running, "POST", "/connections", theirs)
    await call(running, "POST", "/organizations", {"name": "acme"})
    await declare(running, policies=NOW, set_up={"adopt": True})
    await set_up(running)
    await people(running, "ada@acme.example")
    await end(running)
    await reached(running, "ended")
    assert "acme-users" in await names_in(running, "connections")
    assert "acme" in await names_in(running, "organizations")
    assert (await running.state())["users"] == []


async def test_a_connection_with_people_who_are_not_ours_is_not_deleted(world: World) -> None:
    await declare(world, policies=NOW)
    await set_up(world)
    await sign_up(world, "acme-users", "zoe@acme.example", verified=True)
    start(world)
    await end(world)
    await reached(world, "dismantling")

    async def refused() -> bool:
        return (await state_of(world)).verdict == "refused"

    await world.until(refused)
    problem = ((await state_of(world)).error or {})["problems"][0]
    assert problem["code"] == "connection_not_empty"
    assert "acme-users" in await names_in(world, "connections")
    zoe = await world.auth0_user("zoe@acme.example")
    assert zoe is not None
    await call(world, "DELETE", f"/users/{zoe['user_id']}")
    await end(world)  # once more, as the advice says
    await reached(world, "ended")
    assert "acme-users" not in await names_in(world, "connections")


async def test_a_connection_whose_last_users_are_listed_still_is_deleted_once_they_are_not(
    running: World,
) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await people(running, "ada@acme.example")
    ada = await running.auth0_user("ada@acme.example")
    assert ada is not None
    listed = [{"user_id": ada["user_id"]}]
    body = {"users": listed, "start": 0, "limit": 5, "length": 1, "total": 1}
    await running.fault("status", "GET", "/users", status=200, body=body)
    await end(running)
    await reached(running, "dismantling")

    async def waits() -> bool:
        return (await state_of(running)).attempts > 6

    await running.until(waits)
    assert "acme-users" in await names_in(running, "connections")
    assert (await state_of(running)).verdict == "retrying"
    await running.mend()
    await reached(running, "ended")
    assert "acme-users" not in await names_in(running, "connections")


async def test_an_organization_that_is_gone_already_holds_nobody_up(running: World) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await people(running, "ada@acme.example")
    made = await call(running, "GET", "/organizations/name/acme")
    await call(running, "DELETE", f"/organizations/{made['id']}")
    await end(running)
    await reached(running, "ended")
    assert (await running.state())["users"] == []


async def test_whom_auth0_refuses_to_block_is_not_forgotten(running: World) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await people(running, "ada@acme.example")
    await running.fault("status", "PATCH", "/users/*", status=400)
    await end(running)

    async def failed() -> bool:
        counted = await running.database.read(lambda tx: decommissions.progress(tx, "acme"))
        return counted.failed == 1

    await running.until(failed)
    assert (await ending(running)).stage == "locking"
    assert await running.auth0_user("ada@acme.example") is not None


@pytest.mark.parametrize("why", ["refused", "somebody else's"])
async def test_whoever_never_had_a_user_in_auth0_holds_nobody_up(running: World, why: str) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    if why == "refused":
        await running.fault("status", "POST", "/users", status=400, times=1)
    else:
        await sign_up(running, "acme-users", "ada@acme.example", verified=False)
    await people(running, "ada@acme.example")
    if stranger := await running.auth0_user("ada@acme.example"):
        await call(running, "DELETE", f"/users/{stranger['user_id']}")
    await end(running)
    await reached(running, "ended")


async def test_whoever_never_accepted_an_invitation_holds_nobody_up_for_long(
    running: World,
) -> None:
    await declare(running, policies=NOW | {"invite": "invitation"})
    await set_up(running)
    ada = await running.join("acme", "ada@acme.example")
    await running.settled()
    await end(running)
    await reached(running, "deleting")
    await running.settled()
    assert (await ending(running)).stage == "deleting"  # somebody may be signing up still

    earlier = running.clock.now() - timedelta(minutes=16)
    await running.database.transact(lambda tx: tx.execute(update(t.effects).values(at=earlier)))
    await look(running, ada)
    await reached(running, "ended")


async def test_an_account_that_became_a_part_of_another_user_is_told_of_and_stays(
    running: World,
) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await people(running, "ada@acme.example")
    ada = await running.auth0_user("ada@acme.example") or {}
    primary = await sign_up(running, "clinics-users", "ada@clinics.example", verified=True)
    part = {"provider": "auth0", "user_id": ada["user_id"].partition("|")[2]}
    await call(running, "POST", f"/users/{primary}/identities", part)
    await end(running)
    await reached(running, "dismantling")

    assert (await running.auth0_user("ada@clinics.example") or {})["blocked"] is True

    async def named() -> bool:
        return "there are users in acme-users" in str((await state_of(running)).error)

    await running.until(named)


async def test_an_answer_that_was_lost_deletes_nothing_twice(running: World) -> None:
    await declare(running, policies=NOW)
    await set_up(running)
    await running.fault("drop-after-commit", "DELETE", "/organizations/*", times=1)
    await end(running)
    await reached(running, "ended")
    assert "acme" not in await names_in(running, "organizations")
    state = await running.database.read(lambda tx: setups.find(tx, "acme"))
    assert state is not None
    assert (state.verdict, state.attempts) == ("done", 0)


async def test_on_postgres_as_on_sqlite(postgres_world: World) -> None:
    start(postgres_world)
    await declare(postgres_world, policies=NOW)
    await set_up(postgres_world)
    await people(postgres_world, "ada@acme.example")
    await end(postgres_world)
    await reached(postgres_world, "ended")
    assert (await postgres_world.state())["users"] == []
    assert "acme" not in await names_in(postgres_world, "organizations")
