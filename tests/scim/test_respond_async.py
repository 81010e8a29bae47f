"""Requests that ask to be told of their end later (RFC 9967): what is answered, what is told, when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from scim.app import create_app
from scim.preferences import prefers_async
from service.clock import SystemClock
from service.directory import ending, events, inbox, outbox
from service.directory.events import Event, Problem
from service.directory.outbox import Outcome
from service.directory.responses import EVENT_URI
from service.directory.told import Ended
from service.security_events.declaration import SecurityEvents
from tests.scim.bulk import group, operation, send, user
from tests.scim.client import ENTERPRISE, PATCH_OP, PEPPER, Scim, opened, organization
from tests.scim.test_bulk import Failing
from tests.scim.test_protocol import assert_error

LATER = {"Prefer": "respond-async"}
BASE = "http://scim.test/scim/v2/hoekstra"
RESPONDED = "io.auth0-provisioner.scim.responded.v1"
ADDRESS = {"emails": [{"value": "ann@hoekstra.example"}]}


async def outcomes(scim: Scim) -> list[Outcome]:
    return await scim.database.read(lambda tx: outbox.listing(tx, limit=5000))


async def responses(scim: Scim) -> list[Outcome]:
    return [told for told in await outcomes(scim) if told.type == RESPONDED]


def payload(told: Outcome) -> dict[str, Any]:
    """What RFC 9967 section 2.5.1.3 has in it."""
    facts = ("event", "latencyMs", "attempts", "eventUri")
    return {name: value for name, value in told.data.items() if name not in facts}


async def accepted_events(scim: Scim) -> list[Event]:
    return await scim.database.read(lambda tx: events.listing(tx, events.Filter(), limit=5000))


async def finish(
    scim: Scim, event_id: str, ended: Ended = "succeeded", problem: Problem | None = None
) -> bool:
    """Ends an event, as the lanes do once Auth0 has answered."""
    now = SystemClock().now()
    result = "applied" if ended == "succeeded" else None

    def work(transaction: Connection) -> bool:
        return ending.finish(transaction, event_id, ended, now=now, result=result, problem=problem)

    return await scim.database.transact(work)


async def ask(scim: Scim, method: str, path: str, body: Any = None) -> str:
    """Sends a request that wants to be told later, and returns what Set-Txn says."""
    answer = await scim.http.request(method, path, json=body, headers=LATER)
    assert answer.status_code == 202, answer.text
    assert answer.content == b""
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.headers["location"].startswith(f"{BASE}/{path.partition('/')[0]}/")
    return answer.headers["set-txn"]


# What is answered


async def test_a_change_is_durable_under_its_txn_when_202_is_answered(scim: Scim) -> None:
    answer = await scim.http.post("Users", json={"userName": "ann", **ADDRESS}, headers=LATER)
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["preference-applied"] == "respond-async"
    (event,) = await accepted_events(scim)
    assert event.id == answer.headers["set-txn"]
    assert event.type == "scim.user.created"
    made = await scim.http.get(answer.headers["location"])
    assert made.json()["id"] == event.user_id


async def test_every_write_is_answered_so(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    staff = await scim.post_group("Staff")
    title = {
        "schemas": [PATCH_OP],
        "Operations": [{"op": "add", "path": "externalId", "value": "7"}],
    }
    txns = [
        await ask(scim, "PUT", f"Users/{ann['id']}", {"userName": "ann", "title": "CEO"}),
        await ask(scim, "PATCH", f"Users/{ann['id']}", title),
        await ask(scim, "DELETE", f"Users/{ann['id']}"),
        await ask(scim, "POST", "Groups", {"displayName": "All"}),
        await ask(scim, "PUT", f"Groups/{staff['id']}", {"displayName": "Everyone"}),
        await ask(scim, "PATCH", f"Groups/{staff['id']}", title),
        await ask(scim, "DELETE", f"Groups/{staff['id']}"),
    ]
    assert [event.id for event in await accepted_events(scim)][2:] == txns
    assert (await scim.http.get(f"Users/{ann['id']}")).status_code == 404


async def test_refusals_come_at_once(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    path = f"Users/{ann['id']}"
    before = len(await accepted_events(scim))
    post, put = scim.http.post, scim.http.put
    assert_error(await post("Users", json={"userName": "ANN"}, headers=LATER), 409, "uniqueness")
    assert_error(await post("Users", json={}, headers=LATER), 400, "invalidValue")
    assert_error(await scim.http.delete("Users/nobody", headers=LATER), 404)
    old = LATER | {"If-Match": 'W/"9"'}
    assert_error(await put(path, json={"userName": "ann"}, headers=old), 412)
    stranger = LATER | {"Authorization": "Bearer nobody's"}
    assert_error(await post("Users", json={"userName": "bob"}, headers=stranger), 401)
    assert_error(await post("Bulk", json={}, headers=LATER), 400, "invalidSyntax")
    assert len(await accepted_events(scim)) == before
    assert await responses(scim) == []


async def test_what_only_reads_is_answered_as_usual(scim: Scim) -> None:
    ann = await scim.post_user("ann")
    for method, path in (("GET", "Users"), ("GET", f"Users/{ann['id']}"), ("POST", ".search")):
        answer = await scim.http.request(method, path, json={}, headers=LATER)
        assert answer.status_code == 200
        assert "set-txn" not in answer.headers


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (["respond-async"], True),
        (["Respond-Async"], True),
        (["return=minimal, respond-async; x=1"], True),
        (['foo="a, b", respond-async'], True),
        (["handling=lenient", "respond-async"], True),
        (["respond-async, wait=0"], True),
        (["respond-async, wait=soon"], True),
        (["respond-async, wait=10"], False),
        (["wait=10", "respond-async"], False),
        (["return=representation"], False),
        (['foo="respond-async"'], False),
        (["respond-asynchronously"], False),
        (["respond-async(, x"], False),
        (["(, respond-async"], True),
        (['foo="a, respond-async'], True),
        ([""], False),
        ([], False),
    ],
)
def test_preferences_are_read_as_http_has_them(sent: list[str], expected: bool) -> None:
    assert prefers_async([(b"prefer", value.encode()) for value in sent]) is expected


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 6_000_000 + "(",
        " " * 6_000_000 + "(",
        "a" * 20_000 + "=" + " " * 40_000 + "(",
        'a="' + '\\"' * 30_000,
        "a=b;" * 15_000 + "(",
        "(," * 30_000,
        'a="(,' * 12_000,
    ],
)
def test_preferences_cost_no_more_than_their_length(hostile: str) -> None:
    """Anything worse than that would not end within a day."""
    assert not prefers_async([(b"prefer", hostile.encode())])


async def test_who_grants_time_is_answered_in_time(embedded: Scim) -> None:
    headers = {"Prefer": "respond-async, wait=10"}
    answer = await embedded.http.post("Users", json={"userName": "ann"}, headers=headers)
    assert (answer.status_code, answer.json()["userName"]) == (201, "ann")
    assert await responses(embedded) == []


async def test_discovery_says_to_those_who_ask_that_it_is_offered(embedded: Scim) -> None:
    config = await embedded.get("ServiceProviderConfig", attributes="bulk,securityEvents")
    assert config["securityEvents"] == {"asyncRequest": "request", "eventUris": [EVENT_URI]}
    # Clients that do not know the attribute, such as scim2-client, refuse a document with it.
    assert "securityEvents" not in await embedded.get("ServiceProviderConfig")


async def test_discovery_tells_what_an_organization_s_stream_sends(tmp_path: Path) -> None:
    stream = SecurityEvents(
        endpoint="https://receiver.test",
        audience="receiver",
        events=("prov:deactivate", "account-disabled"),
    )
    url = f"sqlite:///{tmp_path / 'directory.db'}"
    async with opened(url, organization(security_events=stream)) as (scim,):
        config = await scim.get("ServiceProviderConfig", attributes="securityEvents")
    assert config["securityEvents"] == {
        "asyncRequest": "request",
        "eventUris": [
            "https://schemas.openid.net/secevent/risc/event-type/account-disabled",
            "urn:ietf:params:scim:event:prov:deactivate",
        ],
    }


# What is told, and when


async def test_the_end_is_told_once_and_not_before(scim: Scim) -> None:
    answer = await scim.http.post("Users", json={"userName": "ann", **ADDRESS}, headers=LATER)
    txn = answer.headers["set-txn"]
    assert await responses(scim) == []
    assert await finish(scim, txn)
    assert not await finish(scim, txn)
    (told,) = await responses(scim)
    assert payload(told) == {
        "txn": txn,
        "method": "POST",
        "location": answer.headers["location"],
        "version": 'W/"1"',
        "status": "201",
    }
    assert told.data["eventUri"] == "urn:ietf:params:scim:event:misc:asyncresp"
    assert told.event_id == txn
    (event,) = await accepted_events(scim)
    assert told.user_id == event.user_id
    assert [each.type for each in await outcomes(scim)][-2:] == [
        "io.auth0-provisioner.event.succeeded.v1",
        RESPONDED,
    ]


async def test_what_ends_at_once_is_told_at_once(scim: Scim) -> None:
    """A user without an address, and a group that stands for no role, need nothing of Auth0."""
    ann = await ask(scim, "POST", "Users", {"userName": "ann"})
    staff = await ask(scim, "POST", "Groups", {"displayName": "Staff"})
    told = [payload(each) for each in await responses(scim)]
    assert [(each["txn"], each["status"]) for each in told] == [(ann, "201"), (staff, "201")]


async def test_version_and_status_are_those_of_the_change_itself(scim: Scim) -> None:
    ann = await scim.post_user("ann", **ADDRESS)
    path = f"Users/{ann['id']}"
    first = await ask(scim, "PUT", path, {"userName": "ann", **ADDRESS, "title": "CEO"})
    await scim.http.put(path, json={"userName": "ann", **ADDRESS, "title": "CTO"})
    await finish(scim, first)
    staff = await scim.post_group("Staff")
    add = {"op": "add", "path": "members", "value": [{"value": ann["id"]}]}
    body = {"schemas": [PATCH_OP], "Operations": [add]}
    second = await ask(scim, "PATCH", f"Groups/{staff['id']}", body)
    third = await ask(scim, "DELETE", f"Groups/{staff['id']}")
    group_at = f"{BASE}/Groups/{staff['id']}"
    assert [payload(each) for each in await responses(scim)] == [
        {
            "txn": first,
            "method": "PUT",
            "location": f"{BASE}/{path}",
            "version": 'W/"2"',
            "status": "200",
        },
        {
            "txn": second,
            "method": "PATCH",
            "location": group_at,
            "version": 'W/"2"',
            "status": "204",
        },
        {"txn": third, "method": "DELETE", "location": group_at, "status": "204"},
    ]


async def test_who_did_not_ask_is_not_told(scim: Scim) -> None:
    await scim.post_user("nobody")
    ann = await scim.post_user("ann", **ADDRESS)
    (event,) = [event for event in await accepted_events(scim) if event.user_id == ann["id"]]
    assert await finish(scim, event.id)
    assert await responses(scim) == []


@pytest.mark.parametrize(
    ("kind", "status", "scim_type"),
    [
        ("conflict", "409", "uniqueness"),
        ("permanent", "500", None),
        ("tenant", "500", None),
        ("input", "400", "invalidValue"),
    ],
)
async def test_a_failure_is_told_as_a_scim_error(
    embedded: Scim, kind: str, status: str, scim_type: str | None
) -> None:
    txn = await ask(embedded, "POST", "Users", {"userName": "ann", **ADDRESS})
    problem = Problem(kind=kind, code="x", message="An operator must look.", status=403)
    await finish(embedded, txn, "deadlettered", problem)
    (told,) = await responses(embedded)
    error = told.data["response"]
    assert told.data["status"] == error["status"] == status
    assert error["detail"] == "An operator must look."
    assert error.get("scimType") == scim_type
    assert error["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]


async def test_an_address_in_use_is_told_in_the_same_transaction(scim: Scim) -> None:
    await scim.post_user("ann", **ADDRESS)
    txn = await ask(scim, "POST", "Users", {"userName": "other", **ADDRESS})
    (told,) = await responses(scim)
    assert (told.data["txn"], told.data["status"]) == (txn, "409")
    assert told.data["response"]["scimType"] == "uniqueness"


@pytest.mark.parametrize(
    ("ended", "status"), [("superseded", "201"), ("cancelled", "201"), ("discarded", "403")]
)
async def test_other_ends_are_told_too(embedded: Scim, ended: Ended, status: str) -> None:
    txn = await ask(embedded, "POST", "Users", {"userName": "ann", **ADDRESS})
    await finish(embedded, txn, ended)
    (told,) = await responses(embedded)
    assert told.data["status"] == status
    assert ("response" in told.data) == (status == "403")


# Bulk


async def bulk(scim: Scim, *operations: Any, **others: Any) -> str:
    answer = await send(scim, *operations, headers=LATER, **others)
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["preference-applied"] == "respond-async"
    return answer.headers["set-txn"]


async def told_of(scim: Scim, txn: str) -> dict[int, dict[str, Any]]:
    """Index of an operation to what was told of it; each at most once."""
    found: dict[int, dict[str, Any]] = {}
    for each in await responses(scim):
        start, _, index = each.data["txn"].partition(":")
        assert start == txn
        assert int(index) not in found
        found[int(index)] = payload(each)
    return found


async def test_each_operation_of_a_bulk_is_told_under_its_index(scim: Scim) -> None:
    leaver = await scim.post_user("leaver")
    txn = await bulk(
        scim,
        group("Staff", "bulkId:a", bulk_id="g"),
        user("ann", "a", **ADDRESS),
        operation("DELETE", f"/Users/{leaver['id']}"),
    )
    assert sorted(await told_of(scim, txn)) == [0, 2]
    assert await finish(scim, f"{txn}:1")
    told = await told_of(scim, txn)
    (staff,) = (await scim.get("Groups"))["Resources"]
    (ann,) = (await scim.get("Users"))["Resources"]
    assert told == {
        0: {
            "txn": f"{txn}:0",
            "method": "POST",
            "bulkId": "g",
            "location": staff["meta"]["location"],
            "version": 'W/"1"',
            "status": "201",
        },
        1: {
            "txn": f"{txn}:1",
            "method": "POST",
            "bulkId": "a",
            "location": ann["meta"]["location"],
            "version": 'W/"1"',
            "status": "201",
        },
        2: {
            "txn": f"{txn}:2",
            "method": "DELETE",
            "location": f"{BASE}/Users/{leaver['id']}",
            "status": "204",
        },
    }
    assert {event.correlation_id for event in (await accepted_events(scim))[1:]} == {txn}


async def test_operations_that_fail_are_told_as_rejected_events(scim: Scim) -> None:
    await scim.post_user("taken")
    secret = "ann@private.example"
    txn = await bulk(
        scim,
        user("taken", secret, password="hidden"),
        operation("PUT", "/Users/nobody", {"userName": secret}),
        operation("POST", "/Nowhere", {}),
        group("Staff", f"bulkId:{secret}"),
        user("bob", "b"),
    )
    told = await told_of(scim, txn)
    found = [told[index]["status"] for index in range(5)]
    assert found == ["409", "404", "404", "409", "201"]
    assert told[0]["response"]["scimType"] == "uniqueness"
    assert "location" not in told[0]
    assert "location" not in told[1]  # what is sent as an id may be somebody's address
    rejected = [event for event in await accepted_events(scim) if event.state == "rejected"]
    assert [event.id for event in rejected] == [f"{txn}:{index}" for index in range(4)]
    assert rejected[0].body is not None
    assert b"hidden" not in rejected[0].body
    assert secret not in repr(await outcomes(scim))


async def test_what_is_not_carried_out_any_more_is_told(scim: Scim) -> None:
    txn = await bulk(
        scim, user("ann", "a"), user("ANN", "b"), user("bob", "c"), user("cas", "d"), failOnErrors=1
    )
    told = await told_of(scim, txn)
    assert [told[index]["status"] for index in range(4)] == ["201", "409", "424", "424"]
    assert await scim.names("userName pr") == ["ann"]


async def test_of_a_circle_the_last_step_is_told(scim: Scim) -> None:
    txn = await bulk(
        scim,
        user("ann", "a", **{ENTERPRISE: {"manager": {"value": "bulkId:b"}}}),
        user("bob", "b", **{ENTERPRISE: {"manager": {"value": "bulkId:a"}}}),
    )
    told = await told_of(scim, txn)
    assert [
        (told[index]["method"], told[index]["status"], told[index]["version"]) for index in (0, 1)
    ] == [("POST", "201", 'W/"2"'), ("POST", "201", 'W/"1"')]


@pytest.mark.kill
async def test_a_thousand_operations_have_ids_that_fit(scim: Scim) -> None:
    wrong = [operation("DELETE", f"/Users/{number}") for number in range(1000)]
    txn = await bulk(scim, *wrong)
    assert len(await told_of(scim, txn)) == 1000
    assert (await accepted_events(scim))[-1].id == f"{txn}:999"


async def test_no_202_where_a_refusal_cannot_be_stored(scim: Scim) -> None:
    failing = Failing(scim.database, after=1)
    app = create_app(database=failing, clock=SystemClock(), pepper=PEPPER)
    body = {"Operations": [user("ann", "a"), operation("DELETE", "/Users/nobody"), user("b", "b")]}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://scim.test/hoekstra/"
    ) as http:
        headers = {**scim.http.headers, **LATER}
        answer = await http.post("Bulk", json=body, headers=headers)
    assert_error(answer, 503)
    assert answer.headers["retry-after"]
    assert await scim.names("userName pr") == ["ann"]


async def test_only_what_the_scim_door_promised_is_told(scim: Scim) -> None:
    """Headers of other doors are what the producer sent."""
    now = SystemClock().now()
    forged = inbox.Received(
        door="kafka",
        source="hr.events",
        type="worker.hired",
        at=now,
        headers=[("scim-response", "e30=")],
    )

    def work(transaction: Connection) -> None:
        event_id = inbox.admit(transaction, forged, "hoekstra").event_id
        assert ending.finish(transaction, event_id, "succeeded", now=now, result="applied")

    await scim.database.transact(work)
    assert await responses(scim) == []
