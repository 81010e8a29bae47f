"""Rules of logging in, sessions, revocation, password tickets and blocks."""

from typing import Any

import pytest

from service.auth0.simulator.lag import Lag
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import PASSWORD, Auth0, Clock

ANN = "ann@hoekstra.example"
AD = "metahexa-ad"


async def member(auth0: Auth0, email: str = ANN, organization: str = "hoekstra") -> str:
    user = await auth0.create_user(email)
    path = f"/organizations/{await auth0.organization(organization)}/members"
    await auth0.post(path, {"members": [user["user_id"]]})
    return user["user_id"]


async def test_login_creates_a_session_and_a_refresh_token(auth0: Auth0) -> None:
    user_id = await member(auth0)
    outcome = await auth0.login(ANN.upper(), organization="hoekstra")
    assert (outcome["allowed"], outcome["reason"], outcome["user_id"]) == (True, None, user_id)
    sessions = await auth0.get(f"/users/{user_id}/sessions")
    tokens = await auth0.get(f"/users/{user_id}/refresh-tokens")
    assert [row["id"] for row in sessions["sessions"]] == [outcome["session_id"]]
    assert [row["session_id"] for row in tokens["tokens"]] == [outcome["session_id"]]
    assert (await auth0.user(user_id))["logins_count"] == 1


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"connection": "nowhere"}, "unknown_connection"),
        ({"email": "bob@hoekstra.example"}, "unknown_user"),
        ({"organization": "nowhere"}, "unknown_organization"),
        ({"organization": "clinic-a"}, "connection_not_enabled"),
        ({"organization": "hoekstra"}, "not_a_member"),
    ],
)
async def test_refused_login_says_why(auth0: Auth0, wish: dict[str, Any], reason: str) -> None:
    await auth0.create_user(ANN)
    outcome = await auth0.login(**{"email": ANN, **wish})
    assert (outcome["allowed"], outcome["reason"]) == (False, reason)
    assert (await auth0.state())["sessions"] == []


async def test_blocked_user_cannot_log_in_but_keeps_his_sessions(auth0: Auth0) -> None:
    user_id = await member(auth0)
    await auth0.login(ANN)
    await auth0.send("PATCH", f"/users/{user_id}", {"blocked": True})
    assert (await auth0.login(ANN))["reason"] == "blocked"
    assert len((await auth0.state())["sessions"]) == 1
    assert len((await auth0.state())["refresh_tokens"]) == 1


async def test_enterprise_profile_appears_at_first_login(auth0: Auth0) -> None:
    person = {"attributes": {"given_name": "Iris"}, "subject": "oid-1"}
    outcome = await auth0.login("Iris@Metahexa.example", AD, **person)
    profile = await auth0.user("waad|oid-1")
    assert outcome["allowed"]
    assert (profile["email"], profile["given_name"]) == ("Iris@Metahexa.example", "Iris")
    assert profile["identities"][0]["connection"] == AD
    again = await auth0.login("iris.new@metahexa.example", AD, subject="oid-1")
    assert again["user_id"] == "waad|oid-1"
    assert (await auth0.user("waad|oid-1"))["email"] == "iris.new@metahexa.example"


async def test_enterprise_profile_appears_also_where_membership_is_lacking(auth0: Auth0) -> None:
    outcome = await auth0.login("iris@metahexa.example", AD, organization="metahexa")
    assert (outcome["allowed"], outcome["reason"]) == (False, "not_a_member")
    (row,) = (await auth0.state())["users"]
    assert (row["user_id"], row["connection"]) == (outcome["user_id"], AD)
    assert (await auth0.state())["sessions"] == []


async def test_login_makes_a_member_where_the_organization_wants_it(auth0: Auth0) -> None:
    path = f"/organizations/{await auth0.organization('metahexa')}/enabled_connections"
    connection = await auth0.connection(AD)
    await auth0.send("PATCH", f"{path}/{connection}", {"assign_membership_on_login": True})
    assert (await auth0.login("iris@metahexa.example", AD))["allowed"]
    assert (await auth0.state())["members"] == []
    assert (await auth0.login("iris@metahexa.example", AD, organization="metahexa"))["allowed"]
    (row,) = (await auth0.state())["members"]
    assert row["organization"] == "metahexa"


