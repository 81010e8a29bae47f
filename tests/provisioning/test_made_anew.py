"""What is made anew in Auth0 under its name has another id: what we remember of the old one says nothing."""

from __future__ import annotations

import httpx

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.clock import SystemClock
from service.organizations import Tenant
from service.provisioning.names import Names
from tests.auth0.test_client import Wire, always, client
from tests.faults import proves
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


@proves("Organization made anew")
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


@proves("Organization made anew")
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


@proves("Organization deleted during work")
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


class _Ahead(SystemClock):
    """Goes before the real one by so many seconds."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def timed(wire: Wire, clock: SystemClock) -> Auth0Client:
    tenant = Tenant(name="main", base_url="http://auth0.test", client_id="c", plan="enterprise")
    http = httpx.AsyncClient(transport=wire)
    return Auth0Client(tenant, "s", clock=clock, pacer=Pacer("enterprise", clock), http=http)


def roles(*names: str) -> dict[str, object]:
    listed = [{"id": f"rol_{name}", "name": name} for name in names]
    return {"roles": listed, "start": 0, "limit": 100, "total": len(names)}


def code_of(found: object) -> str | None:
    assert isinstance(found, Answer)
    return found.code


async def test_what_there_is_not_is_looked_for_once_for_all_who_need_it() -> None:
    none = {"statusCode": 404, "error": "Not Found", "message": "No organization found by that id"}
    wire = Wire(
        lambda request: (
            httpx.Response(404, json=none)
            if "organizations" in request.url.path
            else httpx.Response(200, json=roles("a") | {"connections": []})
        )
    )
    clock = _Ahead()
    auth0 = timed(wire, clock)
    names = Names(auth0)
    for _ in range(5):
        assert code_of(await names.roles(("emperor",))) == "unknown_role"
        assert code_of(await names.connection("nowhere")) == "unknown_connection"
        assert isinstance(await names.organization("nobody", leaver=False), Answer)
    assert len(wire.requests) == 3
    assert await names.roles(("a",)) == ["rol_a"]
    assert len(wire.requests) == 3
    clock.ahead = 11.0
    assert code_of(await names.roles(("emperor",))) == "unknown_role"
    assert len(wire.requests) == 4, "somebody may have made it by now"
    auth0.note_made()
    assert code_of(await names.roles(("emperor",))) == "unknown_role"
    assert len(wire.requests) == 5, "a set-up has ended since"
    await auth0.close()


async def test_roles_are_listed_anew_in_time_since_they_may_be_renamed() -> None:
    answers = iter([roles("admin"), roles("chief")])
    wire = Wire(lambda _: httpx.Response(200, json=next(answers)))
    clock = _Ahead()
    auth0 = timed(wire, clock)
    names = Names(auth0)
    assert await names.roles(("admin",)) == ["rol_admin"]
    clock.ahead = 601.0
    assert code_of(await names.roles(("admin",))) == "unknown_role"
    await auth0.close()


async def test_an_answer_that_says_nothing_of_a_name_is_not_remembered() -> None:
    wire = Wire(always(502))
    auth0 = client(wire)
    names = Names(auth0)
    for _ in range(2):
        found = await names.organization("hoekstra", leaver=False)
        assert isinstance(found, Answer)
        assert found.verdict == "doubtful"
    assert len(wire.requests) == 2
    await auth0.close()
