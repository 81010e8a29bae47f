"""Bulk: what its operations are to each other, what is answered of each, and what stands afterwards."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any, TypeVar

import httpx
import pytest
from sqlalchemy import Connection, select

from scim.app import create_app
from scim.bulk_request import LARGEST_BULK, MOST_OPERATIONS
from scim.http import LARGEST_BODY
from service.clock import SystemClock
from service.directory import events, tables
from service.directory.database import Database, Work
from service.directory.events import Event
from service.limiting import Limit
from tests.scim.bulk import entries, group, id_of, operation, send, statuses, user
from tests.scim.client import CORE_USER, ENTERPRISE, PATCH_OP, PEPPER, Scim
from tests.scim.test_protocol import assert_error

T = TypeVar("T")
BASE = "http://scim.test/scim/v2/hoekstra"


def patch(path: str, *operations: dict[str, Any], **others: Any) -> dict[str, Any]:
    return operation("PATCH", path, {"schemas": [PATCH_OP], "Operations": operations}, **others)


async def accepted_events(scim: Scim) -> list[Event]:
    return await scim.database.read(lambda tx: events.listing(tx, events.Filter(), limit=5000))


# What is answered


async def test_each_operation_is_answered_as_its_own_request_would_be(scim: Scim) -> None:
    known = await scim.post_user("known")
    leaver = await scim.post_user("leaver")
    renamed = {"userName": "known", "displayName": "Known", "active": True}
    made, put, patched, deleted = await entries(
        scim,
        user("new", "n1"),
        operation("PUT", f"/Users/{known['id']}", renamed, version='W/"1"'),
        patch(f"/Users/{known['id']}", {"op": "replace", "path": "title", "value": "CEO"}),
        operation("DELETE", f"/Users/{leaver['id']}"),
    )
    new = (await scim.get("Users", filter='userName eq "new"'))["Resources"][0]
    known_at = f"{BASE}/Users/{known['id']}"
    assert made == {
        "location": f"{BASE}/Users/{new['id']}",
        "method": "POST",
        "bulkId": "n1",
        "version": 'W/"1"',
        "status": "201",
    }
    assert put == {"location": known_at, "method": "PUT", "version": 'W/"2"', "status": "200"}
    assert patched == {"location": known_at, "method": "PATCH", "version": 'W/"3"', "status": "200"}
    assert deleted == {
        "location": f"{BASE}/Users/{leaver['id']}",
        "method": "DELETE",
        "status": "204",
    }
    assert (await scim.get(f"Users/{known['id']}"))["title"] == "CEO"
    assert (await scim.http.get(f"Users/{leaver['id']}")).status_code == 404


async def test_group_patch_in_bulk_tells_location_and_version(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    staff = await scim.post_group("Staff")
    add = {"op": "add", "path": "members", "value": [{"value": ann["id"]}]}
    (entry,) = await entries(scim, patch(f"/Groups/{staff['id']}", add))
    assert entry == {
        "location": f"{BASE}/Groups/{staff['id']}",
        "method": "PATCH",
        "version": 'W/"2"',
        "status": "204",
    }
    assert await scim.members(staff["id"]) == {ann["id"]}


async def test_what_fails_is_told_with_its_error_and_stops_nothing(scim: Scim) -> None:
    await scim.post_user("taken")
    taken, nobody, made = await entries(
        scim, user("TAKEN", "a"), operation("DELETE", "/Users/nobody"), user("free", "b")
    )
    assert taken.keys() == {"method", "bulkId", "status", "response"}
    assert taken["status"] == taken["response"]["status"] == "409"
    assert taken["response"]["scimType"] == "uniqueness"
    assert nobody["location"] == f"{BASE}/Users/nobody"
    assert nobody["status"] == nobody["response"]["status"] == "404"
    assert made["status"] == "201"


async def test_version_is_an_if_match(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    path = f"/Users/{ann['id']}"
    title = {"op": "replace", "path": "title", "value": "CEO"}
    assert await statuses(
        scim,
        patch(path, title, version='W/"7"'),
        patch(path, title, version='W/"1"'),
        patch(path, title, version='W/"1"'),
        operation("DELETE", path, version=2),
    ) == ["412", "200", "412", "204"]


async def test_names_methods_and_endpoints_are_read_in_any_letter_case(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    body = {
        "operations": [
            {"Method": "post", "PATH": "/users", "BULKID": "b", "Data": {"userName": "bob"}},
            {"method": "Delete", "path": f"{BASE}/Users/{ann['id']}"},
            {"method": "POST", "path": "Users", "data": {"userName": "without a bulkId"}},
        ]
    }
    answer = await scim.http.post("Bulk", json=body)
    assert [entry["status"] for entry in answer.json()["Operations"]] == ["201", "204", "201"]


async def test_strict_profile_wants_the_schema_and_a_bulk_id(strict: Scim) -> None:
    core: dict[str, Any] = {"schemas": [CORE_USER]}
    answer = await strict.http.post("Bulk", json={"Operations": []})
    assert_error(answer, 400, "invalidSyntax")
    assert await statuses(
        strict,
        user("no bulkId", **core),
        user("ann", "a", **core),
        operation("post", "/Users", {**core, "userName": "bob"}, bulkId="b"),
        operation("POST", "/users", {**core, "userName": "bob"}, bulkId="c"),
    ) == ["400", "201", "400", "404"]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({}, "400"),
        ({"method": "GET", "path": "/Users/1"}, "400"),
        ({"method": "POST", "path": "/Users"}, "400"),
        ({"method": "POST", "path": "/Users", "data": "ann"}, "400"),
        ({"method": "POST", "path": "/Users", "data": {"title": "no name"}}, "400"),
        ({"method": "POST", "path": 7, "data": {}}, "400"),
        ({"method": "POST", "path": "/Bulk", "data": {}}, "404"),
        ({"method": "POST", "path": "/Me", "data": {}}, "404"),
        ({"method": "POST", "path": "", "data": {}}, "404"),
        ({"method": "POST", "path": "/Users/.search", "data": {}}, "404"),
        ({"method": "DELETE", "path": "/Users/a/b"}, "404"),
        ({"method": "DELETE", "path": "/Users"}, "405"),
        ({"method": "PUT", "path": "/Groups", "data": {}}, "405"),
        ({"method": "DELETE", "path": "/Users/1", "version": {}}, "400"),
    ],
)
async def test_a_wrong_operation_is_its_own_error(
    embedded: Scim, wrong: dict[str, Any], status: str
) -> None:
    refused, made = await entries(embedded, wrong, user("ann", "a"))
    assert refused["status"] == refused["response"]["status"] == status
    assert refused["response"]["detail"]
    assert made["status"] == "201"


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b"no json", b'{"Operations": [7]}', b'{"Operations": {}}'],
)
async def test_what_is_no_bulk_is_refused_as_a_whole(embedded: Scim, body: bytes) -> None:
    assert_error(await embedded.http.post("Bulk", content=body), 400, "invalidSyntax")


async def test_bulk_takes_post_alone(embedded: Scim) -> None:
    answer = await embedded.http.get("Bulk")
    assert_error(answer, 405)
    assert answer.headers["allow"] == "POST"


async def test_attributes_of_a_path_are_read_as_a_query(embedded: Scim) -> None:
    staff = await embedded.post_group("Staff")
    rename = {"op": "replace", "path": "displayName", "value": "All staff"}
    (entry,) = await entries(embedded, patch(f"/Groups/{staff['id']}?attributes=id", rename))
    assert entry["status"] == "200"


# Limits


async def test_limits_are_announced_and_enforced(embedded: Scim) -> None:
    announced = (await embedded.get("ServiceProviderConfig"))["bulk"]
    assert announced == {
        "supported": True,
        "maxOperations": MOST_OPERATIONS,
        "maxPayloadSize": LARGEST_BULK,
    }
    too_many = [operation("DELETE", f"/Users/{number}") for number in range(MOST_OPERATIONS + 1)]
    answer = await send(embedded, *too_many)
    assert_error(answer, 413)
    assert str(MOST_OPERATIONS) in answer.json()["detail"]
    assert_error(await embedded.http.post("Bulk", content=b" " * (LARGEST_BULK + 1)), 413)
    assert_error(await embedded.http.post("Users", content=b" " * (LARGEST_BODY + 1)), 413)
    assert await accepted_events(embedded) == []


async def test_a_body_larger_than_that_of_one_request_is_taken(embedded: Scim) -> None:
    note = "x" * (LARGEST_BODY * 6 // 10)
    large, larger = user("ann", "a", title=note), user("bob", "b", title=note * 2)
    assert await statuses(embedded, large, user("cas", "c", title=note)) == ["201", "201"]
    assert await statuses(embedded, larger) == ["413"]


async def test_a_value_nested_too_deep_fails_alone(embedded: Scim) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    assert await statuses(embedded, user("ann", "a", title=deep), user("bob", "b")) == [
        "400",
        "201",
    ]


async def test_each_operation_counts_as_a_request(embedded: Scim) -> None:
    limited = create_app(
        database=embedded.database,
        clock=SystemClock(),
        pepper=PEPPER,
        limit=Limit(rate=0.01, burst=6),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=limited),
        base_url="http://scim.test/hoekstra/",
        headers=dict(embedded.http.headers),
    ) as http:
        answer = await http.post("Bulk", json={"Operations": [user(name) for name in "abcde"]})
        assert [entry["status"] for entry in answer.json()["Operations"]] == ["201"] * 5
        assert (await http.get("Users")).status_code == 200
        assert_error(await http.get("Users"), 429)


# References


async def test_members_created_in_the_same_request_are_referred_to(scim: Scim) -> None:
    ann, bob, staff = await entries(
        scim, user("ann", "a"), user("bob", "b"), group("Staff", "bulkId:a", "bulkId:b")
    )
    assert await scim.members(id_of(staff)) == {id_of(ann), id_of(bob)}


async def test_an_operation_waits_for_those_it_refers_to(scim: Scim) -> None:
    named = {"op": "add", "path": "members", "value": [{"value": "bulkId:late"}]}
    renamed = {"op": "replace", "path": "displayName", "value": "Everyone"}
    patched, again, staff, boss, late = await entries(
        scim,
        patch("/Groups/bulkId:g", named),
        patch("/Groups/bulkId:g", renamed),
        group("Staff", bulk_id="g"),
        user("boss", "boss", **{ENTERPRISE: {"manager": {"value": "bulkId:late"}}}),
        user("late", "late"),
    )
    assert [entry["status"] for entry in (patched, again, staff, boss, late)] == [
        "204",
        "204",
        "201",
        "201",
        "201",
    ]
    assert patched["location"] == staff["location"]
    shown = await scim.get(f"Groups/{id_of(staff)}")
    assert shown["displayName"] == "Everyone"
    assert [member["value"] for member in shown["members"]] == [id_of(late)]
    assert (await scim.get(f"Users/{id_of(boss)}"))[ENTERPRISE]["manager"]["value"] == id_of(late)
    assert (again["version"], patched["version"]) == ('W/"3"', 'W/"2"')


async def test_references_within_paths_and_uris_are_resolved(scim: Scim) -> None:
    remove = {"op": "remove", "path": 'members[value eq "bulkId:a"]'}
    ann, bob, staff, _ = await entries(
        scim,
        user("ann", "a"),
        user("bob", "b", **{ENTERPRISE: {"manager": {"$ref": "../Users/bulkId:a", "value": "x"}}}),
        group("Staff", "bulkId:a", "bulkId:b", bulk_id="g"),
        patch("/Groups/bulkId:g", remove),
    )
    assert await scim.members(id_of(staff)) == {id_of(bob)}
    manager = (await scim.get(f"Users/{id_of(bob)}"))[ENTERPRISE]["manager"]
    assert manager["$ref"].endswith(f"/Users/{id_of(ann)}")


async def test_text_that_only_looks_like_a_reference_is_left_alone(embedded: Scim) -> None:
    (ann,) = await entries(embedded, user("ann", "a", title="see https://x.test/bulkId:none"))
    assert (await embedded.get(f"Users/{id_of(ann)}"))["title"] == "see https://x.test/bulkId:none"


async def test_a_reference_to_nothing_is_refused(scim: Scim) -> None:
    lost, made = await entries(scim, group("Staff", "bulkId:nobody"), user("ann", "a"))
    assert (lost["status"], lost["response"]["scimType"]) == ("400", "invalidValue")
    assert made["status"] == "201"


async def test_what_refers_to_a_failed_operation_fails_too(scim: Scim) -> None:
    await scim.post_user("taken")
    found = await statuses(
        scim,
        group("Staff", "bulkId:a", bulk_id="g"),
        user("taken", "a"),
        operation("DELETE", "/Groups/bulkId:g"),
    )
    assert found == ["409", "409", "409"]
    assert (await scim.get("Groups"))["totalResults"] == 0


async def test_a_bulk_id_used_twice_is_refused_the_second_time(scim: Scim) -> None:
    first, second, staff = await entries(
        scim, user("ann", "a"), user("bob", "a"), group("Staff", "bulkId:a")
    )
    assert (first["status"], second["status"]) == ("201", "400")
    assert await scim.members(id_of(staff)) == {id_of(first)}


# Circles


async def test_users_who_manage_each_other_are_created(scim: Scim) -> None:
    def managed(by: str) -> dict[str, Any]:
        return {ENTERPRISE: {"department": "Sales", "manager": {"value": f"bulkId:{by}"}}}

    made = await entries(
        scim,
        user("ann", "a", **managed("c")),
        user("bob", "b", **managed("a")),
        user("cas", "c", **managed("b")),
        user("own boss", "d", **managed("d")),
    )
    assert [entry["status"] for entry in made] == ["201"] * 4
    ann, bob, cas, own = (id_of(entry) for entry in made)
    for whom, manager in ((ann, cas), (bob, ann), (cas, bob), (own, own)):
        shown = (await scim.get(f"Users/{whom}"))[ENTERPRISE]
        assert (shown["manager"]["value"], shown["department"]) == (manager, "Sales")
    assert made[0]["version"] == 'W/"2"'
    assert made[0] | {"method": "POST", "bulkId": "a"} == made[0]


async def test_a_group_and_users_that_name_it_are_no_deadlock(scim: Scim) -> None:
    ann, staff = await entries(
        scim,
        user("ann", "a", groups=[{"value": "bulkId:g"}]),
        group("Staff", "bulkId:a", bulk_id="g"),
    )
    assert (ann["status"], staff["status"]) == ("201", "201")
    assert await scim.members(id_of(staff)) == {id_of(ann)}


async def test_a_circle_with_a_failure_in_it_is_told(scim: Scim) -> None:
    await scim.post_user("taken")
    ann, taken = await entries(
        scim,
        user("ann", "a", **{ENTERPRISE: {"manager": {"value": "bulkId:b"}}}),
        user("taken", "b", **{ENTERPRISE: {"manager": {"value": "bulkId:a"}}}),
    )
    assert (ann["status"], taken["status"]) == ("409", "409")
    assert ann["response"]["detail"].startswith("Created, but")
    assert (await scim.get(f"Users/{id_of(ann)}"))["userName"] == "ann"


# failOnErrors


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_nothing_is_carried_out_after_as_many_errors_as_said(scim: Scim, limit: int) -> None:
    await scim.post_user("taken")
    operations = [user(name) for name in ("a", "taken", "b", "taken", "c", "taken", "d")]
    found = await statuses(scim, *operations, failOnErrors=limit)
    assert found == (["201", "409"] * 3)[: 2 * limit]
    assert await scim.names("userName pr") == sorted(["taken", *"abc"[:limit]])


@pytest.mark.parametrize("limit", [0, -1, True, "many", 1.5, []])
async def test_fail_on_errors_is_a_number_of_errors(embedded: Scim, limit: object) -> None:
    assert_error(await send(embedded, user("ann"), failOnErrors=limit), 400, "invalidValue")
    assert await embedded.names("userName pr") == []


async def test_a_circle_that_is_cut_off_is_told(embedded: Scim) -> None:
    ann, wrong, bob = await entries(
        embedded,
        user("ann", "a", **{ENTERPRISE: {"manager": {"value": "bulkId:b"}}}),
        user("", "b", **{ENTERPRISE: {"manager": {"value": "bulkId:a"}}}),
        user("bob", "c"),
        failOnErrors=1,
    )
    # What is in no circle comes first.
    assert [entry["status"] for entry in (ann, wrong, bob)] == ["424", "400", "201"]
    assert await embedded.names("userName pr") == ["ann", "bob"]


# The order as sent


async def test_of_two_that_take_the_same_name_the_first_wins(scim: Scim) -> None:
    for number in range(10):
        first, second = await statuses(scim, user(f"Same{number}"), user(f"same{number}"))
        assert (first, second) == ("201", "409")


async def test_a_name_given_up_is_free_for_the_next(scim: Scim) -> None:
    for number in range(10):
        old = await scim.post_user(f"name{number}")
        found = await statuses(
            scim,
            operation("PUT", f"/Users/{old['id']}", {"userName": f"former{number}"}),
            user(f"name{number}", "a"),
            operation("DELETE", "/Users/bulkId:a"),
            user(f"NAME{number}", "b"),
        )
        assert found == ["200", "201", "204", "201"]


async def test_changes_of_one_resource_follow_one_another(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    titles = [
        patch(f"/Users/{ann['id']}", {"op": "replace", "path": "title", "value": str(number)})
        for number in range(20)
    ]
    made = await entries(scim, *titles)
    assert [entry["version"] for entry in made] == [f'W/"{number}"' for number in range(2, 22)]
    assert (await scim.get(f"Users/{ann['id']}"))["title"] == "19"


async def test_deletions_repeated_within_a_request_find_nothing(scim: Scim) -> None:
    ann, bob = await scim.post_user("ann"), await scim.post_user("bob")
    paths = [f"/Users/{known['id']}" for known in (ann, bob, ann)]
    found = await statuses(scim, *(operation("DELETE", path) for path in paths))
    assert found == ["204", "204", "404"]


# What stands


async def test_each_operation_is_an_event_of_its_own_and_they_belong_together(scim: Scim) -> None:
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    ann, _, staff = await entries(
        scim, user("ann", "a"), user("ann", "b"), group("Staff", "bulkId:a"), headers=headers
    )
    created, grouped = await accepted_events(scim)
    assert (created.type, grouped.type) == ("scim.user.created", "scim.group.created")
    assert created.user_id == id_of(ann)
    assert created.correlation_id == grouped.correlation_id
    assert created.traceparent == grouped.traceparent == headers["traceparent"]
    assert id_of(ann).encode() in (grouped.body or b"")
    assert staff["status"] == "201"


async def test_passwords_are_dropped_before_anything_is_stored(scim: Scim) -> None:
    secret = "Tr0ub4dor&3 never stored"
    (ann,) = await entries(scim, user("ann", "a", password=secret))
    change = {"op": "replace", "path": "password", "value": secret}
    await entries(scim, patch(f"/Users/{id_of(ann)}", change))

    def everything(transaction: Connection) -> str:
        return repr(
            [
                transaction.execute(select(table)).all()
                for table in (tables.users, tables.events, tables.outcomes)
            ]
        )

    assert secret not in await scim.database.read(everything)


async def test_a_repeat_after_a_lost_answer_makes_no_doubles(scim: Scim) -> None:
    operations = [user("ann", "a"), user("bob", "b"), group("Staff", "bulkId:a", bulk_id="g")]
    assert await statuses(scim, *operations) == ["201", "201", "201"]
    assert await statuses(scim, *operations) == ["409", "409", "409"]
    assert await scim.names("userName pr") == ["ann", "bob"]
    assert (await scim.get("Groups"))["totalResults"] == 1


class Failing:
    """A database that stops answering after some transactions."""

    def __init__(self, database: Database, *, after: int) -> None:
        self._database = database
        self.left = after
        self.asked = 0

    async def transact(self, work: Work[T]) -> T:
        self.asked += 1
        if self.left == 0:
            raise ConnectionRefusedError
        self.left -= 1
        return await self._database.transact(work)

    async def read(self, work: Work[T]) -> T:
        return await self._database.read(work)

    async def look_up(self, work: Work[T]) -> T:
        return await self._database.look_up(work)

    async def close(self) -> None:
        await self._database.close()


async def test_a_database_that_goes_away_leaves_whole_operations(scim: Scim) -> None:
    failing = Failing(scim.database, after=20)
    app = create_app(database=failing, clock=SystemClock(), pepper=PEPPER)
    operations = [user(f"user{number:02}") for number in range(64)]
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://scim.test/hoekstra/",
        headers=dict(scim.http.headers),
    ) as http:
        answer = await http.post("Bulk", json={"Operations": operations})
    found = [entry["status"] for entry in answer.json()["Operations"]]
    assert found == ["201"] * 20 + ["503"] * 44
    assert failing.asked == 32  # what comes after the first that fail is not even tried
    assert len(await scim.names("userName pr")) == len(await accepted_events(scim)) == 20
    again = await statuses(scim, *operations)
    assert again == ["409"] * 20 + ["201"] * 44


async def test_creates_are_no_slower_than_as_many_requests(embedded: Scim) -> None:
    def body() -> dict[str, Any]:
        name = f"user{next(numbers)}@hoekstra.example"
        return {"userName": name, "emails": [{"value": name, "type": "work", "primary": True}]}

    async def some_requests() -> None:
        for _ in range(10):
            await embedded.http.post("Users", json=body())

    numbers, ratios = itertools.count(), list[float]()
    for _ in range(3):  # the machine may be busy with something else
        started = time.perf_counter()
        await asyncio.gather(*(some_requests() for _ in range(16)))
        requests = time.perf_counter() - started
        operations = [operation("POST", "/Users", body()) for _ in range(160)]
        started = time.perf_counter()
        assert await statuses(embedded, *operations) == ["201"] * 160
        ratios.append((time.perf_counter() - started) / requests)
    assert min(ratios) < 1
