"""Groups over HTTP: members as a set, checked before anything is taken away, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.scim.client import Scim, opened, organization


@pytest.fixture
async def crew(scim: Scim) -> tuple[str, list[str]]:
    """A group and five users, of whom the first two are in it."""
    users = [(await scim.post_user(f"user-{number}"))["id"] for number in range(5)]
    group = await scim.post_group("Field crew", *users[:2])
    return group["id"], users


def add(*ids: str) -> dict[str, object]:
    return {"op": "add", "path": "members", "value": [{"value": each} for each in ids]}


async def test_group_is_answered_with_its_members(scim: Scim) -> None:
    user = await scim.post_user("lena")
    group = await scim.post_group("Field crew", user["id"], externalId="g-1")
    place = f"http://scim.test/scim/v2/hoekstra/Users/{user['id']}"
    assert group["members"] == [{"value": user["id"], "$ref": place, "type": "User"}]
    assert await scim.get(f"Groups/{group['id']}") == group
    shown = (await scim.get(f"Users/{user['id']}"))["groups"]
    assert [(entry["value"], entry["display"]) for entry in shown] == [(group["id"], "Field crew")]


async def test_patch_answers_204_and_with_a_body_only_where_attributes_are_asked(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    answer = await scim.patch(f"Groups/{group}", add(users[2]))
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["etag"] == 'W/"2"'
    answer = await scim.patch(f"Groups/{group}?attributes=members.value", add(users[3]))
    assert answer.status_code == 200
    assert answer.json()["members"] == [{"value": each} for each in sorted(users[:4])]


async def test_adding_a_member_again_changes_nothing(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    answer = await scim.patch(f"Groups/{group}", add(users[0], users[0]))
    assert answer.headers["etag"] == 'W/"1"'
    assert await scim.members(group) == set(users[:2])


async def test_replace_sets_exactly_these_members(scim: Scim, crew: tuple[str, list[str]]) -> None:
    group, users = crew
    operation = {**add(users[1], users[4]), "op": "replace"}
    assert (await scim.patch(f"Groups/{group}", operation)).status_code == 204
    assert await scim.members(group) == {users[1], users[4]}
    operation = {"op": "replace", "path": "members", "value": []}
    assert (await scim.patch(f"Groups/{group}", operation)).status_code == 204
    assert await scim.members(group) == set()


async def test_put_without_members_leaves_them_and_an_empty_list_empties(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    answer = await scim.http.put(f"Groups/{group}", json={"displayName": "New name"})
    assert answer.status_code == 200
    assert await scim.members(group) == set(users[:2])
    body = {"displayName": "New name", "members": [{"value": users[2], "display": None}]}
    assert (await scim.http.put(f"Groups/{group}", json=body)).status_code == 200
    assert await scim.members(group) == {users[2]}
    body = {"displayName": "New name", "members": []}
    assert (await scim.http.put(f"Groups/{group}", json=body)).status_code == 200
    assert await scim.members(group) == set()


async def test_unknown_member_is_refused_before_anyone_is_removed(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    deleted = users[4]
    await scim.http.delete(f"Users/{deleted}")
    for stranger in (deleted, "no-such-id", group):
        for answer in (
            await scim.patch(f"Groups/{group}", {**add(users[2], stranger), "op": "replace"}),
            await scim.patch(f"Groups/{group}", {"op": "remove", "path": "members"}, add(stranger)),
            await scim.http.put(
                f"Groups/{group}", json={"displayName": "X", "members": [{"value": stranger}]}
            ),
            await scim.http.post(
                "Groups", json={"displayName": "Another", "members": [{"value": stranger}]}
            ),
        ):
            assert answer.status_code == 400
            assert answer.json()["scimType"] == "invalidValue"
            assert stranger in answer.json()["detail"]
    assert await scim.members(group) == set(users[:2])
    assert (await scim.get("Groups"))["totalResults"] == 1


async def test_removing_who_is_not_in_it_is_no_error(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    for stranger in (users[4], "no-such-id"):
        operation = {"op": "remove", "path": f'members[value eq "{stranger}"]'}
        assert (await scim.patch(f"Groups/{group}", operation)).status_code == 204
    assert await scim.members(group) == set(users[:2])


@pytest.mark.parametrize("value", [None, [None], {}, [{}], [{"value": None}], [{"value": ""}]])
async def test_who_names_nobody_to_be_removed_removes_nobody(
    scim: Scim, crew: tuple[str, list[str]], value: object
) -> None:
    group, users = crew
    operation = {"op": "Remove", "path": "members", "value": value}
    answer = await scim.patch(f"Groups/{group}", operation)
    assert answer.status_code == 400
    assert answer.json()["scimType"] == "invalidValue"
    assert await scim.members(group) == set(users[:2])


async def test_a_group_is_emptied_by_a_removal_without_a_value(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, _ = crew
    answer = await scim.patch(f"Groups/{group}", {"op": "remove", "path": "members"})
    assert answer.status_code == 204
    assert await scim.members(group) == set()


async def test_a_name_of_spaces_is_no_name(scim: Scim, crew: tuple[str, list[str]]) -> None:
    group, users = crew
    assert (await scim.http.post("Groups", json={"displayName": "  "})).status_code == 400
    for path, name in ((f"Groups/{group}", "displayName"), (f"Users/{users[0]}", "userName")):
        before = await scim.get(path)
        for operation in (
            {"op": "replace", "path": name, "value": " \t"},
            {"op": "replace", "value": {name: "  "}},
        ):
            answer = await scim.patch(path, operation)
            assert answer.status_code == 400
            assert answer.json()["scimType"] == "invalidValue"
        assert await scim.get(path) == before


async def test_concurrent_patches_lose_no_member(scim: Scim, crew: tuple[str, list[str]]) -> None:
    group, users = crew
    await asyncio.gather(
        *(scim.patch(f"Groups/{group}", add(each)) for each in users[2:]),
        scim.patch(f"Groups/{group}", {"op": "remove", "path": f'members[value eq "{users[0]}"]'}),
    )
    assert await scim.members(group) == set(users[1:])


async def test_display_name_is_unique_whatever_its_letter_case(scim: Scim) -> None:
    await scim.post_group("Field Crew")
    other = await scim.post_group("Other")
    rename = {"op": "replace", "path": "displayName", "value": "field crew"}
    for answer in (
        await scim.http.post("Groups", json={"displayName": "FIELD CREW"}),
        await scim.patch(f"Groups/{other['id']}", rename),
    ):
        assert answer.status_code == 409
        assert answer.json()["scimType"] == "uniqueness"
    recased = {"op": "replace", "path": "displayName", "value": "OTHER"}
    assert (await scim.patch(f"Groups/{other['id']}", recased)).status_code == 204


async def test_many_at_once_take_a_display_name_once(scim: Scim) -> None:
    answers = await asyncio.gather(
        *(scim.http.post("Groups", json={"displayName": "Field crew"}) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5


async def test_deleted_group_leaves_its_members_behind(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    assert (await scim.http.delete(f"Groups/{group}")).status_code == 204
    assert (await scim.http.get(f"Groups/{group}")).status_code == 404
    assert "groups" not in await scim.get(f"Users/{users[0]}")


async def test_deleted_user_leaves_its_groups(scim: Scim, crew: tuple[str, list[str]]) -> None:
    group, users = crew
    await scim.http.delete(f"Users/{users[0]}")
    assert await scim.members(group) == {users[1]}


async def test_groups_and_users_are_found_by_membership(
    scim: Scim, crew: tuple[str, list[str]]
) -> None:
    group, users = crew
    other = await scim.post_group("Others", users[4])
    for wanted, names in (
        (f'members.value eq "{users[0]}"', ["Field crew"]),
        (f'members[value eq "{users[0]}"]', ["Field crew"]),
        (f'id eq "{group}" and members eq "{users[4]}"', []),
        (f'members.value ne "{users[0]}"', ["Others"]),
        ("members pr", ["Field crew", "Others"]),
        ('displayName sw "field"', ["Field crew"]),
    ):
        found = await scim.get("Groups", filter=wanted, excludedAttributes="members")
        assert sorted(each["displayName"] for each in found["Resources"]) == names, wanted
        assert all("members" not in each for each in found["Resources"])
    assert await scim.names(f'groups.value eq "{group}"') == ["user-0", "user-1"]
    assert await scim.names('groups.display eq "OTHERS"') == ["user-4"]
    assert await scim.names("not (groups pr)") == ["user-2", "user-3"]
    assert other["id"] != group


@pytest.fixture
async def neighbours(database_url: str) -> AsyncIterator[list[Scim]]:
    names = ("hoekstra", "neighbour")
    async with opened(database_url, *(organization(name) for name in names)) as clients:
        yield clients


async def test_organizations_neither_see_nor_change_each_other(neighbours: list[Scim]) -> None:
    ours, theirs = neighbours
    user, group = await ours.post_user("lena"), await ours.post_group("Field crew")
    mine = await theirs.post_group("Field crew")
    for answer in (
        await theirs.http.get(f"Users/{user['id']}"),
        await theirs.http.put(f"Users/{user['id']}", json={"userName": "x"}),
        await theirs.patch(f"Users/{user['id']}", {"op": "add", "path": "title", "value": "x"}),
        await theirs.http.delete(f"Users/{user['id']}"),
        await theirs.http.get(f"Groups/{group['id']}"),
        await theirs.http.delete(f"Groups/{group['id']}"),
        await theirs.patch(f"Groups/{group['id']}", add(user["id"])),
    ):
        assert answer.status_code == 404
    assert (await theirs.patch(f"Groups/{mine['id']}", add(user["id"]))).status_code == 400
    assert await theirs.names("id pr") == []
    assert await theirs.names(f'id eq "{user["id"]}"') == []
    foreign = f"http://scim.test/scim/v2/hoekstra/Users/{user['id']}"
    assert (await theirs.http.get(foreign)).status_code == 401
