"""The HTTP door: who may send, what is answered, and that nothing is half stored."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from consumers.callers import Callers
from consumers.cloudevents import BATCH, MAX_BATCH, MAX_BYTES, STRUCTURED, Envelope
from consumers.http import event_routes
from consumers.mappings.canonical import Mapped
from service.directory import absences, credentials
from service.directory.database import Database, open_database
from service.directory.tables import credentials as credentials_table
from tests.consumers.support import START, SetClock, events_of, outcomes_of

PEPPER = b"a pepper for these tests only....."
SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "hr_events.jsonl"


def event(id: str = "e-1", **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/hr",
        "type": "worker.hired",
        "subject": "w-1",
        "data": {"worker_id": "w-1", "attributes": {"email": "ada@acme.example"}},
    } | changes


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def token(database: Database) -> str:
    return await database.transact(
        lambda tx: credentials.create(
            tx, organization="acme", door="events", pepper=PEPPER, now=START
        )
    )


@pytest.fixture
async def client(
    database: Database, clock: SetClock, token: str
) -> AsyncIterator[httpx.AsyncClient]:
    callers = Callers(database=database, clock=clock, pepper=PEPPER)
    app = Starlette(routes=event_routes(database=database, clock=clock, callers=callers))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://events.test",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


async def send(
    client: httpx.AsyncClient, document: Any, *, to: str = "acme", **headers: str
) -> httpx.Response:
    content_type = BATCH if isinstance(document, list) else STRUCTURED
    return await client.post(
        f"/events/{to}",
        content=json.dumps(document),
        headers={"Content-Type": content_type, **headers},
    )


def problem_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    return problem


async def test_accepted_event_is_durable_and_told_by_both_ids(
    client: httpx.AsyncClient, database: Database
) -> None:
    response = await send(client, event())
    assert response.status_code == 202
    [stored] = await events_of(database)
    assert response.json() == {"accepted": [{"id": "e-1", "event": stored.id, "state": "accepted"}]}
    assert (stored.organization, stored.door, stored.source) == ("acme", "http", "/hr")
    assert (stored.source_id, stored.type, stored.accepted_at) == ("e-1", "worker.hired", START)
    assert stored.body == json.dumps(event()).encode()
    assert stored.user_id is not None


async def test_binary_event_is_accepted(client: httpx.AsyncClient, database: Database) -> None:
    response = await client.post(
        "/events/acme",
        json={"worker_id": "w-2", "email": "bo@acme.example"},
        headers={
            "ce-specversion": "1.0",
            "ce-id": "e-2",
            "ce-source": "/hr",
            "ce-type": "com.example.hr.worker.hired.v1",
        },
    )
    assert response.status_code == 202
    [stored] = await events_of(database)
    assert ["ce-id", "e-2"] in stored.headers
    assert "authorization" not in json.dumps(stored.headers).lower()


async def test_batch_is_accepted_whole(client: httpx.AsyncClient, database: Database) -> None:
    future = event("e-2", subject="w-2", data={"effective_at": "2027-01-01"})
    response = await send(client, [event("e-1"), future, event("e-1")])
    assert response.status_code == 202
    assert [each["state"] for each in response.json()["accepted"]] == [
        "accepted",
        "scheduled",
        "duplicate",
    ]
    assert len(await events_of(database)) == 3


async def test_bad_event_refuses_its_whole_batch_by_index(
    client: httpx.AsyncClient, database: Database
) -> None:
    unreadable = await send(client, [event(), event("e-2", source="")])
    assert problem_of(unreadable, 400)["index"] == 1
    unmapped = problem_of(await send(client, [event("e-3", type="worker.odd"), event()]), 400)
    assert (unmapped["index"], unmapped["code"]) == (0, "unmapped_type")
    alone = problem_of(await send(client, [event("e-3", type="worker.odd")]), 400)
    assert alone["index"] == 0
    assert await events_of(database) == []


async def test_repeated_event_is_a_duplicate_that_names_the_first(
    client: httpx.AsyncClient, database: Database
) -> None:
    first = (await send(client, event())).json()["accepted"][0]
    again = await send(client, event())
    assert again.status_code == 202
    assert again.json()["accepted"][0]["state"] == "duplicate"
    ending = [each for each in await outcomes_of(database) if "duplicate" in each.type]
    assert [each.data["repeats"] for each in ending] == [first["event"]]


async def test_reused_id_with_another_body_is_rejected_and_kept(
    client: httpx.AsyncClient, database: Database
) -> None:
    await send(client, event())
    other = await send(client, event(data={"email": "eve@acme.example"}))
    accepted = other.json()["accepted"][0]
    assert accepted["state"] == "rejected"
    assert accepted["error"]["code"] == "id_reuse_conflict"
    assert [each.state for each in await events_of(database)] == ["accepted", "rejected"]


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer nonsense", "Basic abc", "Bearer ap_0000_wrong"]
)
async def test_wrong_token_is_refused(
    client: httpx.AsyncClient, database: Database, authorization: str
) -> None:
    response = await send(client, event(), Authorization=authorization)
    assert problem_of(response, 401)["code"] == "unauthorized"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert await events_of(database) == []


@pytest.mark.parametrize("organization", ["globex", "nobody", "acme%00", "acme%0A", "ACME"])
async def test_token_opens_its_own_organization_only(
    client: httpx.AsyncClient, organization: str
) -> None:
    problem_of(await send(client, event(), to=organization), 401)


async def test_token_of_the_scim_door_does_not_open_this_one(
    client: httpx.AsyncClient, database: Database
) -> None:
    scim = await database.transact(
        lambda tx: credentials.create(
            tx, organization="acme", door="scim", pepper=PEPPER, now=START
        )
    )
    problem_of(await send(client, event(), Authorization=f"Bearer {scim}"), 401)


async def test_token_for_an_organization_that_is_not_declared_finds_nothing(
    client: httpx.AsyncClient, database: Database
) -> None:
    orphan = await database.transact(
        lambda tx: credentials.create(
            tx, organization="initech", door="events", pepper=PEPPER, now=START
        )
    )
    response = await send(client, event(), to="initech", Authorization=f"Bearer {orphan}")
    assert problem_of(response, 404)["code"] == "unknown_organization"


async def test_token_without_the_scope_write_sends_nothing(
    client: httpx.AsyncClient, database: Database, token: str
) -> None:
    await database.transact(lambda tx: tx.execute(credentials_table.update().values(scopes="read")))
    response = await send(client, event())
    assert problem_of(response, 403)["code"] == "insufficient_scope"
    assert 'scope="write"' in response.headers["www-authenticate"]
    assert await events_of(database) == []


async def test_each_use_of_a_token_is_told_by_its_id(
    database: Database, clock: SetClock, token: str
) -> None:
    used: list[str] = []
    callers = Callers(database=database, clock=clock, pepper=PEPPER, on_use=used.append)
    routes = event_routes(database=database, clock=clock, callers=callers)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://events.test"
    ) as client:
        await send(client, event(), Authorization=f"Bearer {token}")
        await send(client, event(), Authorization=f"Bearer {token}x")
    assert used == [token.split("_")[1]]


async def test_event_for_another_organization_than_the_path_is_refused(
    client: httpx.AsyncClient, database: Database
) -> None:
    response = await send(client, event(data={"worker_id": "w-1", "organization": "globex"}))
    assert problem_of(response, 403)["code"] == "organization_not_allowed"
    assert await events_of(database) == []
    own = await send(client, event(data={"worker_id": "w-1", "organization": "acme"}))
    assert own.status_code == 202


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{", STRUCTURED, 400, "malformed_json"),
        (b"", STRUCTURED, 400, "malformed_json"),
        (b"{}", "application/json", 400, "not_a_cloudevent"),
        (b"{}", STRUCTURED, 400, "unsupported_specversion"),
        (b"{}", BATCH, 400, "invalid_batch"),
        (b"\xff\xfe", STRUCTURED, 400, "malformed_json"),
        (b"[" * 200 + b"]" * 200, BATCH, 400, "too_deep"),
        (b"{}", "text/plain", 415, "unsupported_format"),
        (b"{}", "application/cloudevents+avro", 415, "unsupported_format"),
        (b" " * (MAX_BYTES + 1), STRUCTURED, 413, "too_large"),
    ],
)
async def test_unreadable_request_is_refused_with_a_reason(
    client: httpx.AsyncClient,
    database: Database,
    content: bytes,
    content_type: str,
    status: int,
    code: str,
) -> None:
    response = await client.post(
        "/events/acme", content=content, headers={"Content-Type": content_type}
    )
    assert problem_of(response, status)["code"] == code
    assert await events_of(database) == []


async def test_length_limit_holds_for_bodies_of_unknown_length(client: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (MAX_BYTES // 10)

    response = await client.post(
        "/events/acme", content=body(), headers={"Content-Type": STRUCTURED}
    )
    problem_of(response, 413)


async def test_database_that_does_not_answer_is_a_503_to_repeat(token: str) -> None:
    away = open_database("postgresql://nobody@127.0.0.1:9/none")
    callers = Callers(database=away, clock=SetClock(), pepper=PEPPER)
    app = Starlette(routes=event_routes(database=away, clock=SetClock(), callers=callers))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://events.test"
    ) as client:
        response = await send(client, event(), Authorization=f"Bearer {token}")
    await away.close()
    assert problem_of(response, 503)["code"] == "unavailable"
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.skipif(not SAMPLES.exists(), reason="the samples are not beside this work tree")
async def test_samples_of_internal_producers_do_what_they_say(
    client: httpx.AsyncClient, database: Database
) -> None:
    lines = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    own = {
        line["case"]: line["payload"] for line in lines if line["source_system"] == "internal_hr"
    }
    states = {
        case: [
            (await send(client, each)).json().get("accepted", [{}])[0].get("state")
            for each in (payload if isinstance(payload, list) else [payload])
        ]
        for case, payload in own.items()
        if payload is not None
    }
    assert states == {
        "same id, different body": ["accepted", "rejected"],
        "future-dated then moved then cancelled": ["scheduled", "scheduled", "succeeded"],
        "unknown type/version": [None],
    }
    ended = {each.source_id: each.state for each in await events_of(database)}
    assert (ended["ev-0020"], ended["ev-0021"]) == ("superseded", "cancelled")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_every_other_method_is_refused_in_the_same_form(
    client: httpx.AsyncClient, method: str
) -> None:
    response = await client.request(method, "/events/acme")
    assert problem_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/events/", "/events/acme/", "/events/a/b", "/events/%00"])
async def test_every_other_path_is_refused_as_a_wrong_token_is(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.post(path, content=b"{}")
    assert problem_of(response, 401)["code"] == "unauthorized"


@pytest.mark.parametrize("authorization", [b"Bearer ap_\x00_a", b"Bearer ap_\xff_a", b"ap_1_a"])
async def test_odd_tokens_are_wrong_tokens(client: httpx.AsyncClient, authorization: bytes) -> None:
    response = await client.post("/events/acme", headers={b"authorization": authorization})
    problem_of(response, 401)


@pytest.mark.parametrize("length", [b"\xb2", b"9" * 5000, b"-1"])
async def test_odd_lengths_are_answered(client: httpx.AsyncClient, length: bytes) -> None:
    response = await client.post(
        "/events/acme", content=b"", headers={b"content-length": length, b"content-type": b"a/b"}
    )
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code in (413, 415)


async def test_a_batch_that_would_hold_up_others_is_refused_whole(
    client: httpx.AsyncClient, database: Database
) -> None:
    response = await send(client, [event(str(number)) for number in range(MAX_BATCH + 1)])
    assert problem_of(response, 400)["code"] == "batch_too_large"
    assert await events_of(database) == []


async def test_a_fault_of_ours_is_told_and_logged_without_what_was_sent(
    database: Database, clock: SetClock, token: str
) -> None:
    def broken(envelope: Envelope) -> Mapped:
        raise LookupError(f"what to do with {envelope.data}?")

    callers = Callers(database=database, clock=clock, pepper=PEPPER)
    routes = event_routes(database=database, clock=clock, callers=callers, mapper=broken)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://events.test"
    ) as client:
        with capture_logs() as logged:
            response = await send(client, event(), Authorization=f"Bearer {token}")
    assert problem_of(response, 500)["code"] == "failed"
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert "ada@" not in repr(logged) + response.text


async def test_an_event_sent_in_two_modes_is_one_event(
    client: httpx.AsyncClient, database: Database
) -> None:
    told = event()
    await send(client, told)
    headers = {f"ce-{name}": str(told[name]) for name in ("specversion", "id", "source", "type")}
    response = await client.post(
        "/events/acme",
        content=json.dumps(told["data"], indent=2),
        headers=headers | {"ce-subject": "w-1", "Content-Type": "application/json"},
    )
    assert response.json()["accepted"][0]["state"] == "duplicate"
    assert [each.state for each in await events_of(database)] == ["accepted", "duplicate"]


async def test_a_full_export_is_sent_and_closed_in_one_batch(
    client: httpx.AsyncClient, database: Database, clock: SetClock
) -> None:
    await send(client, event())
    clock.instant += timedelta(days=1)
    batch = [
        event(
            f"line-{worker}",
            type="worker.snapshot",
            subject=worker,
            data={"worker_id": worker, "snapshot": "nightly", "employment_id": 7},
        )
        for worker in ("w-2", "w-3")
    ]
    end = {"snapshot": "nightly", "count": 2}
    batch.append(event("end", type="worker.snapshot_completed", subject="nightly", data=end))
    assert (await send(client, batch)).status_code == 202
    now = clock.now()
    await database.transact(lambda tx: absences.carry_on(tx, "acme", "nightly", now))
    told = [each.type for each in await events_of(database)]
    assert told[-2:] == ["worker.snapshot_completed", "worker.terminated"]
