"""Rules of user search: a lagging index, and its query language."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.auth0.simulator import search
from service.auth0.simulator.errors import Refusal
from service.auth0.simulator.lag import Lag
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

ANN = "ann@hoekstra.example"


async def found(auth0: Auth0, q: str) -> list[str]:
    rows = await auth0.get("/users", q=q, search_engine="v3")
    return [row["email"] for row in rows]


async def test_search_sees_a_user_later_than_a_read_does(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant(lag=Lag(search=(2.0, 2.0)))
    user = await auth0.create_user(ANN)
    assert (await auth0.user(user["user_id"]))["email"] == ANN
    assert len(await auth0.get("/users-by-email", email=ANN)) == 1
    assert await found(auth0, f'email:"{ANN}"') == []
    clock.advance(2)
    assert await found(auth0, f'email:"{ANN}"') == [ANN]


async def test_search_shows_the_old_version_until_the_index_follows(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant(lag=Lag(search=(2.0, 2.0)))
    user = await auth0.create_user(ANN)
    clock.advance(2)
    await auth0.send("PATCH", f"/users/{user['user_id']}", {"email": "lee@x.example"})
    assert await found(auth0, "email:*") == [ANN]
    clock.advance(2)
    assert await found(auth0, "email:*") == ["lee@x.example"]
    await auth0.send("DELETE", f"/users/{user['user_id']}")
    assert await found(auth0, "email:*") == ["lee@x.example"]
    clock.advance(2)
    assert await found(auth0, "email:*") == []


async def test_metadata_and_organizations_can_be_searched(auth0: Auth0) -> None:
    ann = await auth0.create_user(ANN, app_metadata={"key": "K1", "empty": None})
    await auth0.create_user("bob@x.example", app_metadata={"key": "k1"})
    organization = await auth0.organization()
    await auth0.post(f"/organizations/{organization}/members", {"members": [ann["user_id"]]})
    assert await found(auth0, 'app_metadata.key:"K1"') == [ANN]
    assert await found(auth0, f'organization_id:"{organization}"') == [ANN]
    assert await found(auth0, "_exists_:app_metadata.empty") == []
    assert await found(auth0, 'email:"ann*"') == []
    assert await found(auth0, "email:ann* OR user_id:nobody") == [ANN]
    assert await found(auth0, "NOT email:ann* AND user_id:auth0*") == ["bob@x.example"]


async def test_pages_end_at_a_thousand_rows(auth0: Auth0) -> None:
    await auth0.create_user(ANN)
    page = await auth0.get("/users", page=0, per_page=100, include_totals=True)
    assert (page["total"], page["length"], page["limit"]) == (1, 1, 100)
    refusal = await auth0.refused("GET", "/users", page=10, per_page=100)
    assert (refusal["statusCode"], refusal["errorCode"]) == (400, "invalid_paging")


async def test_users_are_sorted_on_demand(auth0: Auth0) -> None:
    for name in ("b", "c", "a"):
        await auth0.create_user(f"{name}@x.example")
    rows = await auth0.get("/users", sort="email:-1")
    assert [row["email"][0] for row in rows] == ["c", "b", "a"]


@pytest.mark.parametrize("q", ["(", "email:", "a AND", ")", "logins_count:[1 TO 2]", "OR"])
def test_unreadable_query_is_a_400(q: str) -> None:
    with pytest.raises(Refusal) as refused:
        search.parsed(q)
    assert (refused.value.status, refused.value.error_code) == (400, "invalid_query_string")


PROFILES = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(["x", "y"]) for name in ("name", "email", "nickname")}
)
TERMS = st.sampled_from(["name:x", "email:y", "_exists_:nickname"])


@given(profile=PROFILES, one=TERMS, other=TERMS)
def test_query_operators_are_the_logical_ones(
    profile: dict[str, Any], one: str, other: str
) -> None:
    a, b = search.parsed(one)(profile), search.parsed(other)(profile)
    assert search.parsed(f"{one} AND {other}")(profile) == (a and b)
    assert search.parsed(f"{one} {other}")(profile) == (a and b)
    assert search.parsed(f"{one} OR {other}")(profile) == (a or b)
    assert search.parsed(f"NOT ({one} OR {other})")(profile) == (not (a or b))
