"""Traits of Auth0 that have bitten others: each with what we do about it."""

from __future__ import annotations

import json

import httpx
import pytest

from service.auth0.calls import http_client
from service.organizations import Policies
from service.provisioning.perform import unknowable_password
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"


@proves("sessions not in the plan")
async def test_a_block_in_a_plan_without_session_endpoints_is_no_failure(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.fault(
        "status",
        "POST",
        "/users/*/revoke-access",
        status=403,
        body={"statusCode": 403, "error": "Forbidden", "errorCode": "insufficient_entitlement"},
    )
    await world.change(user, active=False)
    await world.settled()
    assert (await world.endings())[-1] == ("succeeded", "applied", None)
    revoked = next(o for o in await world.outcomes(user) if "access.revoked" in o.type)
    assert revoked.data["revoked"] is False
    assert revoked.data["reason"] == "insufficient_entitlement"


@proves("custom domains in conflict")
async def test_a_custom_domain_conflict_is_not_taken_for_an_existing_user(world: World) -> None:
    await world.fault(
        "status",
        "POST",
        "/users",
        status=409,
        body={"statusCode": 409, "error": "Conflict", "errorCode": "custom_domain_conflict"},
    )
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("deadlettered", None, "custom_domain_conflict")]
    assert not any("users-by-email" in c["path"] for c in await world.calls())


async def test_of_several_custom_domains_the_declared_one_is_named(world: World) -> None:
    domains = ["login.acme.example", "login.hoekstra.example"]
    await world.http.post("/simulator/custom-domains", json={"domains": domains})
    hoekstra = (await world.registered("hoekstra")).organization
    world.work()
    await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    assert await world.endings() == [("deadlettered", None, "custom_domain_conflict")]
    await world.apply(hoekstra.model_copy(update={"custom_domain": "login.hoekstra.example"}))
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, name={"givenName": "Augusta", "familyName": "King"})
    await world.settled()
    assert (await world.endings())[-2:] == [("succeeded", "applied", None)] * 2
    (ticket,) = (await world.state())["tickets"]
    assert ticket["ticket"].startswith("https://login.hoekstra.example/")


@proves("user there and not to be found")
async def test_a_user_who_is_there_and_cannot_be_found_is_dead_lettered(world: World) -> None:
    await world.fault(
        "status",
        "POST",
        "/users",
        status=409,
        body={"statusCode": 409, "error": "Conflict", "errorCode": "auth0_idp_error"},
    )
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    assert await world.endings() == [("deadlettered", None, "conflict_without_user")]


async def test_an_account_that_carries_our_marker_is_joined(world: World) -> None:
    """As after a restore of an older database: the account row is gone, the user is not."""
    user_id = await sign_up(world, "hoekstra-users", ADA, verified=False)
    mark = {"app_metadata": {"auth0_provisioner": {"account": "of-another-life"}, "theirs": 1}}
    await call(world, "PATCH", f"/users/{user_id}", mark)
    await world.declare(hoekstra={"policies": Policies()})
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    assert (await world.user(user)).state == "applied"
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["user_id"] == user_id
    assert person["app_metadata"]["theirs"] == 1, "metadata merges at the first level"
    assert person["app_metadata"]["auth0_provisioner"]["account"] != "of-another-life"


async def test_a_marker_of_an_account_that_we_still_answer_for_is_not_joined(world: World) -> None:
    await world.declare(hoekstra={"policies": Policies()})
    world.work()
    bob = await world.join("hoekstra", "bob@hoekstra.example")
    await world.settled()
    account_id = (await world.user(bob)).account_id
    user_id = await sign_up(world, "hoekstra-users", ADA, verified=True)
    mark = {"app_metadata": {"auth0_provisioner": {"account": account_id}}}
    await call(world, "PATCH", f"/users/{user_id}", mark)
    await world.join("hoekstra", ADA)
    await world.settled()
    assert (await world.endings())[-1] == ("deadlettered", None, "identifier_in_use")


async def test_no_password_survives_its_creation(world: World) -> None:
    sent: list[str] = []

    class Listening(httpx.AsyncBaseTransport):
        def __init__(self) -> None:
            self._inner = http_client()

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            content = await request.aread()
            sent.append(content.decode())
            return await self._inner.send(
                httpx.Request(request.method, request.url, headers=request.headers, content=content)
            )

        async def aclose(self) -> None:
            await self._inner.aclose()

    world.work(world.lanes(http=httpx.AsyncClient(transport=Listening())))
    await world.join("hoekstra", ADA)
    await world.settled()
    body = next(json.loads(text) for text in sent if '"password"' in text)
    assert len(body["password"]) == 64
    assert body["verify_email"] is False
    kept = "".join(
        path.read_bytes().decode("latin-1") for path in world.folder.rglob("*") if path.is_file()
    )
    assert body["password"] not in kept


def test_passwords_are_long_mixed_and_never_the_same() -> None:
    made = {unknowable_password() for _ in range(1000)}
    assert len(made) == 1000
    assert all(any(c.isdigit() for c in one) and any(c.isupper() for c in one) for one in made)


async def test_names_longer_than_auth0_takes_are_cut(world: World) -> None:
    world.work()
    await world.join(
        "hoekstra", ADA, name={"givenName": "A" * 200, "familyName": "B"}, displayName="C" * 400
    )
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert (len(person["given_name"]), len(person["name"])) == (150, 300)


async def test_membership_is_believed_when_it_is_accepted_not_when_it_is_listed(
    world: World,
) -> None:
    world.work()
    await world.join("hoekstra", ADA)
    await world.settled()
    listed = [c for c in await world.calls() if c["method"] == "GET" and "members" in c["path"]]
    assert listed == []


async def test_a_search_is_never_asked(world: World) -> None:
    await sign_up(world, "hoekstra-users", ADA, verified=True)
    world.work()
    await world.join("hoekstra", ADA.upper())
    await world.settled()
    paths = [
        c["path"].split("?")[0].rstrip("/") for c in await world.calls() if c["method"] == "GET"
    ]
    assert "/api/v2/users" not in paths
    assert any("users-by-email" in path for path in paths)
    assert await world.endings() == [("succeeded", "applied", None)]


@pytest.mark.parametrize("role", ["admin", "no-such-role"])
async def test_groups_grant_roles_and_only_those_are_taken_away(world: World, role: str) -> None:
    await world.declare(hoekstra={"roles": {"Chiefs": role}})
    world.work()
    await world.worker("hoekstra", "hired", "w-1", attributes={"email": ADA}, groups=("Chiefs",))
    await world.settled()
    members = (await world.state())["members"]
    if role == "no-such-role":
        assert (await world.endings())[-1][:1] == ("deadlettered",)
        assert members[0]["roles"] == []
        return
    assert members[0]["roles"] == ["admin"]
    roles = {(r["tenant"], r["name"]): r["id"] for r in (await world.state())["roles"]}
    path = f"/organizations/{members[0]['organization_id']}/members/{members[0]['user_id']}/roles"
    await call(world, "POST", path, {"roles": [roles["main", "billing"]]})
    await world.worker("hoekstra", "changed", "w-1", groups=())
    await world.settled()
    assert (await world.state())["members"][0]["roles"] == ["billing"]