async def test_enterprise_profile_belongs_to_its_identity_provider(auth0: Auth0) -> None:
    outcome = await auth0.login("iris@metahexa.example", AD)
    path = f"/users/{outcome['user_id']}"
    for change in ({"email": "x@y.example"}, {"given_name": "I"}, {"email_verified": True}):
        refusal = await auth0.refused("PATCH", path, change)
        assert (refusal["statusCode"], refusal["errorCode"]) == (400, "operation_not_supported")
    change = {"blocked": True, "app_metadata": {"a": 1}}
    assert (await auth0.send("PATCH", path, change)).json()["blocked"] is True


async def test_login_finds_the_tenant_by_its_connection(open_tenant: OpenTenant) -> None:
    auth0 = await open_tenant("conglomerate")
    user = await auth0.create_user("a@x.example", connection="conglomerate-users")
    outcome = await auth0.login("a@x.example", "conglomerate-users")
    assert (outcome["tenant"], outcome["user_id"]) == ("conglomerate", user["user_id"])


@pytest.mark.parametrize(
    ("method", "path", "left"),
    [
        ("DELETE", "sessions", (0, 1)),
        ("DELETE", "refresh-tokens", (1, 0)),
        ("POST", "revoke-access", (0, 0)),
    ],
)
async def test_revocation_is_accepted_first_and_done_later(
    open_tenant: OpenTenant, clock: Clock, method: str, path: str, left: tuple[int, int]
) -> None:
    auth0 = await open_tenant(lag=Lag(revocation=(2.0, 2.0)))
    user = await auth0.create_user(ANN)
    await auth0.login(ANN)
    answer = await auth0.send(method, f"/users/{user['user_id']}/{path}")
    assert (answer.status_code, answer.json()) == (202, {})

    async def alive() -> tuple[int, int]:
        state = await auth0.state()
        return len(state["sessions"]), len(state["refresh_tokens"])

    assert await alive() == (1, 1)
    clock.advance(2)
    assert await alive() == left


