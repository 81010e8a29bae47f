"""Organizations as code: Auth0 is brought to what is declared, and nothing else is touched there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from operators import declaring
from service.directory import organizations, setups
from service.directory.setups import SetUpState
from service.organizations import Installation
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.world import World

ACME: Mapping[str, Any] = {
    "name": "acme",
    "display_name": "Acme",
    "application": "sample-app",
    "connections": [{"name": "acme-users"}],
}


async def declare(world: World, **changes: Any) -> None:
    """As ``org apply`` does."""
    installation = Installation.model_validate({"organizations": [{**ACME, **changes}]})
    now = world.clock.now()
    await world.database.transact(
        lambda tx: declaring.apply(tx, installation, known_tenants=["main"], actor="kim", now=now)
    )


async def state_of(world: World, name: str = "acme") -> SetUpState:
    found = await world.database.read(lambda tx: setups.find(tx, name))
    assert found is not None
    return found


async def set_up(world: World, name: str = "acme", within: float = 10.0) -> SetUpState:
    """Until its turn has come to an end, one way or the other."""

    async def rests() -> bool:
        return (await state_of(world, name)).due_at is None

    if not world.running:
        world.work()
    await world.until(rests, within)
    return await state_of(world, name)


def codes(state: SetUpState) -> list[str]:
    return [each["code"] for each in (state.error or {}).get("problems", [])]


async def organization(world: World, name: str = "acme") -> dict[str, Any]:
    return await call(world, "GET", f"/organizations/name/{name}")


async def connection(world: World, name: str = "acme-users") -> dict[str, Any]:
    (found,) = await call(world, "GET", f"/connections?name={name}")
    return found


async def enabled(world: World, name: str = "acme") -> list[dict[str, Any]]:
    found = await organization(world, name)
    return await call(world, "GET", f"/organizations/{found['id']}/enabled_connections")


async def changes_since(world: World, number: int) -> list[str]:
    """What was asked of Auth0 but reads, after so many calls."""
    return [
        f"{each['method']} {each['path']}"
        for each in await world.calls(number)
        if each["method"] != "GET"
    ]


async def last_call(world: World) -> int:
    return max((each["number"] for each in await world.calls()), default=0)


async def test_a_new_organization_is_made_with_all_that_its_users_need(world: World) -> None:
    await declare(world)
    assert (await set_up(world)).verdict == "done"

    made = await organization(world)
    assert (made["display_name"], made["metadata"]) == ("Acme", {"auth0_provisioner": "acme"})
    assert "branding" not in made
    users = await connection(world)
    assert users["strategy"] == "auth0"
    assert users["options"] == {"disable_signup": True}
    clients = await call(world, "GET", f"/connections/{users['id']}/clients")
    assert clients == {"clients": [{"client_id": "sample-app"}]}
    (switches,) = await enabled(world)
    assert switches["connection_id"] == users["id"]
    assert switches["is_signup_enabled"] is False
    assert switches["assign_membership_on_login"] is False


async def test_its_users_are_provisioned_then(world: World) -> None:
    await declare(world)
    await set_up(world)
    ada = await world.join("acme", "ada@acme.example")
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert ("acme", "ada@acme.example") in await world.members()


async def test_declaring_again_reads_and_writes_nothing(world: World) -> None:
    await declare(world)
    await set_up(world)
    before = await last_call(world)
    await declare(world)
    assert (await set_up(world)).verdict == "done"
    assert await changes_since(world, before) == []


async def test_what_others_changed_is_mended_by_declaring_again_and_not_before(
    world: World,
) -> None:
    await declare(world)
    await set_up(world)
    made, users = await organization(world), await connection(world)
    await call(world, "PATCH", f"/organizations/{made['id']}", {"display_name": "Oops"})
    await call(
        world, "PATCH", f"/connections/{users['id']}", {"options": {"passwordPolicy": "low"}}
    )
    path = f"/organizations/{made['id']}/enabled_connections/{users['id']}"
    await call(world, "PATCH", path, {"assign_membership_on_login": True})

    await declare(world)
    assert (await set_up(world)).verdict == "done"

    assert (await organization(world))["display_name"] == "Acme"
    options = (await connection(world))["options"]
    assert options == {"passwordPolicy": "low", "disable_signup": True}
    (switches,) = await enabled(world)
    assert switches["assign_membership_on_login"] is False


async def test_just_in_time_membership_is_as_declared(world: World) -> None:
    declared = [{"name": "acme-users", "assign_membership_on_login": True, "show_as_button": False}]
    await declare(world, connections=declared)
    await set_up(world)
    (switches,) = await enabled(world)
    assert switches["assign_membership_on_login"] is True
    assert switches["show_as_button"] is False
    assert switches["is_signup_enabled"] is False


async def test_an_organization_that_serves_as_it_is_is_used_and_left_alone(world: World) -> None:
    before = await last_call(world)
    await declare(
        world, name="hoekstra", display_name="Others", connections=[{"name": "hoekstra-users"}]
    )
    state = await set_up(world, "hoekstra")
    assert state.verdict == "done"
    assert await changes_since(world, before) == []
    assert (await organization(world, "hoekstra"))["display_name"] == "Hoekstra & Associates"


async def test_somebody_elses_organization_is_not_changed_unless_that_is_declared(
    world: World,
) -> None:
    theirs = await call(
        world, "POST", "/organizations", {"name": "acme", "metadata": {"tier": "gold"}}
    )
    await declare(world)
    state = await set_up(world)
    assert codes(state) == ["organization_not_ours"]
    assert "adopt = true" in (state.error or {})["problems"][0]["advice"]
    assert (await organization(world))["display_name"] == "acme"
    assert await enabled(world) == []
    assert "organization.refused" in await world.told()

    await declare(world, set_up={"adopt": True})
    assert (await set_up(world)).verdict == "done"
    adopted = await organization(world)
    assert adopted["id"] == theirs["id"]
    assert adopted["display_name"] == "Acme"
    assert adopted["metadata"] == {"tier": "gold", "auth0_provisioner": "adopted:acme"}
    assert len(await enabled(world)) == 1


async def test_an_organization_that_we_made_for_another_is_refused(world: World) -> None:
    theirs = {"name": "acme", "metadata": {"auth0_provisioner": "acme"}}
    await call(world, "POST", "/organizations", theirs)
    await declare(
        world,
        name="globex",
        auth0_organization="acme",
        connections=[{"name": "globex-users"}],
        set_up={"adopt": True},
    )
    assert codes(await set_up(world, "globex")) == ["organization_of_another"]

    eve = await world.join("globex", "eve@globex.example")
    await world.settled()
    assert await world.members() == set()
    assert ("deadlettered", None, "organization_of_another") in await world.endings()
    assert "is that of acme" in ((await world.user(eve)).detail or "")

    registered = (await world.registered("globex")).organization
    await declare(world, **registered.model_dump(mode="json") | {"auth0_organization": "globex"})
    await set_up(world, "globex")
    await world.settled()
    assert await world.members() == {("globex", "eve@globex.example")}


async def test_nobody_is_invited_into_an_organization_that_we_made_for_another(
    world: World,
) -> None:
    theirs = {"name": "acme", "metadata": {"auth0_provisioner": "acme"}}
    await call(world, "POST", "/organizations", theirs)
    globex = {
        "name": "globex",
        "auth0_organization": "acme",
        "connections": [{"name": "globex-users"}],
    }
    await declare(world, **globex, policies={"invite": "invitation"})
    await set_up(world, "globex")
    await world.join("globex", "eve@globex.example")
    await world.settled()
    assert (await world.state())["invitations"] == []
    assert ("deadlettered", None, "organization_of_another") in await world.endings()


async def test_users_who_were_refused_are_tried_again_when_the_application_is_corrected(
    world: World,
) -> None:
    await declare(world, application="nobodys", policies={"invite": "invitation"})
    await set_up(world)
    users = await connection(world)
    known = [{"client_id": "sample-app", "status": True}]
    await call(world, "PATCH", f"/connections/{users['id']}/clients", known)
    ada = await world.join("acme", "ada@acme.example")
    await world.settled()
    assert (await world.user(ada)).state == "failed"

    await declare(world, policies={"invite": "invitation"})
    await world.settled()
    assert (await world.user(ada)).state == "waiting"


async def test_an_answer_that_was_lost_after_the_write_makes_no_second_organization(
    world: World,
) -> None:
    for path in ("/organizations", "/connections"):
        await world.fault("drop-after-commit", "POST", path, times=1)
    await declare(world)
    assert (await set_up(world)).verdict == "done"
    assert (await organization(world))["metadata"] == {"auth0_provisioner": "acme"}
    assert len(await world.writes("POST", "/organizations")) == 1
    assert len(await world.writes("POST", "/connections")) == 1
    told = [
        outcome.data["operation"]
        for outcome in await world.outcomes()
        if outcome.type == "io.auth0-provisioner.organization.changed.v1"
    ]
    assert told == [
        "create-connection",
        "enable-for-application",
        "create-organization",
        "enable-connection",
    ]


@pytest.mark.parametrize(
    ("kind", "method", "path"),
    [
        ("html-502", "POST", "/organizations"),
        ("html-502", "GET", "/connections"),
        ("drop-before", "PATCH", "/connections/*"),
        ("drop-after-commit", "POST", "/organizations/*/enabled_connections"),
    ],
)
async def test_faults_on_the_way_are_waited_out(
    world: World, kind: str, method: str, path: str
) -> None:
    await world.fault(kind, method, path, times=2)
    await declare(world)
    state = await set_up(world)
    assert (state.verdict, state.error) == ("done", None)
    assert len(await enabled(world)) == 1


async def test_a_fault_that_stays_is_seen_and_tried_again(world: World) -> None:
    await world.fault("html-502", "POST", "/organizations")
    await declare(world)
    world.work()

    async def seen() -> bool:
        state = await state_of(world)
        return state.attempts >= 3 and state.verdict == "retrying"

    await world.until(seen)
    assert "no clear answer" in ((await state_of(world)).error or {})["message"]
    assert (await state_of(world)).plan == [
        "create-organization acme display_name=Acme",
        "enable-connection acme-users assign_membership_on_login=false show_as_button=true",
    ]
    await world.mend()
    assert (await set_up(world)).verdict == "done"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roles": {"Admins": "auditor"}}, "unknown_role"),
        ({"connections": [{"name": "nowhere", "create": False}]}, "unknown_connection"),
        ({"model": "shared", "connections": [{"name": "nowhere"}]}, "unknown_connection"),
        (
            {"model": "enterprise", "connections": [{"name": "acme-saml", "strategy": "samlp"}]},
            "unknown_connection",
        ),
        (
            {"model": "enterprise", "connections": [{"name": "metahexa-ad", "strategy": "samlp"}]},
            "connection_strategy",
        ),
    ],
)
async def test_what_is_misspelt_is_named_and_the_rest_is_made(
    world: World, changes: Mapping[str, Any], code: str
) -> None:
    await declare(world, **changes)
    state = await set_up(world)
    assert codes(state) == [code]
    assert (state.error or {})["problems"][0]["advice"]
    assert (await organization(world))["display_name"] == "Acme"


async def test_roles_are_made_only_where_that_is_declared(world: World) -> None:
    await declare(world, roles={"Auditors": "auditor"}, set_up={"create_roles": True})
    assert (await set_up(world)).verdict == "done"
    names = [role["name"] for role in await call(world, "GET", "/roles")]
    assert "auditor" in names


async def test_a_shared_connection_is_enabled_and_otherwise_left_as_it_is(world: World) -> None:
    before = await connection(world, "clinics-users")
    await declare(world, model="shared", connections=[{"name": "clinics-users"}])
    assert (await set_up(world)).verdict == "done"
    assert await connection(world, "clinics-users") == before
    assert [each["connection"]["name"] for each in await enabled(world)] == ["clinics-users"]


async def test_an_enterprise_connection_is_enabled_for_the_declared_application(
    world: World,
) -> None:
    made = await call(world, "POST", "/connections", {"name": "acme-saml", "strategy": "samlp"})
    await declare(
        world, model="enterprise", connections=[{"name": "acme-saml", "strategy": "samlp"}]
    )
    assert (await set_up(world)).verdict == "done"
    clients = await call(world, "GET", f"/connections/{made['id']}/clients")
    assert clients == {"clients": [{"client_id": "sample-app"}]}
    assert len(await enabled(world)) == 1


async def test_without_an_application_the_connection_is_enabled_for_our_own(world: World) -> None:
    await declare(world, application="")
    assert (await set_up(world)).verdict == "done"
    users = await connection(world)
    clients = await call(world, "GET", f"/connections/{users['id']}/clients")
    assert clients == {"clients": [{"client_id": "provisioner"}]}


async def test_the_first_administrator_is_made_once_and_has_the_role(world: World) -> None:
    boss = {"email": "Boss@acme.example", "given_name": "Bea", "role": "admin"}
    await declare(world, administrator=boss)
    assert (await set_up(world)).verdict == "done"
    await world.settled()
    assert (await world.auth0_user("boss@acme.example") or {})["given_name"] == "Bea"
    (member,) = (await world.state())["members"]
    assert member["roles"] == ["admin"]

    await declare(world, administrator=boss)
    await set_up(world)
    await world.settled()
    assert len((await world.state())["members"]) == 1
    assert len(await world.writes("POST", "/users")) == 1


async def test_who_has_the_address_already_becomes_the_first_administrator(world: World) -> None:
    await declare(world)
    await set_up(world)
    ada = await world.join("acme", "ada@acme.example", externalId="7")
    await world.settled()
    await declare(world, administrator={"email": "ada@acme.example", "role": "billing"})
    await set_up(world)
    await world.settled()
    (member,) = (await world.state())["members"]
    assert member["roles"] == ["billing"]
    assert (await state_of(world)).administrator == {
        "email": "ada@acme.example",
        "user_id": ada.id,
    }


async def test_users_who_were_refused_meanwhile_are_tried_again_when_it_is_made(
    world: World,
) -> None:
    await declare(world, connections=[{"name": "acme-users", "create": False}])
    await set_up(world)
    ada = await world.join("acme", "ada@acme.example")
    await world.settled()
    assert (await world.user(ada)).state == "failed"

    await declare(world)
    await set_up(world)
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert ("acme", "ada@acme.example") in await world.members()


@proves("unknown Organization", "Organization deleted during work")
async def test_an_organization_that_was_deleted_behind_our_back_comes_back_by_declaring_alone(
    world: World,
) -> None:
    await declare(world)
    await set_up(world)
    made = await organization(world)
    await call(world, "DELETE", f"/organizations/{made['id']}")

    ada = await world.join("acme", "ada@acme.example")
    await world.settled()
    assert (await world.user(ada)).state == "failed"
    assert ("deadlettered", None, "unknown_organization_or_role") in await world.endings()
    assert "acme" not in [each["name"] for each in (await world.state())["organizations"]]

    await declare(world)
    assert (await set_up(world)).verdict == "done"
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert ("acme", "ada@acme.example") in await world.members()


@pytest.mark.parametrize("by_hand", [False, True])
async def test_members_of_an_organization_that_was_deleted_are_members_of_the_one_in_its_place(
    world: World, by_hand: bool
) -> None:
    roles = {"Admins": "editor"}
    await declare(world, roles=roles, set_up={"create_roles": True, "adopt": True})
    await set_up(world)
    ada = await world.join("acme", "ada@acme.example")
    bob = await world.join("acme", "bob@acme.example")
    await world.settled()
    await world.change(bob, active=False)
    await world.settled()
    made = await organization(world)
    await call(world, "DELETE", f"/organizations/{made['id']}")
    if by_hand:
        await call(world, "POST", "/organizations", {"name": "acme"})

    await declare(world, roles=roles, set_up={"create_roles": True, "adopt": True})
    await set_up(world)
    await world.settled()
    assert await world.members() == {("acme", "ada@acme.example")}
    assert (await world.user(ada)).state == "applied"

    before = await last_call(world)
    await world.change(ada, displayName="Ada")
    await world.settled()
    assert not [each for each in await changes_since(world, before) if "members" in each]


async def test_a_missing_scope_is_named(world: World) -> None:
    body = {"statusCode": 403, "error": "Forbidden", "errorCode": "insufficient_scope"}
    said = {**body, "message": "Insufficient scope, expected any of: create:organizations"}
    await world.fault("status", "POST", "/organizations", status=403, body=said)
    await declare(world)
    state = await set_up(world)
    assert codes(state) == ["insufficient_scope"]
    assert "create:organizations" in (state.error or {})["problems"][0]["advice"]


@proves("Organizations full")
async def test_a_set_up_that_is_forbidden_for_another_reason_pauses_nobody(world: World) -> None:
    body = {"statusCode": 403, "error": "Forbidden", "errorCode": "too_many_entities"}
    await world.fault("status", "POST", "/organizations", status=403, body=body)
    await declare(world)
    assert codes(await set_up(world)) == ["too_many_entities"]
    assert "tenant.paused" not in await world.told()


@proves("client revoked")
async def test_a_revoked_client_pauses_the_tenant_and_loses_nothing(world: World) -> None:
    await declare(world)
    world.work(world.lanes(secret="wrong"))

    async def paused() -> bool:
        return "tenant.paused" in await world.told()

    await world.until(paused)
    assert (await state_of(world)).verdict == "pending"
    await world.rest()
    world.work()
    assert (await set_up(world)).verdict == "done"


async def test_people_in_a_connection_that_was_there_before_us_stay_as_they_are(
    world: World,
) -> None:
    theirs = {"name": "acme-users", "strategy": "auth0", "enabled_clients": ["sample-app"]}
    await call(world, "POST", "/connections", theirs)
    stranger = await sign_up(world, "acme-users", "zoe@acme.example", verified=True)
    await declare(world)
    assert (await set_up(world)).verdict == "done"
    assert (await connection(world))["options"] == {}  # doctor tells of its open sign-up
    before = await call(world, "GET", f"/users/{stranger}")

    await declare(world, set_up={"adopt": True})
    await set_up(world)
    assert (await connection(world))["options"] == {"disable_signup": True}
    assert await call(world, "GET", f"/users/{stranger}") == before


async def test_set_up_that_is_switched_off_is_left_alone(world: World) -> None:
    await declare(world, set_up={"enabled": False})
    assert await world.database.read(lambda tx: setups.find(tx, "acme")) is None
    registered = await world.database.read(lambda tx: organizations.find(tx, "acme"))
    assert registered is not None


async def test_on_postgres_as_on_sqlite(postgres_world: World) -> None:
    await declare(postgres_world, administrator={"email": "boss@acme.example", "role": "admin"})
    assert (await set_up(postgres_world)).verdict == "done"
    await postgres_world.settled()
    (member,) = (await postgres_world.state())["members"]
    assert member["roles"] == ["admin"]


async def test_declared_metadata_is_kept_in_step_and_other_keys_stay(world: World) -> None:
    await declare(world, metadata={"tier": "gold", "region": "eu"})
    await set_up(world)
    made = await organization(world)
    assert made["metadata"] == {"auth0_provisioner": "acme", "tier": "gold", "region": "eu"}

    by_hand = {"metadata": {**made["metadata"], "tier": "tin", "crm": "77"}}
    await call(world, "PATCH", f"/organizations/{made['id']}", by_hand)
    await declare(world, metadata={"tier": "gold", "region": ""})
    assert (await set_up(world)).verdict == "done"
    kept = await organization(world)
    assert kept["metadata"] == {"auth0_provisioner": "acme", "tier": "gold", "crm": "77"}

    before = await last_call(world)
    await declare(world, metadata={})
    assert (await set_up(world)).verdict == "done"
    assert await changes_since(world, before) == []
