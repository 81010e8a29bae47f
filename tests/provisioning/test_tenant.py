"""A tenant in trouble: it alone is paused, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import ConfigurationError
from service.organizations import Tenant
from service.provisioning.fleet import Fleet
from service.provisioning.tenancy import Tenancy
from tests.faults import proves
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"


@proves("client revoked")
async def test_wrong_credentials_pause_that_tenant_only(world: World) -> None:
    world.work(world.lanes("main", secret="wrong"))
    world.work(world.lanes("conglomerate"))
    ada = await world.join("hoekstra", ADA)
    mei = await world.join("conglomerate", "mei@conglomerate.example")

    async def other_is_done() -> bool:
        return (await world.user(mei)).state == "applied"

    await world.until(other_is_done)

    async def paused() -> bool:
        return "tenant.paused" in await world.told()

    await world.until(paused)
    assert (await world.user(ada)).state == "pending"
    assert (await world.told()).count("tenant.paused") == 1


@proves("client revoked", "token refused")
async def test_a_tenant_that_accepts_us_again_goes_on_and_loses_nothing(world: World) -> None:
    await world.fault("status", "*", "*", status=401)
    world.work()
    ada = await world.join("hoekstra", ADA)

    async def paused() -> bool:
        return "tenant.paused" in await world.told()

    await world.until(paused)
    await world.mend()
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    told = await world.told()
    assert told.index("tenant.paused") < told.index("tenant.resumed")
    assert await world.endings() == [("succeeded", "applied", None)]


@proves("token refused")
async def test_a_token_that_was_rotated_away_is_renewed_unseen(world: World) -> None:
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    await world.fault("status", "POST", "/users", status=401, times=1)
    await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    assert "tenant.paused" not in await world.told()
    assert await world.auth0_user("bob@hoekstra.example") is not None


@proves("scope missing")
async def test_a_missing_scope_fails_what_needs_it_and_stops_nobody_else(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    scope = {
        "statusCode": 403,
        "error": "Forbidden",
        "message": "Insufficient scope, expected any of: create:users",
    }
    await world.fault("status", "POST", "/users", status=403, body=scope)
    await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    await world.change(ada, active=False)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"] is True
    assert "tenant.paused" not in await world.told()
    assert (await world.endings())[1] == ("deadlettered", None, "insufficient_scope")


@proves("one call forbidden")
@pytest.mark.parametrize(
    "body",
    [
        {"statusCode": 403, "error": "Forbidden", "errorCode": "too_many_entities"},
        {"statusCode": 403, "error": "Forbidden", "message": "This Organization is full."},
    ],
)
async def test_what_is_forbidden_for_one_account_stops_nobody_else(
    world: World, body: dict[str, object]
) -> None:
    """The tenant accepts our other calls: pausing it would make leavers wait, again and again."""
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await world.fault("status", "POST", "/organizations/*/members", status=403, body=body)
    bob = await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    assert "tenant.paused" not in await world.told()
    assert (await world.user(bob)).state == "failed"
    state, _, code = (await world.endings())[1]
    assert (state, code) == ("deadlettered", body.get("errorCode", "forbidden"))
    await world.change(ada, active=False)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"] is True


@proves("everything forbidden")
async def test_a_tenant_that_forbids_everything_is_paused(world: World) -> None:
    await world.fault("status", "*", "/api/v2/*", status=403)
    world.work()
    ada = await world.join("hoekstra", ADA)

    async def paused() -> bool:
        return "tenant.paused" in await world.told()

    await world.until(paused)
    await world.mend()
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert await world.endings() == [("succeeded", "applied", None)]


async def test_a_tenant_that_is_not_set_up_keeps_no_other_from_its_work(world: World) -> None:
    def tenancy_of(tenant: Tenant) -> Tenancy:
        if tenant.name == "conglomerate":
            raise ConfigurationError("no secret")
        return world.lanes(tenant.name)

    fleet = Fleet(database=world.database, tenancy_of=tenancy_of)
    world.running.append(asyncio.create_task(fleet.run(world.stop)))
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("succeeded", "applied", None)]