async def test_session_begun_after_a_revocation_lives_on(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant(lag=Lag(revocation=(2.0, 2.0)))
    user = await auth0.create_user(ANN)
    await auth0.login(ANN)
    await auth0.post(f"/users/{user['user_id']}/revoke-access", {})
    later = await auth0.login(ANN)
    clock.advance(2)
    assert [row["id"] for row in (await auth0.state())["sessions"]] == [later["session_id"]]


async def test_revocation_can_spare_refresh_tokens_or_other_sessions(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    first, second = await auth0.login(ANN), await auth0.login(ANN)
    path = f"/users/{user['user_id']}/revoke-access"
    await auth0.post(path, {"session_id": first["session_id"], "preserve_refresh_tokens": True})
    state = await auth0.state()
    assert [row["id"] for row in state["sessions"]] == [second["session_id"]]
    assert len(state["refresh_tokens"]) == 2


async def test_revocation_for_an_unknown_user(auth0: Auth0) -> None:
    answer = await auth0.send("POST", "/users/auth0|nobody/revoke-access", {})
    assert answer.status_code == 202
    refusal = await auth0.refused("DELETE", "/users/auth0|nobody/sessions")
    assert refusal["errorCode"] == "inexistent_user"


async def test_sessions_can_be_missing_from_the_plan(open_tenant: OpenTenant) -> None:
    auth0 = await open_tenant(plan="professional")
    user = await auth0.create_user(ANN)
    for path in ("sessions", "refresh-tokens"):
        refusal = await auth0.refused("DELETE", f"/users/{user['user_id']}/{path}")
        assert (refusal["statusCode"], refusal["errorCode"]) == (403, "insufficient_entitlement")
    await auth0.post(f"/users/{user['user_id']}/revoke-access", {})


async def test_ticket_resets_the_password_and_lifts_the_block(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN, blocked=True)
    body = {"user_id": user["user_id"], "mark_email_as_verified": True}
    ticket = (await auth0.post("/tickets/password-change", body))["ticket"]
    assert (await auth0.state())["mails"] == []
    weak = {"ticket": ticket, "password": "weak"}
    assert (await auth0.control("tickets/use", weak))["reason"] == "weak_password"
    assert await auth0.control("tickets/use", {"ticket": ticket, "password": PASSWORD}) == {
        "used": True,
        "reason": None,
    }
    profile = await auth0.user(user["user_id"])
    assert not profile.get("blocked")
    assert profile["email_verified"] is True
    assert (await auth0.login(ANN))["allowed"]
    assert (await auth0.control("tickets/use", {"ticket": ticket}))["reason"] == "used"


async def test_ticket_by_connection_and_address_expires(auth0: Auth0, clock: Clock) -> None:
    await auth0.create_user(ANN)
    body = {"connection_id": await auth0.connection(), "email": ANN}
    ticket = (await auth0.post("/tickets/password-change", body))["ticket"]
    clock.advance(432_000)
    assert (await auth0.control("tickets/use", {"ticket": ticket}))["reason"] == "expired"


async def test_ticket_in_an_organizations_name_needs_a_member(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    organization = await auth0.organization()
    body = {
        "user_id": user["user_id"],
        "client_id": "sample-app",
        "organization_id": organization,
    }
    refusal = await auth0.refused("POST", "/tickets/password-change", body)
    assert refusal["statusCode"] == 400
    await auth0.post(f"/organizations/{organization}/members", {"members": [user["user_id"]]})
    assert await auth0.post("/tickets/password-change", body)


async def test_ticket_needs_a_user_of_a_database(auth0: Auth0) -> None:
    body = {"user_id": "auth0|nobody"}
    refusal = await auth0.refused("POST", "/tickets/password-change", body)
    assert refusal["errorCode"] == "inexistent_user"
    outcome = await auth0.login("iris@metahexa.example", AD)
    refusal = await auth0.refused(
        "POST", "/tickets/password-change", {"user_id": outcome["user_id"]}
    )
    assert refusal["statusCode"] == 400


async def test_forgotten_password_tells_nothing_about_users(auth0: Auth0) -> None:
    await auth0.create_user(ANN)
    answers = [
        await auth0.http.post(
            "/dbconnections/change_password",
            json={"client_id": "sample-app", "email": email, "connection": "hoekstra-users"},
        )
        for email in (ANN, "nobody@hoekstra.example")
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    mails = (await auth0.state())["mails"]
    assert [(mail["kind"], mail["recipient"]) for mail in mails] == [("change_password", ANN)]


async def test_forgotten_password_is_limited_per_address(auth0: Auth0, clock: Clock) -> None:
    body = {"client_id": "sample-app", "email": ANN, "connection": "hoekstra-users"}

    async def ask(email: str = ANN) -> int:
        wish = {**body, "email": email}
        return (await auth0.http.post("/dbconnections/change_password", json=wish)).status_code

    assert [await ask() for _ in range(11)] == [200] * 10 + [429]
    assert await ask("bob@hoekstra.example") == 200
    clock.advance(60)
    assert [await ask(), await ask()] == [200, 429]


async def test_brute_force_block_is_not_the_administrators(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    path = f"/users/{user['user_id']}"
    await auth0.control("brute-force", {"connection": "hoekstra-users", "email": ANN})
    assert (await auth0.login(ANN))["reason"] == "too_many_attempts"
    await auth0.send("PATCH", path, {"blocked": False})
    shown = await auth0.get("/user-blocks", identifier=ANN)
    assert shown["blocked_for"][0]["connection"] == "hoekstra-users"
    assert shown == await auth0.get(f"/user-blocks/{user['user_id']}")
    assert (await auth0.login(ANN))["reason"] == "too_many_attempts"
    assert (await auth0.send("DELETE", "/user-blocks", identifier=ANN)).status_code == 204
    assert (await auth0.login(ANN))["allowed"]
