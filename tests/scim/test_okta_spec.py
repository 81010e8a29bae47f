"""What Okta's SCIM 2.0 SPEC test asks of a service, restated: one test for each of its requests.

A user exists before the first request, as the suite demands.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

import httpx
import pytest

from tests.scim.client import CORE_USER, Scim

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
UNKNOWN_IDS = ("00919288221112222", "010101001010101011001010101011")


@pytest.fixture
async def first(scim: Scim) -> dict[str, Any]:
    """The user that is there before the suite comes."""
    return await scim.post_user(
        "nils.oberg@hoekstra.example",
        name={"givenName": "Nils", "familyName": "Oberg"},
        emails=[{"value": "nils.oberg@hoekstra.example", "type": "work", "primary": True}],
    )


def new_user() -> dict[str, Any]:
    """A random user, as the suite creates it."""
    name = f"runa.{secrets.token_hex(6)}@hoekstra.example"
    return {
        "schemas": [CORE_USER],
        "userName": name,
        "name": {"givenName": "Runa", "familyName": "Falk"},
        "emails": [{"primary": True, "value": name, "type": "work"}],
        "displayName": "Runa Falk",
        "active": True,
    }


def assert_shows_a_person(user: dict[str, Any]) -> None:
    assert user["id"]
    assert user["name"]["givenName"]
    assert user["name"]["familyName"]
    assert user["userName"]
    assert isinstance(user["active"], bool)
    assert user["emails"][0]["value"]


def assert_error(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    document = answer.json()
    assert document["schemas"] == [ERROR]
    assert document["status"] == str(status)
    assert document["detail"]


async def assert_nobody_has(scim: Scim, name: str) -> None:
    found = await scim.get("Users", filter=f'userName eq "{name}"')
    assert LIST in found["schemas"]
    assert found["totalResults"] == 0
    assert found["Resources"] == []


async def test_the_first_page_shows_a_complete_user(scim: Scim, first: dict[str, Any]) -> None:
    answer = await scim.http.get("Users", params={"count": 1, "startIndex": 1})
    assert answer.status_code == 200
    listed = answer.json()
    assert LIST in listed["schemas"]
    for name in ("itemsPerPage", "startIndex", "totalResults"):
        assert type(listed[name]) is int
    assert isinstance(listed["Resources"], list)
    assert listed["Resources"][0]["id"] == first["id"]
    assert_shows_a_person(listed["Resources"][0])


async def test_the_user_of_the_first_page_is_read_by_id(scim: Scim, first: dict[str, Any]) -> None:
    answer = await scim.http.get(f"Users/{first['id']}")
    assert answer.status_code == 200
    assert_shows_a_person(answer.json())
    assert answer.json()["id"] == first["id"]


async def test_a_user_name_nobody_has_is_an_empty_list(scim: Scim, first: dict[str, Any]) -> None:
    await assert_nobody_has(scim, "abcdefgh@hoekstra.example")
    await assert_nobody_has(scim, new_user()["userName"])


@pytest.mark.parametrize("unknown", UNKNOWN_IDS)
async def test_an_unknown_id_is_404_in_error_form(scim: Scim, unknown: str) -> None:
    assert_error(await scim.http.get(f"Users/{unknown}"), 404)


async def test_a_random_user_is_created_as_sent_and_read_back(scim: Scim) -> None:
    sent = new_user()
    await assert_nobody_has(scim, sent["userName"])
    answer = await scim.http.post("Users", json=sent)
    assert answer.status_code == 201
    created = answer.json()
    read = await scim.get(f"Users/{created['id']}")
    for shown in (created, read):
        assert shown["id"] == created["id"]
        assert shown["active"] is True
        assert shown["name"] == sent["name"]
        assert shown["userName"] == sent["userName"]
        assert CORE_USER in shown["schemas"]


async def test_the_same_user_again_is_409(scim: Scim) -> None:
    sent = new_user()
    assert (await scim.http.post("Users", json=sent)).status_code == 201
    assert_error(await scim.http.post("Users", json=sent), 409)


async def test_the_upper_cased_user_name_finds_the_user(scim: Scim) -> None:
    sent = new_user()
    created = (await scim.http.post("Users", json=sent)).json()
    found = await scim.get("Users", filter=f'userName eq "{sent["userName"].upper()}"')
    assert [user["id"] for user in found["Resources"]] == [created["id"]]


async def test_groups_are_listed_within_600_ms(scim: Scim, first: dict[str, Any]) -> None:
    await scim.post_group("Field crew", first["id"])
    started = time.perf_counter()
    answer = await scim.http.get("Groups")
    assert time.perf_counter() - started < 0.6
    assert answer.status_code == 200
    assert answer.json()["totalResults"] == 1


@pytest.mark.parametrize("header", ["Bearer nobody", "12345678901234567890", "Basic bmlsczpub25l"])
async def test_a_bad_authorization_header_is_401_in_error_form(scim: Scim, header: str) -> None:
    assert_error(await scim.http.get("Users", headers={"Authorization": header}), 401)
