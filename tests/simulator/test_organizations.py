"""Rules of organizations, of connections, and of invitations."""

import pytest

from tests.simulator.driver import Auth0, Clock

ANN = "ann@hoekstra.example"
CLINIC_USERS = "clinics-users"


async def test_organization_name_is_unique(auth0: Auth0) -> None:
    created = await auth0.post("/organizations", {"name": "acme"})
    assert await auth0.organization("acme") == created["id"]
    assert (await auth0.refused("POST", "/organizations", {"name": "acme"}))["statusCode"] == 409
    path = f"/organizations/{created['id']}"
    assert (await auth0.refused("PATCH", path, {"name": "hoekstra"}))["statusCode"] == 409


@pytest.mark.parametrize("name", ["", "Acme", "x" * 51, "a b"])
async def test_organization_name_is_short_and_lower_case(auth0: Auth0, name: str) -> None:
    refusal = await auth0.refused("POST", "/organizations", {"name": name})
    assert (refusal["statusCode"], refusal["errorCode"]) == (400, "invalid_body")


async def test_members_of_a_deleted_organization_stay_users(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    organization = await auth0.organization()
    await auth0.post(f"/organizations/{organization}/members", {"members": [user["user_id"]]})
    answer = await auth0.send("DELETE", f"/organizations/{organization}")
    assert answer.status_code == 204
    assert await auth0.get(f"/users/{user['user_id']}/organizations") == []
    assert (await auth0.user(user["user_id"]))["email"] == ANN


async def test_connection_is_enabled_changed_and_disabled(auth0: Auth0) -> None:
    path = f"/organizations/{await auth0.organization()}/enabled_connections"
    connection = await auth0.connection(CLINIC_USERS)
    enabled = await auth0.post(path, {"connection_id": connection})
    assert enabled["assign_membership_on_login"] is False
    assert enabled["connection"] == {"name": CLINIC_USERS, "strategy": "auth0"}
    changed = await auth0.send(
        "PATCH", f"{path}/{connection}", {"assign_membership_on_login": True}
    )
    assert changed.json()["assign_membership_on_login"] is True
    assert len(await auth0.get(path)) == 2
    assert (await auth0.send("DELETE", f"{path}/{connection}")).status_code == 204
    assert len(await auth0.get(path)) == 1


async def test_organization_has_at_most_ten_connections(auth0: Auth0) -> None:
    path = f"/organizations/{await auth0.organization()}/enabled_connections"
    for number in range(10):
        body = {"name": f"c{number}", "strategy": "auth0"}
        created = await auth0.post("/connections", body)
        answer = await auth0.send("POST", path, {"connection_id": created["id"]})
        assert answer.status_code == (201 if number < 9 else 400)


async def test_sign_up_needs_a_database_that_assigns_membership(auth0: Auth0) -> None:
    path = f"/organizations/{await auth0.organization()}/enabled_connections"
    connection = await auth0.connection(CLINIC_USERS)
    body = {"connection_id": connection, "is_signup_enabled": True}
    assert (await auth0.refused("POST", path, body))["statusCode"] == 400
    assert await auth0.post(path, {**body, "assign_membership_on_login": True})


async def test_connection_name_is_unique_and_can_be_looked_up(auth0: Auth0) -> None:
    body = {"name": "acme-users", "strategy": "auth0", "enabled_clients": ["sample-app"]}
    created = await auth0.post("/connections", body)
    assert await auth0.connection("acme-users") == created["id"]
    assert (await auth0.refused("POST", "/connections", body))["statusCode"] == 409
    clients = await auth0.get(f"/connections/{created['id']}/clients")
    assert clients == {"clients": [{"client_id": "sample-app"}]}


async def test_deleted_connection_takes_its_users_along(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    await auth0.send("DELETE", f"/connections/{await auth0.connection()}")
    assert (await auth0.refused("GET", f"/users/{user['user_id']}"))["statusCode"] == 404


def invitation(**more: object) -> dict[str, object]:
    return {
        "inviter": {"name": "Hoekstra"},
        "invitee": {"email": ANN},
        "client_id": "sample-app",
        **more,
    }


@pytest.fixture
async def invitations(auth0: Auth0) -> str:
    return f"/organizations/{await auth0.organization()}/invitations"


async def test_every_invitation_mails(auth0: Auth0, invitations: str) -> None:
    for _ in range(2):
        assert (await auth0.send("POST", invitations, invitation())).status_code == 201
    await auth0.post(invitations, invitation(send_invitation_email=False))
    mails = (await auth0.state())["mails"]
    assert [(mail["kind"], mail["recipient"]) for mail in mails] == [("invitation", ANN)] * 2
    assert len(await auth0.get(invitations)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "unknown"},
        {"client_id": None},
        {"roles": ["rol_none"]},
        {"roles": []},
        {"connection_id": "con_none"},
        {"ttl_sec": 2_592_001},
        {"invitee": {}},
    ],
)
async def test_invitation_that_breaks_a_rule_is_a_400(
    auth0: Auth0, invitations: str, change: dict[str, object]
) -> None:
    refusal = await auth0.refused("POST", invitations, invitation(**change))
    assert refusal["statusCode"] == 400
    assert (await auth0.state())["mails"] == []


async def test_invitation_needs_a_connection_of_the_organization(
    auth0: Auth0, invitations: str
) -> None:
    foreign = await auth0.connection(CLINIC_USERS)
    refusal = await auth0.refused("POST", invitations, invitation(connection_id=foreign))
    assert "not enabled" in refusal["message"]


async def test_invitation_expires_after_a_week(
    auth0: Auth0, invitations: str, clock: Clock
) -> None:
    created = await auth0.post(invitations, invitation())
    clock.advance(7 * 86_400)
    await auth0.sign_in()
    assert await auth0.get(invitations) == []
    refusal = await auth0.refused("GET", f"{invitations}/{created['id']}")
    assert (refusal["statusCode"], refusal["errorCode"]) == (404, "inexistent_invitation")


async def test_deleted_invitation_is_gone(auth0: Auth0, invitations: str) -> None:
    created = await auth0.post(invitations, invitation())
    path = f"{invitations}/{created['id']}"
    assert (await auth0.send("DELETE", path)).status_code == 204
    assert (await auth0.refused("DELETE", path))["errorCode"] == "inexistent_invitation"


async def test_accepting_an_invitation_verifies_joins_and_grants(
    auth0: Auth0, invitations: str
) -> None:
    user = await auth0.create_user(ANN)
    created = await auth0.post(invitations, invitation(roles=[await auth0.role("billing")]))
    link = created["invitation_url"]
    assert (await auth0.login(ANN, organization="hoekstra", invitation=link))["allowed"]
    (member,) = (await auth0.state())["members"]
    assert (member["user_id"], member["roles"]) == (user["user_id"], ["billing"])
    assert (await auth0.user(user["user_id"]))["email_verified"] is True
    assert await auth0.get(invitations) == []


async def test_invitation_opened_as_somebody_else_is_lost(auth0: Auth0, invitations: str) -> None:
    await auth0.create_user("bob@hoekstra.example")
    created = await auth0.post(invitations, invitation())
    outcome = await auth0.login(
        "bob@hoekstra.example", organization="hoekstra", invitation=created["id"]
    )
    assert outcome["reason"] == "not_a_member"
    assert await auth0.get(invitations) == []
