"""Rules of access to the Management API."""

import pytest

from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

INVALID_TOKEN = {
    "statusCode": 401,
    "error": "Unauthorized",
    "message": "Invalid token",
    "errorCode": "invalid_token",
}


async def test_wrong_secret_is_refused_in_the_oauth_shape(auth0: Auth0) -> None:
    answer = await auth0.sign_in(client_secret="guess")
    assert answer.status_code == 401
    assert answer.json() == {"error": "access_denied", "error_description": "Unauthorized"}


async def test_only_client_credentials_are_granted(auth0: Auth0) -> None:
    answer = await auth0.sign_in(grant_type="password")
    assert answer.status_code == 403
    assert answer.json()["error"] == "unauthorized_client"


async def test_token_request_may_be_a_form(auth0: Auth0) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": "provisioner",
        "client_secret": "simulator-secret",
    }
    answer = await auth0.http.post("/oauth/token", data=form)
    assert answer.json()["expires_in"] == 86_400
    auth0.token = answer.json()["access_token"]
    assert await auth0.get("/users") == []


@pytest.mark.parametrize("token", ["", "nonsense"])
async def test_call_without_a_valid_token_is_refused(auth0: Auth0, token: str) -> None:
    auth0.token = token
    assert await auth0.refused("GET", "/users") == INVALID_TOKEN


async def test_token_lives_for_a_day(auth0: Auth0, clock: Clock) -> None:
    clock.advance(86_399)
    await auth0.get("/users")
    clock.advance(1)
    assert await auth0.refused("GET", "/users") == INVALID_TOKEN


async def test_tokens_can_be_expired_at_once(auth0: Auth0) -> None:
    await auth0.control("tokens/expire")
    assert await auth0.refused("GET", "/users") == INVALID_TOKEN
    await auth0.sign_in()
    await auth0.get("/users")


async def test_token_of_one_tenant_opens_no_other(open_tenant: OpenTenant) -> None:
    main = await open_tenant()
    other = Auth0(main.http, "conglomerate")
    other.token = main.token
    assert await other.refused("GET", "/users") == INVALID_TOKEN


async def test_missing_scope_is_named(auth0: Auth0) -> None:
    reader = {"client_id": "reader", "client_secret": "s", "scopes": ["read:users"]}
    await auth0.control("clients", reader)
    granted = await auth0.sign_in(client_id="reader", client_secret="s")
    assert granted.json()["scope"] == "read:users"
    await auth0.get("/users")
    refusal = await auth0.refused("POST", "/users", {"connection": "hoekstra-users"})
    assert refusal["statusCode"] == 403
    assert refusal["message"] == "Insufficient scope, expected any of: create:users"


async def test_app_metadata_needs_a_scope_of_its_own(auth0: Auth0) -> None:
    user = await auth0.create_user("ann@hoekstra.example")
    editor = {"client_id": "editor", "client_secret": "s", "scopes": ["update:users"]}
    await auth0.control("clients", editor)
    await auth0.sign_in(client_id="editor", client_secret="s")
    path = f"/users/{user['user_id']}"
    assert (await auth0.send("PATCH", path, {"name": "Ann"})).status_code == 200
    refusal = await auth0.refused("PATCH", path, {"app_metadata": {"a": 1}})
    assert refusal["message"].endswith("update:users_app_metadata")


async def test_tenant_comes_into_being_with_its_first_token(auth0: Auth0) -> None:
    newcomer = Auth0(auth0.http, "newcomer")
    assert (await newcomer.sign_in()).status_code == 200
    assert await newcomer.get("/connections") == []
    assert "newcomer" in [row["tenant"] for row in (await auth0.state())["tenants"]]


async def test_tenant_name_must_be_a_host_label(auth0: Auth0) -> None:
    answer = await auth0.http.post("/tenants/No_Such/oauth/token", json={})
    assert answer.status_code == 404
