"""RFC 9865: walks by cursor lose nothing, repeat nothing, and cannot be forged or borrowed."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from scim.cursors import TIMEOUT_SECONDS, Cursor, Cursors
from scim.errors import ScimError
from service.directory import tables
from service.directory.pages import Key, Position, Walk
from tests.consumers.support import SetClock
from tests.scim.client import PEPPER, Scim, opened, organization
from tests.scim.declared import STAFF, STAFF_SCHEMA, redeclared, schemas, with_attributes

Page = dict[str, Any]


def resource(number: int) -> dict[str, Any]:
    """Titles that collide, differ in letter case or are absent; addresses that some lack."""
    made: dict[str, Any] = {"userName": f"user-{number:05}", "active": number % 3 > 0}
    if number % 5:
        made["title"] = ["Chief", "chief", "Äbtissin", "Zoë", "", "x" * 400][number % 6]
    if number % 4:
        made["emails"] = [
            {"value": f"{number * 7 % 50}@a.example"},
            {"value": f"{number * 3 % 50}@b.example", "primary": number % 2 == 0},
        ]
    return made


async def fill(scim: Scim, numbers: range) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    rows: list[dict[str, Any]] = []
    emails: list[dict[str, Any]] = []
    for number in numbers:
        made = resource(number)
        user_id = f"01980000-{number:04x}-7000-8000-{number * 7919 % 65536:012x}"
        emails += [
            {"user_id": user_id, "value_key": value, "organization": scim.organization}
            for value in {entry["value"] for entry in made.get("emails", ())}
        ]
        rows.append(
            {
                "id": user_id,
                "organization": scim.organization,
                "resource": made,
                "user_name_key": made["userName"],
                "active": made["active"],
                "state": "pending",
                "version": 1,
                "created_at": now + timedelta(seconds=number // 3),
                "modified_at": now,
            }
        )

    def insert(transaction: Connection) -> None:
        transaction.execute(tables.users.insert(), rows)
        if emails:
            transaction.execute(tables.user_emails.insert(), emails)

    await scim.database.transact(insert)


def names(page: Page) -> list[str]:
    return [each.get("userName", each.get("displayName")) for each in page["Resources"]]


async def walked(scim: Scim, path: str = "Users", **query: Any) -> list[Page]:
    """Every page of a walk, from the first to the last."""
    pages = [await scim.get(path, cursor="", **query)]
    while "nextCursor" in pages[-1]:
        pages.append(await scim.get(path, cursor=pages[-1]["nextCursor"], **query))
    return pages


def together(pages: list[Page]) -> list[str]:
    return [name for page in pages for name in names(page)]


def error(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("scimType")


SORTS: list[dict[str, str]] = [
    {"sortBy": "userName"},
    {"sortBy": "title"},
    {"sortBy": "active"},
    {"sortBy": "emails"},
    {"sortBy": "emails.primary"},
    {"sortBy": "meta.created"},
    {"sortBy": "displayName"},
    {"sortBy": "externalId"},
    {"sortBy": "urn:auth0-provisioner:scim:1.0:Provisioning:lastAppliedAt"},
    {"sortBy": "emails.value", "filter": 'title eq "CHIEF"'},
    {"sortBy": "userName", "filter": 'emails.value eq "7@a.example"'},
]
QUERIES: list[dict[str, str]] = [
    *SORTS,
    *({**sorting, "sortOrder": "descending"} for sorting in SORTS),
    {},
    {"filter": 'title eq "CHIEF" or active eq false'},
    {"filter": 'emails[value eq "7@a.example"] and active eq true'},
    {"filter": 'userName eq "user-00011"'},
]


# Walking


@pytest.fixture
async def crowd(scim: Scim) -> Scim:
    await fill(scim, range(47))
    return scim


async def test_a_walk_shows_what_index_pages_show_in_the_same_order(crowd: Scim) -> None:
    for query in QUERIES:
        whole = await crowd.get("Users", count=100, **query)
        pages = await walked(crowd, count=10, **query)
        assert together(pages) == names(whole), query
        assert len(set(names(whole))) == whole["totalResults"] == whole["itemsPerPage"]
        assert {page["totalResults"] for page in pages} == {whole["totalResults"]}
        assert [page["itemsPerPage"] for page in pages] == [len(names(page)) for page in pages]
        by_index: list[str] = []
        for start in range(1, 48, 10):
            by_index += names(await crowd.get("Users", startIndex=start, count=10, **query))
        assert by_index == names(whole), query


async def test_descending_is_the_exact_reverse_of_ascending(crowd: Scim) -> None:
    for sorting in SORTS:
        up = await walked(crowd, count=10, **sorting)
        down = await walked(crowd, count=10, sortOrder="descending", **sorting)
        assert together(down) == together(up)[::-1], sorting


async def test_a_walk_back_shows_the_pages_of_the_way_there(crowd: Scim) -> None:
    for query in QUERIES:
        there = await walked(crowd, count=10, **query)
        assert "previousCursor" not in there[0]
        back = [there[-1]]
        while "previousCursor" in back[-1]:
            cursor = back[-1]["previousCursor"]
            back.append(await crowd.get("Users", cursor=cursor, count=10, **query))
        assert [names(page) for page in back] == [names(page) for page in reversed(there)], query
        if len(there) > 1:
            forth = await crowd.get("Users", cursor=back[-1]["nextCursor"], count=10, **query)
            assert names(forth) == names(there[1])
            assert forth["totalResults"] == there[0]["totalResults"]


async def test_sorted_walks_are_the_same_on_both_databases(
    tmp_path: Path, postgres_migrated: str
) -> None:
    orders: list[list[list[str]]] = []
    for url in (f"sqlite:///{tmp_path / 'other.db'}", postgres_migrated):
        async with opened(url, organization()) as (scim,):
            await fill(scim, range(47))
            # Letters beyond ASCII, as titles have, are folded by Postgres alone.
            alike = [query for query in QUERIES if query.get("sortBy") != "title"]
            orders.append([together(await walked(scim, count=9, **query)) for query in alike])
    assert orders[0] == orders[1]


async def test_a_walk_over_2000_users_loses_and_repeats_nobody_while_others_come_and_go(
    scim: Scim,
) -> None:
    chance = random.Random(20261122)
    await fill(scim, range(0, 4000, 2))
    passers_by = set(chance.sample(range(0, 4000, 2), 400))
    leaving, coming = sorted(passers_by, key=lambda _: chance.random()), list(range(1, 4000, 2))
    for sorting in ({}, {"sortBy": "title"}, {"sortBy": "userName", "sortOrder": "descending"}):
        pages = [await scim.get("Users", cursor="", count=97, **sorting)]
        while "nextCursor" in pages[-1]:
            gone = [f"user-{leaving.pop():05}" for _ in range(6) if leaving]
            # Whoever ended the page goes as well, so that no walk stands on a row.
            last = names(pages[-1])[-1]
            if int(last[-5:]) in passers_by:
                gone.append(last)

            def leave(transaction: Connection, gone: list[str] = gone) -> None:
                users = tables.users
                transaction.execute(users.delete().where(users.c.user_name_key.in_(gone)))

            await scim.database.transact(leave)
            number = coming.pop(chance.randrange(len(coming)))
            await fill(scim, range(number, number + 1))
            cursor = pages[-1]["nextCursor"]
            pages.append(await scim.get("Users", cursor=cursor, count=97, **sorting))
        seen = together(pages)
        assert len(seen) == len(set(seen))
        stayed = {f"user-{number:05}" for number in range(0, 4000, 2) if number not in passers_by}
        assert stayed <= set(seen)
        assert all(len(names(page)) == 97 for page in pages[:-1])
        assert {page["totalResults"] for page in pages} == {pages[0]["totalResults"]}


async def test_where_everyone_has_gone_the_walk_ends_and_leads_back(crowd: Scim) -> None:
    first = await crowd.get("Users", cursor="", count=40)

    def leave(transaction: Connection) -> None:
        users = tables.users
        transaction.execute(users.delete().where(users.c.user_name_key.not_in(names(first)[:5])))

    await crowd.database.transact(leave)
    beyond = await crowd.get("Users", cursor=first["nextCursor"], count=40)
    assert (names(beyond), "nextCursor" in beyond) == ([], False)
    back = await crowd.get("Users", cursor=beyond["previousCursor"], count=40)
    assert names(back) == names(first)[:5]
    assert "previousCursor" not in back


async def test_a_walk_goes_by_what_an_organization_has_declared(database_url: str) -> None:
    declared = organization(scim_schemas=schemas(STAFF_SCHEMA))
    async with opened(database_url, declared) as (scim,):
        for number in range(12):
            staff: dict[str, Any] = {"rating": number % 5 / 8, "badgeNumber": 10 - number}
            staff |= {"since": f"2026-02-{number % 3 + 1:02}T00:00:00Z", "floors": [number % 4]}
            await scim.post_user(f"user-{number}", **{STAFF: staff} if number % 6 else {})
        for name in ("rating", "badgeNumber", "since", "floors", "code"):
            for order in ("ascending", "descending"):
                query = {"sortBy": f"{STAFF}:{name}", "sortOrder": order}
                there = await walked(scim, count=4, **query)
                assert together(there) == names(await scim.get("Users", **query)), query
                back = await scim.get("Users", cursor=there[-1]["previousCursor"], count=4, **query)
                assert names(back) == names(there[-2]), query
        query = {"sortBy": f"{STAFF}:rating", "count": 4}
        cursor = (await scim.get("Users", cursor="", **query))["nextCursor"]
        changed = with_attributes(STAFF_SCHEMA, {"name": "rating", "type": "string"})
        after = await redeclared(scim, changed)
        answer = await after.http.get("Users", params={**query, "cursor": cursor})
        assert error(answer) == (400, "invalidCursor")
        await after.http.aclose()


# Its parameters


async def test_the_last_page_has_no_next_cursor_even_if_it_is_full(crowd: Scim) -> None:
    await fill(crowd, range(47, 50))
    pages = await walked(crowd, count=25)
    assert [page["itemsPerPage"] for page in pages] == [25, 25]
    (only,) = await walked(crowd, count=50)
    assert "previousCursor" not in only
    assert "startIndex" not in only


async def test_no_count_is_the_default_page_and_too_large_a_count_the_largest(
    embedded: Scim,
) -> None:
    await fill(embedded, range(1001))
    configuration = (await embedded.get("ServiceProviderConfig"))["pagination"]
    page = await embedded.get("Users", cursor="", attributes="userName")
    assert page["itemsPerPage"] == configuration["defaultPageSize"]
    page = await embedded.get("Users", cursor="", count=5000, attributes="userName")
    assert page["itemsPerPage"] == configuration["maxPageSize"]
    query = {"cursor": page["nextCursor"], "count": 5000, "attributes": "userName"}
    assert (await embedded.get("Users", **query))["itemsPerPage"] == 1


async def test_discovery_announces_both_methods_and_index_by_default(embedded: Scim) -> None:
    await fill(embedded, range(101))
    told = (await embedded.get("ServiceProviderConfig"))["pagination"]
    assert told == {
        "cursor": True,
        "index": True,
        "defaultPaginationMethod": "index",
        "defaultPageSize": 100,
        "maxPageSize": 1000,
        "cursorTimeout": TIMEOUT_SECONDS,
    }
    by_default = await embedded.get("Users")
    assert "startIndex" in by_default
    assert "nextCursor" not in by_default


@pytest.mark.parametrize("count", [0, -1, -(10**20)])
async def test_a_count_of_none_tells_the_total_alone(crowd: Scim, count: int) -> None:
    page = await crowd.get("Users", cursor="", count=count, filter="active eq true")
    assert (page["totalResults"], page["itemsPerPage"], page["Resources"]) == (31, 0, [])
    assert not {"nextCursor", "previousCursor"} & page.keys()


async def test_a_cursor_without_value_asks_for_the_first_page(crowd: Scim) -> None:
    answer = await crowd.http.get("Users?cursor&count=10")
    assert names(answer.json()) == [f"user-{number:05}" for number in range(10)]
    assert set(answer.json()["nextCursor"]) <= set(string.ascii_letters + string.digits + "-._~")


async def test_a_walk_by_post_goes_on_by_get(crowd: Scim) -> None:
    body = {"count": 10, "sortBy": "userName", "cursor": "", "attributes": ["userName"]}
    first = (await crowd.http.post("Users/.search", json=body)).json()
    body["cursor"] = first["nextCursor"]
    second = (await crowd.http.post("Users/.search", json=body)).json()
    query = {**body, "attributes": "userName"}
    assert (await crowd.http.get("Users", params=query)).json()["Resources"] == second["Resources"]
    by_index = await crowd.http.post("Users/.search", json={"cursor": None, "startIndex": 2})
    assert by_index.json()["startIndex"] == 2


async def test_a_start_index_beside_a_cursor_is_refused(crowd: Scim) -> None:
    answer = await crowd.http.get("Users?cursor=&startIndex=1")
    assert error(answer) == (400, "invalidValue")


# At the root


@pytest.fixture
async def mixed(crowd: Scim) -> Scim:
    for number in range(13):
        await crowd.post_group(f"group {number:02}")
    return crowd


@pytest.mark.parametrize("count", [7, 12, 30, 47, 59])
async def test_a_walk_at_the_root_goes_through_users_then_groups_and_back(
    mixed: Scim, count: int
) -> None:
    there = await walked(mixed, "", count=count)
    expected = names(await mixed.get("", count=100))
    assert len(expected) == 60
    assert together(there) == expected
    assert {page["totalResults"] for page in there} == {60}
    assert all(len(names(page)) == count for page in there[:-1])
    back = [there[-1]]
    while "previousCursor" in back[-1]:
        back.append(await mixed.get("", cursor=back[-1]["previousCursor"], count=count))
    assert [names(page) for page in back] == [names(page) for page in reversed(there)]


async def test_a_walk_at_the_root_finds_by_what_only_one_type_has(mixed: Scim) -> None:
    assert len(together(await walked(mixed, "", count=10, filter="userName pr"))) == 47
    of_groups = await walked(mixed, "", count=10, filter='meta.resourceType eq "Group"')
    assert [page["itemsPerPage"] for page in of_groups] == [10, 3]
    body = {"filter": 'nosuch eq "x"', "cursor": ""}
    assert error(await mixed.http.post(".search", json=body)) == (400, "invalidFilter")
    counted = await mixed.http.post(".search", json={"cursor": "", "count": 0})
    assert counted.json()["totalResults"] == 60


# What is refused


@pytest.mark.parametrize(
    "changed",
    [
        {"filter": "active eq false"},
        {"sortBy": "title"},
        {"sortOrder": "descending"},
        {"attributes": "userName"},
        {"excludedAttributes": "emails"},
    ],
    ids=str,
)
async def test_a_cursor_of_another_query_is_refused(crowd: Scim, changed: dict[str, str]) -> None:
    query = {"filter": "active eq true", "sortBy": "userName", "count": 5}
    cursor = (await crowd.get("Users", cursor="", **query))["nextCursor"]
    answer = await crowd.http.get("Users", params={**query, "cursor": cursor, **changed})
    assert error(answer) == (400, "invalidCursor")


@pytest.mark.parametrize("count", [{"count": 6}, {"count": 0}, {"count": "many"}, {}], ids=str)
async def test_another_count_than_the_first_pages_is_refused(
    crowd: Scim, count: dict[str, Any]
) -> None:
    cursor = (await crowd.get("Users", cursor="", count=5))["nextCursor"]
    answer = await crowd.http.get("Users", params={"cursor": cursor, **count})
    assert error(answer) == (400, "invalidCount")


async def test_a_cursor_of_another_type_or_organization_is_refused_alike(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'directory.db'}"
    async with opened(url, organization(), organization("neighbour")) as (ours, theirs):
        for scim in (ours, theirs):
            for number in range(3):
                await scim.post_user(f"{scim.organization}-{number}")
        cursor = (await ours.get("Users", cursor="", count=1))["nextCursor"]
        answers = [
            await theirs.http.get(f"Users?count=1&cursor={cursor}"),
            await ours.http.get(f"Groups?count=1&cursor={cursor}"),
            await ours.http.get(f"?count=1&cursor={cursor}"),
            await ours.http.get("Users?count=1&cursor=forged"),
        ]
    assert {error(answer) for answer in answers} == {(400, "invalidCursor")}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("cursor", ["A", "=", "x.y~z", "é", "A" * 41, "A" * 99, "\x00", " ", "%"])
async def test_what_is_no_cursor_is_refused(embedded: Scim, cursor: str) -> None:
    answer = await embedded.http.get("Users", params={"cursor": cursor})
    assert error(answer) == (400, "invalidCursor")


@pytest.mark.parametrize("cursor", [7, True, ["x"], {"a": 1}])
async def test_a_cursor_that_is_no_string_is_refused(embedded: Scim, cursor: object) -> None:
    answer = await embedded.http.post("Users/.search", json={"cursor": cursor})
    assert error(answer) == (400, "invalidCursor")


@pytest.fixture
async def walk_in_time(tmp_path: Path) -> AsyncIterator[tuple[Scim, SetClock]]:
    clock = SetClock()
    url = f"sqlite:///{tmp_path / 'directory.db'}"
    async with opened(url, organization(), clock=clock) as (scim,):
        await fill(scim, range(9))
        yield scim, clock


async def test_a_cursor_holds_for_its_timeout_between_pages_and_no_longer(
    walk_in_time: tuple[Scim, SetClock],
) -> None:
    scim, clock = walk_in_time
    page = await scim.get("Users", cursor="", count=2)
    for _ in range(3):  # each page starts the time anew
        await clock.sleep(TIMEOUT_SECONDS)
        page = await scim.get("Users", cursor=page["nextCursor"], count=2)
    await clock.sleep(TIMEOUT_SECONDS + 1)
    answer = await scim.http.get("Users", params={"cursor": page["nextCursor"], "count": 2})
    assert error(answer) == (400, "expiredCursor")


# The seal

KEYS: st.SearchStrategy[Key | None] = st.one_of(
    st.none(),
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.booleans(),
    st.integers(min_value=-(2**53), max_value=2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)),
)
KINDS = st.sampled_from([None, "string", "boolean", "number", "instant"])
cursors = st.builds(
    Cursor,
    resource_type=st.sampled_from(["User", "Group"]),
    walk=st.builds(
        Walk,
        position=st.none() | st.builds(Position, id=st.uuids().map(str), key=KEYS, kind=KINDS),
        backward=st.booleans(),
    ),
    count=st.integers(min_value=1, max_value=1000),
    total=st.integers(min_value=0, max_value=10**9),
)


@given(cursor=cursors, query=st.binary(max_size=20))
def test_a_sealed_cursor_opens_as_it_was_and_never_looks_the_same(
    cursor: Cursor, query: bytes
) -> None:
    sealing = Cursors(pepper=PEPPER, clock=SetClock())
    sealed = {sealing.seal(cursor, organization="hoekstra", query=query) for _ in range(3)}
    assert len(sealed) == 3
    for text in sealed:
        assert sealing.open(text, organization="hoekstra", query=query) == cursor


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(cursor=cursors, place=st.integers(min_value=0), letter=st.sampled_from("AZaz09-_"))
def test_a_cursor_with_one_letter_changed_is_refused(
    cursor: Cursor, place: int, letter: str
) -> None:
    sealing = Cursors(pepper=PEPPER, clock=SetClock())
    text = sealing.seal(cursor, organization="hoekstra", query=b"q")
    place %= len(text) - 1  # the last letter may hold bits that say nothing
    if text[place] == letter:
        letter = "b"
    with pytest.raises(ScimError, match="does not belong"):
        sealing.open(text[:place] + letter + text[place + 1 :], organization="hoekstra", query=b"q")


def test_a_cursor_of_another_installation_is_refused() -> None:
    cursor = Cursor(resource_type="User", walk=Walk(), count=1, total=1)
    theirs = Cursors(pepper=b"another", clock=SetClock())
    sealed = theirs.seal(cursor, organization="hoekstra", query=b"")
    with pytest.raises(ScimError, match="does not belong"):
        Cursors(pepper=PEPPER, clock=SetClock()).open(sealed, organization="hoekstra", query=b"")


async def test_walks_side_by_side_do_not_meet(crowd: Scim) -> None:
    walks = await asyncio.gather(*(walked(crowd, count=count) for count in (3, 5, 11)))
    assert len({tuple(together(walk)) for walk in walks}) == 1
