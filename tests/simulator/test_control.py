"""Rules of the control API: state, calls, reset, and samples."""

import pytest

from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import PASSWORD, Auth0

ANN = "ann@hoekstra.example"


async def test_samples_are_the_same_everywhere(open_tenant: OpenTenant) -> None:
    first, second = await open_tenant(), await open_tenant()
    state = await first.state()
    names = ("connections", "organizations", "roles", "clients")
    assert {name: state[name] for name in names} == {
        name: (await second.state())[name] for name in names
    }
    found = {(row["tenant"], row["name"]): row["strategy"] for row in state["connections"]}
    assert found == {
        ("main", "hoekstra-users"): "auth0",
        ("main", "metahexa-ad"): "waad",
        ("main", "clinics-users"): "auth0",
        ("conglomerate", "conglomerate-users"): "auth0",
    }
    organizations = {(row["tenant"], row["name"]) for row in state["organizations"]}
    assert organizations == {
        ("main", "hoekstra"),
        ("main", "metahexa"),
        ("main", "clinic-a"),
        ("main", "clinic-b"),
        ("conglomerate", "conglomerate"),
    }
    roles = [row["name"] for row in state["roles"] if row["tenant"] == "conglomerate"]
    assert roles == ["admin", "billing", "member"]


async def test_simulator_can_start_empty(open_tenant: OpenTenant) -> None:
    auth0 = await open_tenant(seed=False)
    state = await auth0.state()
    assert (state["connections"], state["organizations"], state["roles"]) == ([], [], [])


async def test_state_never_shows_a_password(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    await auth0.send("PATCH", f"/users/{user['user_id']}", {"password": f"{PASSWORD}?"})
    answer = await auth0.http.get("/simulator/state")
    assert PASSWORD not in answer.text
    assert "simulator-secret" not in answer.text
    assert auth0.token not in answer.text


async def test_every_row_of_state_names_its_tenant(auth0: Auth0) -> None:
    conglomerate = Auth0(auth0.http, "conglomerate")
    await conglomerate.sign_in()
    await conglomerate.create_user(ANN, connection="conglomerate-users")
    await auth0.create_user(ANN, blocked=True)
    rows = (await auth0.state())["users"]
    shown = {(row["tenant"], row["connection"], row["email"], row["blocked"]) for row in rows}
    assert shown == {
        ("main", "hoekstra-users", ANN, True),
        ("conglomerate", "conglomerate-users", ANN, False),
    }


async def test_calls_are_numbered_and_never_include_control_or_token_calls(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    await auth0.login(ANN)
    await auth0.send("GET", f"/users/{user['user_id']}")
    await auth0.send("GET", "/users/auth0|nobody")
    calls = await auth0.calls()
    assert [(c["method"], c["path"], c["status"], c["group"]) for c in calls] == [
        ("POST", "/api/v2/users", 201, "users_write"),
        ("GET", f"/api/v2/users/{user['user_id']}", 200, "users_read"),
        ("GET", "/api/v2/users/auth0|nobody", 404, "users_read"),
    ]
    assert {call["tenant"] for call in calls} == {"main"}
    assert [c["number"] for c in await auth0.calls(after=calls[0]["number"])] == [
        call["number"] for call in calls[1:]
    ]


async def test_refused_calls_are_calls(auth0: Auth0) -> None:
    auth0.token = "expired"
    await auth0.send("GET", "/users")
    await auth0.send("PUT", "/nothing/here")
    statuses = [(call["status"], call["group"]) for call in await auth0.calls()]
    assert statuses == [(401, "users_read"), (401, "unknown")]


async def test_reset_empties_tenants_and_keeps_access(auth0: Auth0) -> None:
    await auth0.create_user(ANN)
    number = (await auth0.calls())[-1]["number"]
    await auth0.control("faults", {"kind": "status"})
    await auth0.control("reset")
    state = await auth0.state()
    emptied = ("users", "connections", "organizations", "roles", "mails", "faults")
    assert all(state[name] == [] for name in emptied)
    assert await auth0.calls() == []
    assert await auth0.get("/users") == []
    assert (await auth0.calls())[0]["number"] > number


async def test_reset_can_plant_the_samples_again(auth0: Auth0) -> None:
    before = await auth0.state()
    await auth0.create_user(ANN)
    await auth0.control("reset", {"seed": True})
    assert await auth0.state() == before


async def test_reset_can_be_of_one_tenant(auth0: Auth0) -> None:
    await auth0.control("reset", {"tenant": "main"})
    tenants = {row["tenant"] for row in (await auth0.state())["connections"]}
    assert tenants == {"conglomerate"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("login", {"connection": "hoekstra-users"}),
        ("login", {"connection": 1, "email": ANN}),
        ("login", {"connection": "a", "email": ANN, "attributes": []}),
        ("reset", {"tenants": []}),
        ("reset", []),
        ("tickets/use", {}),
        ("clients", {"client_id": "c", "scopes": "read:users"}),
        ("brute-force", {"connection": "hoekstra-users", "email": "nobody@x.example"}),
    ],
)
async def test_unreadable_control_request_is_a_400(auth0: Auth0, path: str, body: object) -> None:
    answer = await auth0.http.post(f"/simulator/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
