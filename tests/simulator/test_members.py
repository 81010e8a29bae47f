"""Rules of membership, of the lists that lag behind it, and of roles."""

from typing import Any

import pytest

from service.auth0.simulator.lag import Lag
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

SLOW = Lag(member_added=(1.0, 3.0), member_removed=(5.0, 10.0), search=(0.0, 0.0))


async def users(auth0: Auth0, count: int) -> list[str]:
    return [
        (await auth0.create_user(f"u{n}@hoekstra.example", user_id=f"u{n}"))["user_id"]
        for n in range(count)
    ]


async def listed(auth0: Auth0, path: str) -> list[str]:
    return [row["user_id"] for row in await auth0.get(path)]


@pytest.fixture
async def path(auth0: Auth0) -> str:
    return f"/organizations/{await auth0.organization()}/members"


async def test_adding_a_member_twice_changes_nothing(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    for _ in range(2):
        answer = await auth0.send("POST", path, {"members": ids})
        assert (answer.status_code, answer.content) == (204, b"")
    assert await listed(auth0, path) == ids


async def test_at_most_ten_members_a_call(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 11)
    for method in ("POST", "DELETE"):
        refusal = await auth0.refused(method, path, {"members": ids})
        assert (refusal["statusCode"], refusal["errorCode"]) == (400, "invalid_body")
    assert await listed(auth0, path) == []
    assert (await auth0.send("POST", path, {"members": ids[:10]})).status_code == 204


async def test_batch_with_an_unknown_user_adds_nobody(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    refusal = await auth0.refused("POST", path, {"members": [*ids, "auth0|nobody"]})
    assert refusal["statusCode"] == 400
    assert (await auth0.state())["members"] == []


async def test_unknown_organization_is_a_404_without_a_code(auth0: Auth0) -> None:
    assert await auth0.refused("GET", "/organizations/org_none/members") == {
        "statusCode": 404,
        "error": "Not Found",
        "message": "No organization found by that id or name",
    }


async def test_list_shows_a_new_member_later(open_tenant: OpenTenant, clock: Clock) -> None:
    auth0 = await open_tenant(lag=SLOW)
    organization = await auth0.organization()
    path = f"/organizations/{organization}/members"
    (user_id,) = await users(auth0, 1)
    await auth0.post(path, {"members": [user_id]})
    assert await listed(auth0, path) == []
    assert [row["user_id"] for row in (await auth0.state())["members"]] == [user_id]
    own = await auth0.get(f"/users/{user_id}/organizations")
    assert [row["id"] for row in own] == [organization]
    clock.advance(3)
    assert await listed(auth0, path) == [user_id]


async def test_list_shows_a_removed_member_for_five_to_ten_seconds(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant(lag=SLOW)
    path = f"/organizations/{await auth0.organization()}/members"
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    clock.advance(3)
    assert (await auth0.send("DELETE", path, {"members": ids})).status_code == 204
    clock.advance(4.9)
    assert await listed(auth0, path) == ids
    clock.advance(5.1)
    assert await listed(auth0, path) == []


async def test_list_follows_a_quick_change_of_mind_in_order(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant(lag=SLOW)
    path = f"/organizations/{await auth0.organization()}/members"
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    clock.advance(3)
    await auth0.send("DELETE", path, {"members": ids})
    await auth0.post(path, {"members": ids})
    for _ in range(20):
        clock.advance(1)
    assert await listed(auth0, path) == ids


async def test_deleted_user_leaves_his_organizations(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    await auth0.send("DELETE", f"/users/{ids[0]}")
    assert await listed(auth0, path) == []
    assert (await auth0.state())["members"] == []


async def test_scan_by_cursor_ends_with_an_empty_page(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 4)
    await auth0.post(path, {"members": ids})
    page: dict[str, Any] = await auth0.get(path, take=2)
    seen = [page["members"]]
    while "next" in page:
        page = await auth0.get(path, **{"take": 2, "from": page["next"]})
        seen.append(page["members"])
    assert [len(rows) for rows in seen] == [2, 2, 0]
    assert sorted(row["user_id"] for rows in seen for row in rows) == ids


async def test_pages_by_index_come_bare_or_with_totals(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 3)
    await auth0.post(path, {"members": ids})
    assert await listed(auth0, f"{path}?page=1&per_page=2") == ids[2:]
    page = await auth0.get(path, page=0, per_page=2, include_totals=True)
    assert (page["start"], page["limit"], page["total"]) == (0, 2, 3)
    assert (await auth0.refused("GET", path, page=100))["errorCode"] == "invalid_paging"


async def test_member_roles_are_granted_and_taken(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    roles = [await auth0.role("admin"), await auth0.role("billing")]
    own = f"{path}/{ids[0]}/roles"
    for _ in range(2):
        assert (await auth0.send("POST", own, {"roles": roles})).status_code == 204
    await auth0.send("DELETE", own, {"roles": roles[:1]})
    assert [row["name"] for row in await auth0.get(own)] == ["billing"]
    shown = await auth0.get(path, fields="user_id,roles")
    assert shown == [{"user_id": ids[0], "roles": [{"id": roles[1], "name": "billing"}]}]


async def test_roles_end_with_the_membership(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    await auth0.post(f"{path}/{ids[0]}/roles", {"roles": [await auth0.role()]})
    await auth0.send("DELETE", path, {"members": ids})
    await auth0.post(path, {"members": ids})
    assert await auth0.get(f"{path}/{ids[0]}/roles") == []


async def test_a_role_that_is_deleted_is_nobodys(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    role = await auth0.role("admin")
    await auth0.post(f"{path}/{ids[0]}/roles", {"roles": [role]})
    assert (await auth0.send("DELETE", f"/roles/{role}")).status_code == 200
    assert await auth0.get(f"{path}/{ids[0]}/roles") == []
    assert (await auth0.send("DELETE", f"/roles/{role}")).status_code == 404
    answer = await auth0.send("POST", f"{path}/{ids[0]}/roles", {"roles": [role]})
    assert answer.status_code == 404


async def test_roles_need_a_member_and_a_role(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    own = f"{path}/{ids[0]}/roles"
    refusal = await auth0.refused("POST", own, {"roles": [await auth0.role()]})
    assert refusal["statusCode"] == 400
    await auth0.post(path, {"members": ids})
    assert await auth0.refused("POST", own, {"roles": ["rol_none"]}) == {
        "statusCode": 404,
        "error": "Not Found",
        "message": "The role does not exist.",
    }


async def test_member_holds_at_most_fifty_roles(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    roles = [(await auth0.post("/roles", {"name": f"r{n}"}))["id"] for n in range(51)]
    own = f"{path}/{ids[0]}/roles"
    await auth0.post(own, {"roles": roles[:50]})
    assert (await auth0.refused("POST", own, {"roles": roles[50:]}))["statusCode"] == 409


async def test_total_of_a_users_organizations_is_not_to_be_trusted(auth0: Auth0, path: str) -> None:
    ids = await users(auth0, 1)
    await auth0.post(path, {"members": ids})
    page = await auth0.get(f"/users/{ids[0]}/organizations", include_totals=True)
    assert (len(page["organizations"]), page["total"]) == (1, 0)
