"""What is made anew in Auth0 under its name has another id: what we remember of the old one says nothing."""

from __future__ import annotations

import httpx

from service.provisioning.names import Names
from tests.auth0.test_client import Wire, client
from tests.provisioning.auth0 import call
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"


async def made_anew(world: World, *members: str) -> None:
    """Somebody deletes the Organization and makes it again, with these members."""
    path = "/organizations/name/hoekstra"
    await call(world, "DELETE", f"/organizations/{(await call(world, 'GET', path))['id']}")
    again = (await call(world, "POST", "/organizations", {"name": "hoekstra"}))["id"]
    if members:
        await call(world, "POST", f"/organizations/{again}/members", {"members": list(members)})


async def test_whoever_left_is_no_member_of_an_organization_that_was_made_anew(
    world: World,
) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    await made_anew(world, person["user_id"])
    await world.change(ada, active=False)
    await world.settled()
    assert await world.members() == set()
    assert "membership.removed" in await world.told(ada)


async def test_whoever_joins_is_a_member_of_the_organization_that_was_made_anew(
    world: World,
) -> None:
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    await made_anew(world)
    bob = await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    assert (await world.user(bob)).state == "applied"
    assert await world.members() == {("hoekstra", "bob@hoekstra.example")}


async def test_whoever_left_an_organization_that_is_gone_is_done(world: World) -> None:
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    gone = (await call(world, "GET", "/organizations/name/hoekstra"))["id"]
    await call(world, "DELETE", f"/organizations/{gone}")
    await world.change(ada, active=False)
    await world.settled()
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


async def test_a_role_that_was_made_anew_is_looked_up_again() -> None:
    ids = iter(["rol_old", "rol_new"])

    def reply(_: httpx.Request) -> httpx.Response:
        listed = {"roles": [{"id": next(ids), "name": "admin"}], "start": 0, "limit": 1, "total": 1}
        return httpx.Response(200, json=listed)

    auth0 = client(Wire(reply))
    names = Names(auth0)
    assert await names.roles(("admin",)) == ["rol_old"]
    names.forget(["rol_old"])
    assert await names.roles(("admin",)) == ["rol_new"]
    names.forget(["rol_old"])
    assert await names.roles(("admin",)) == ["rol_new"], "it is another one that is stale"
    await auth0.close()
