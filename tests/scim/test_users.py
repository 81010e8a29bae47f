"""Users over HTTP: what clients send, what is kept of it, what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, select

from service.directory import events, people, tables
from tests.scim.client import CORE_USER, ENTERPRISE, PATCH_OP, PROVISIONING, Scim


async def test_created_user_is_answered_in_full_with_its_place(scim: Scim) -> None:
    answer = await scim.http.post(
        "Users",
        json={
            "schemas": [CORE_USER, ENTERPRISE],
            "userName": "Lena",
            "id": "mine",
            "meta": {"resourceType": "User", "version": "x"},
            "groups": [{"value": "1"}],
            "emails": {"value": "lena@hoekstra.example"},
            "department": "Billing",
        },
    )
    user = answer.json()
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/scim+json"
    place = f"http://scim.test/scim/v2/hoekstra/Users/{user['id']}"
    assert answer.headers["location"] == user["meta"]["location"] == place
    assert answer.headers["etag"] == user["meta"]["version"] == 'W/"1"'
    assert user["id"] != "mine"
    assert user["schemas"] == [CORE_USER, ENTERPRISE, PROVISIONING]
    assert user["active"] is True
    assert user["emails"] == [{"value": "lena@hoekstra.example"}]
    assert user[ENTERPRISE] == {"department": "Billing"}
    assert user[PROVISIONING] == {"state": "pending"}
    assert "groups" not in user
    assert await scim.get(f"Users/{user['id']}") == user


async def test_read_shows_how_far_the_user_has_come(scim: Scim) -> None:
    user = await scim.post_user("no address")
    told = (await scim.get(f"Users/{user['id']}"))[PROVISIONING]
    assert told["state"] == "waiting"
    assert "e-mail" in told["detail"]
    await scim.patch(f"Users/{user['id']}", {"op": "replace", "value": {"active": False}})
    told = (await scim.get(f"Users/{user['id']}"))[PROVISIONING]
    assert told["state"] == "applied"
    assert told["lastAppliedAt"].endswith("Z")


async def test_user_name_is_unique_whatever_its_letter_case(scim: Scim) -> None:
    await scim.post_user("Straße")
    other = await scim.post_user("other")
    answers = [
        await scim.http.post("Users", json={"userName": "STRASSE"}),
        await scim.http.put(f"Users/{other['id']}", json={"userName": "strasse"}),
        await scim.patch(
            f"Users/{other['id']}", {"op": "replace", "path": "userName", "value": "straße"}
        ),
    ]
    for answer in answers:
        assert answer.status_code == 409
        assert answer.json()["scimType"] == "uniqueness"
    assert await scim.names('userName eq "STRASSE"') == ["Straße"]


async def test_many_at_once_take_a_user_name_once(scim: Scim) -> None:
    answers = await asyncio.gather(
        *(scim.http.post("Users", json={"userName": "lena"}) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


async def test_put_replaces_what_was_there(scim: Scim) -> None:
    user = await scim.post_user("lena", title="Clerk", name={"givenName": "Lena"})
    answer = await scim.http.put(
        f"Users/{user['id']}", json={**user, "title": None, "nickName": "Le"}
    )
    replaced = answer.json()
    assert answer.status_code == 200
    assert "title" not in replaced
    assert replaced["nickName"] == "Le"
    assert replaced["meta"]["version"] == 'W/"2"'


@pytest.mark.parametrize("active", [{}, {"active": None}, {"active": ""}])
async def test_leaving_active_out_lets_nobody_in(embedded: Scim, active: dict[str, Any]) -> None:
    user = await embedded.post_user("lena", active=False)
    path = f"Users/{user['id']}"
    put = await embedded.http.put(path, json={"userName": "lena", **active})
    assert put.json()["active"] is False
    patched = await embedded.patch(path, {"op": "remove", "path": "active"})
    assert "active" not in patched.json()
    assert await embedded.names("active eq false") == ["lena"]
    again = await embedded.http.put(path, json={"userName": "lena", **active})
    assert again.json()["active"] is False


async def test_change_that_changes_nothing_keeps_the_version(scim: Scim) -> None:
    user = await scim.post_user("lena")
    operation = {"op": "replace", "path": "active", "value": True}
    answer = await scim.patch(f"Users/{user['id']}", operation)
    assert answer.json()["meta"] == user["meta"]


async def test_refused_patch_changes_nothing(scim: Scim) -> None:
    user = await scim.post_user("lena", title="Clerk")
    answer = await scim.patch(
        f"Users/{user['id']}",
        {"op": "replace", "path": "title", "value": "Boss"},
        {"op": "replace", "path": "active", "value": "perhaps"},
    )
    assert answer.status_code == 400
    assert await scim.get(f"Users/{user['id']}") == user


async def test_concurrent_patches_lose_nothing(scim: Scim) -> None:
    user = await scim.post_user("lena")
    await asyncio.gather(
        *(
            scim.patch(
                f"Users/{user['id']}",
                {"op": "add", "path": "emails", "value": [{"value": f"{number}@x.example"}]},
            )
            for number in range(12)
        )
    )
    assert len((await scim.get(f"Users/{user['id']}"))["emails"]) == 12


async def test_deleted_user_is_gone_and_its_name_is_free(scim: Scim) -> None:
    user = await scim.post_user("lena")
    path = f"Users/{user['id']}"
    assert (await scim.http.delete(path)).status_code == 204
    for answer in (
        await scim.http.get(path),
        await scim.http.delete(path),
        await scim.http.put(path, json={"userName": "lena"}),
        await scim.patch(path, {"op": "add", "path": "title", "value": "x"}),
    ):
        assert answer.status_code == 404
        assert answer.json()["status"] == "404"
    assert (await scim.get("Users"))["totalResults"] == 0
    assert (await scim.post_user("LENA"))["id"] != user["id"]


async def test_passwords_are_neither_kept_nor_shown(scim: Scim) -> None:
    user = await scim.post_user("lena", password="hunter2-a", PassWord="hunter2-b")
    patched = await scim.patch(
        f"Users/{user['id']}",
        {"op": "Replace", "path": f"{CORE_USER}:password", "value": "hunter2-c"},
        {"op": "add", "value": {"password": "hunter2-d", f"{CORE_USER}:password": "hunter2-e"}},
        {"op": "replace", "path": 'nosuch[password eq "hunter2-g"]', "value": "hunter2-h"},
        {"op": "add", "PATH": "nosuch.Password", "VALUE": {"value": "hunter2-i"}},
        {"op": "add", "path": ENTERPRISE, "value": {"password": {"value": ["hunter2-j"]}}},
        {"op": "add", "path": "emails", "value": [{"value": "a@x.example", "PASSWORD": "hunter2"}]},
    )
    assert patched.status_code == 200, patched.text
    await scim.http.put(
        f"Users/{user['id']}", json={"userName": "lena", CORE_USER: {"password": "hunter2-f"}}
    )

    def everything(transaction: Connection) -> str:
        stored = [
            list(transaction.execute(select(table))) for table in tables.metadata.sorted_tables
        ]
        return repr(stored)

    assert "hunter2" not in await scim.database.read(everything)
    assert "hunter2" not in (await scim.http.get(f"Users/{user['id']}?attributes=password")).text


async def test_every_write_is_an_event_with_its_body(scim: Scim) -> None:
    user = await scim.post_user("lena", password="x")
    path = f"Users/{user['id']}"
    await scim.patch(path, {"op": "replace", "path": "active", "value": False})
    await scim.http.put(
        path, json={"userName": "lena"}, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    )
    await scim.http.delete(path)
    told = await scim.database.read(
        lambda transaction: events.listing(transaction, events.Filter())
    )
    assert [event.type for event in told] == [
        "scim.user.created",
        "scim.user.patched",
        "scim.user.replaced",
        "scim.user.deleted",
    ]
    assert {event.user_id for event in told} == {user["id"]}
    assert told[0].body == b'{"schemas":["%s"],"userName":"lena"}' % CORE_USER.encode()
    assert told[2].traceparent == f"00-{'a' * 32}-{'b' * 16}-01"


async def test_strict_profile_refuses_what_the_rfc_does_not_know(strict: Scim) -> None:
    good = {"schemas": [CORE_USER], "userName": "lena"}
    assert (await strict.http.post("Users", json=good)).status_code == 201
    for wrong in (
        {"shoeSize": 42},
        {"active": "true"},
        {"department": "x"},
        {"schemas": []},
        {"schemas": [CORE_USER, "urn:x:y"]},
        {"emails": {"value": "a@x.example"}},
        {"emails": [{"value": "a", "primary": True}, {"value": "b", "primary": True}]},
        {"emails": [{"value": "a", "colour": "red"}]},
    ):
        answer = await strict.http.post("Users", json={**good, "userName": "mira", **wrong})
        assert answer.status_code == 400, wrong
        assert answer.json()["scimType"] == "invalidValue"


@pytest.mark.parametrize("schemas", [5, True, {}, PATCH_OP, None, [], [5]])
async def test_strict_profile_refuses_a_patch_without_its_schema(
    strict: Scim, schemas: object
) -> None:
    user = await strict.post_user("lena")
    body = {"schemas": schemas, "Operations": [{"op": "remove", "path": "title"}]}
    answer = await strict.http.patch(f"Users/{user['id']}", json=body)
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidSyntax")


async def test_stored_resource_has_canonical_names(embedded: Scim) -> None:
    user = await embedded.post_user(
        "lena",
        NAME={"GIVENNAME": "Lena"},
        **{"name.familyName": "Holt", "urn:scim:schemas:core:1.0": {"TITLE": "Clerk"}},
    )
    stored = await embedded.database.read(lambda transaction: people.get(transaction, user["id"]))
    assert stored is not None
    assert stored.resource == {
        "userName": "lena",
        "active": True,
        "name": {"givenName": "Lena", "familyName": "Holt"},
        "title": "Clerk",
    }


@pytest.mark.parametrize("digits", ["123456789012345678901234567890", "9007199254740993.5"])
async def test_a_number_that_would_lose_digits_is_no_text(embedded: Scim, digits: str) -> None:
    for name in ("userName", "externalId"):
        body = f'{{"userName": "number", "{name}": {digits}}}'
        answer = await embedded.http.post("Users", content=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["scimType"] == "invalidValue"
    body = '{"userName": "number", "externalId": 9007199254740993}'
    answer = await embedded.http.post("Users", content=body)
    assert answer.json()["externalId"] == "9007199254740993"
