"""The door for webhooks: plain JSON by the source's mapping, a bearer token or a Basic password."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette

from consumers.callers import Callers
from consumers.http import event_routes
from consumers.mappings.packs import checked
from consumers.webhooks import webhook_routes
from operators import reading
from service.directory import credentials, fuses, mappings, organizations, replays
from service.directory.database import Database
from service.organizations import EventSource
from tests.consumers.support import START, SetClock, events_of

# Workers without an address: they end at once.
PEPPER = b"a pepper for these tests only....."
HR = """
mapping: hr
version: 1
rules:
  - match: payload.people
    split: payload.people
    subject: payload.id
    type: worker.changed
  - match: headers."x-kind" == 'gone'
    subject: payload.id
    type: worker.terminated
  - subject: payload.id
    id: payload.uuid
    type: {from: payload.kind, table: {in: worker.hired}}
"""
SOURCES = (
    EventSource(name="hooks", organizations=("acme",), mapping="hr", webhook=True),
    EventSource(name="canonical", organizations=("acme",), webhook=True),
    EventSource(name="rippling", organizations=("acme",), mapping="rippling", webhook=True),
    EventSource(name="foreign", organizations=("globex",), mapping="hr", webhook=True),
    EventSource(name="topic", topic="hr", organizations=("acme",), mapping="hr"),
)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


async def declare(database: Database, text: str) -> None:
    document, _ = checked(text, where="hr.yaml")
    written = document.model_dump(mode="json", by_alias=True, exclude_unset=True)
    await database.transact(lambda tx: mappings.apply(tx, "hr", document.version, written, START))


@pytest.fixture
async def token(database: Database) -> str:
    await declare(database, HR)
    for source in SOURCES:
        await database.transact(lambda tx, of=source: organizations.apply_source(tx, of))
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
    given: dict[str, Any] = {"database": database, "clock": clock, "callers": callers}
    app = Starlette(routes=[*webhook_routes(**given), *event_routes(**given)])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://events.test",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


async def post(
    client: httpx.AsyncClient, payload: Any, path: str = "acme/hooks", **headers: str
) -> httpx.Response:
    content = payload if isinstance(payload, bytes) else orjson.dumps(payload)
    return await client.post(
        f"/events/{path}", content=content, headers={"Content-Type": "application/json", **headers}
    )


async def test_plain_json_is_accepted_and_durable(
    client: httpx.AsyncClient, database: Database
) -> None:
    response = await post(client, {"id": 5, "kind": "in", "uuid": "u-1"})
    assert response.status_code == 202
    [stored] = await events_of(database)
    assert response.json() == {
        "accepted": [{"id": "u-1", "event": stored.id, "state": "succeeded"}]
    }
    assert (stored.door, stored.source, stored.type) == ("http", "hooks", "in")


async def test_a_repeat_is_a_duplicate_and_another_day_another_event(
    client: httpx.AsyncClient, database: Database, clock: SetClock
) -> None:
    payload = {"id": 5, "kind": "in"}
    states = [(await post(client, payload)).json()["accepted"][0]["state"] for _ in range(2)]
    assert states == ["succeeded", "duplicate"]
    await clock.sleep(86_400)
    assert (await post(client, payload)).json()["accepted"][0]["state"] == "succeeded"


async def test_a_form_is_read_as_json_and_kept_so(
    client: httpx.AsyncClient, database: Database
) -> None:
    form = {"event_name": "employee.deleted", "id": "w-7", "company_id": "c-1"}
    response = await client.post("/events/acme/rippling", data=form)
    assert response.json()["accepted"][0]["state"] == "succeeded"
    [stored] = await events_of(database)
    assert stored.type == "worker.suspended"
    assert orjson.loads(stored.body or b"") == form


@pytest.mark.parametrize("name", ["X-Hub-Hmac", "X-Session-Id", "X-Goog-Iap-Jwt", "X-Credential"])
async def test_headers_that_may_hold_a_secret_are_not_stored(
    client: httpx.AsyncClient, database: Database, name: str
) -> None:
    await post(client, {"id": 5, "kind": "in"}, **{name: "s3cret", "X-Kind": "new"})
    [stored] = await events_of(database)
    assert "s3cret" not in str(stored.headers)
    assert ["x-kind", "new"] in [list(each) for each in stored.headers]


async def test_what_no_database_can_hold_ends_alone(
    client: httpx.AsyncClient, database: Database
) -> None:
    """Whoever sends a webhook cannot mend it: the others must not wait for that."""
    await declare(
        database,
        HR.replace("version: 1", "version: 2").replace(
            "    type: worker.changed",
            "    type: worker.changed\n    attributes: {title: payload.title}",
        ),
    )
    form = {
        "people[0][id]": "1",
        "people[1][id]": "2",
        "people[1][title]": "a\x00b",
        "people[2][id]": "3",
    }
    for again in ("succeeded", "duplicate"):
        response = await client.post("/events/acme/hooks", data=form)
        assert response.status_code == 202, response.text
        accepted = response.json()["accepted"]
        assert [each["state"] for each in accepted][::2] == [again, again]
        assert accepted[1]["state"] in ("deadlettered", "duplicate")
    stored = await events_of(database)
    assert (stored[1].state, (stored[1].error or {})["code"]) == (
        "deadlettered",
        "cannot_be_stored",
    )


async def test_every_child_is_told_with_its_state(client: httpx.AsyncClient) -> None:
    response = await post(client, {"people": [{"id": 1}, {}, {"id": 3}]})
    assert response.status_code == 202
    accepted = response.json()["accepted"]
    assert [each["state"] for each in accepted] == ["succeeded", "deadlettered", "succeeded"]
    assert accepted[1]["error"]["code"] == "missing_worker_id"
    assert [each["id"].rpartition("/")[2] for each in accepted] == ["0", "1", "2"]


async def test_what_no_mapping_reads_is_kept_for_an_operator(
    client: httpx.AsyncClient, database: Database
) -> None:
    response = await post(client, {"id": 5, "kind": "sideways"})
    assert response.json()["accepted"][0]["state"] == "deadlettered"
    response = await post(client, {"id": 5}, "acme/canonical")
    assert response.json()["accepted"][0]["error"]["code"] == "not_a_cloudevent"
    assert len(await events_of(database)) == 2


async def test_cloudevents_are_taken_too(client: httpx.AsyncClient) -> None:
    sent = {
        "specversion": "1.0",
        "id": "e",
        "source": "/s",
        "type": "worker.hired",
        "data": {"worker_id": "w"},
    }
    for path in ("acme/hooks", "acme/canonical"):
        response = await post(client, sent | {"id": path}, path)
        assert response.json()["accepted"][0]["state"] == "succeeded"
    batch = [
        sent | {"id": "b-1"},
        sent | {"id": "b-2", "type": "com.hr.x", "data": {"id": 3, "kind": "in"}},
    ]
    response = await post(client, batch, **{"Content-Type": "application/cloudevents-batch+json"})
    assert [each["id"] for each in response.json()["accepted"]] == ["b-1", "b-2"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("acme/foreign", 404),
        ("acme/topic", 404),
        ("acme/none", 404),
        ("globex/foreign", 401),
        ("acme/a/b", 404),
    ],
)
async def test_only_this_organizations_webhooks_are_open(
    client: httpx.AsyncClient, database: Database, path: str, status: int
) -> None:
    response = await post(client, {"id": 5, "kind": "in"}, path)
    assert response.status_code in ((status,) if path != "acme/a/b" else (401, 404))
    assert await events_of(database) == []


async def test_the_token_may_come_as_a_basic_password(
    client: httpx.AsyncClient, token: str
) -> None:
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    payload = {"id": 5, "kind": "in"}
    for given in (basic(f"anyone:{token}"), basic(f":{token}")):
        assert (await post(client, payload, Authorization=given)).status_code == 202
    for given in (
        basic(token),
        basic(f"{token}:"),
        basic("a:b"),
        "Basic !!",
        f"Basic {token}",
        "Basic",
    ):
        assert (await post(client, payload, Authorization=given)).status_code == 401


async def test_the_token_is_not_taken_from_the_query(client: httpx.AsyncClient, token: str) -> None:
    del client.headers["Authorization"]
    response = await client.post(f"/events/acme/hooks?token={token}", json={"id": 5, "kind": "in"})
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("payload", "content_type", "status"),
    [
        (b"no json", "application/json", 400),
        (b"a,b", "text/csv", 415),
        (b"a[b]=1&a=2", "application/x-www-form-urlencoded", 400),
        (b'"' + b"x" * 1024 * 1024 + b'"', "application/json", 413),
    ],
)
async def test_what_is_no_json_is_refused_and_not_stored(
    client: httpx.AsyncClient, database: Database, payload: bytes, content_type: str, status: int
) -> None:
    response = await post(client, payload, **{"Content-Type": content_type})
    assert response.status_code == status
    assert await events_of(database) == []


async def test_too_many_events_are_refused_as_a_whole(
    client: httpx.AsyncClient, database: Database
) -> None:
    sent = {"specversion": "1.0", "source": "/s", "type": "com.hr.batch"}
    batch = [sent | {"id": str(n), "data": {"people": [{"id": 1}] * 600}} for n in range(2)]
    response = await post(client, batch, **{"Content-Type": "application/cloudevents-batch+json"})
    assert (response.status_code, response.json()["code"]) == (413, "too_many_events")
    assert await events_of(database) == []


async def test_headers_are_read_and_kept_without_secrets(
    client: httpx.AsyncClient, database: Database, token: str
) -> None:
    extra = {
        "X-Kind": "gone",
        "X-Api-Key": "s3cret",
        "Cookie": "s3cret",
        "X-Hub-Signature": "s3cret",
    }
    await post(client, {"id": 5, "kind": "in"}, **extra)
    [stored] = await events_of(database)
    kept = str(stored.headers)
    assert "gone" in kept
    assert "s3cret" not in kept
    assert token not in kept


async def test_a_replay_reads_what_came_by_todays_mapping(
    client: httpx.AsyncClient, database: Database
) -> None:
    await post(client, {"id": 5, "kind": "sideways"}, **{"X-Kind": "other"})
    await post(client, {"people": [{"id": 1}, {"name": 2}]})
    sideways, _, child = await events_of(database)
    await declare(
        database,
        HR.replace("{in: worker.hired}", "{sideways: worker.hired}").replace(
            "subject: payload.id\n    type: worker.changed",
            "subject: payload.name\n    type: worker.changed",
        ),
    )
    for event in (sideways, child):
        result = await database.transact(
            lambda tx, of=event: replays.replay(
                tx, of.id, read=reading.read, actor="ada", now=START
            )
        )
        assert result.verdict == "replayed", result.reason


async def fuse(database: Database, name: str, *organizations_: str) -> None:
    source = EventSource(
        name=name, organizations=organizations_, mapping="hr", webhook=True, fuse=3
    )
    await database.transact(lambda tx: organizations.apply_source(tx, source))


async def test_a_source_whose_events_fail_one_after_the_other_has_its_sender_keep_them(
    client: httpx.AsyncClient, database: Database
) -> None:
    await fuse(database, "hooks", "acme")
    for number in range(3):
        assert (await post(client, {"id": number, "kind": "odd"})).status_code == 202
    stopped = await post(client, {"id": 9, "kind": "in"})
    assert (stopped.status_code, stopped.headers["retry-after"]) == (503, "300")
    assert stopped.json()["code"] == "source_stopped"
    assert len(await events_of(database)) == 3
    (known,) = (await database.read(fuses.blown)).values()
    assert (known.source, known.failures) == ("hooks", 3)
    assert (await post(client, {"id": 9}, "acme/canonical")).status_code != 503
    await database.transact(lambda tx: fuses.reset(tx, "hooks"))
    assert (await post(client, {"id": 9, "kind": "in"})).status_code == 202


async def test_one_that_is_understood_in_between_lets_the_count_begin_anew(
    client: httpx.AsyncClient, database: Database
) -> None:
    await fuse(database, "hooks", "acme")
    for number, kind in enumerate(("odd", "odd", "in", "odd", "odd", "in")):
        assert (await post(client, {"id": number, "kind": kind})).status_code == 202


async def test_a_request_that_blows_the_fuse_is_taken_in_whole(
    client: httpx.AsyncClient, database: Database
) -> None:
    await fuse(database, "hooks", "acme")
    people = {"people": [{"id": None} for _ in range(5)]}
    response = await post(client, people)
    assert response.status_code == 202
    assert len(response.json()["accepted"]) == len(await events_of(database)) == 5
    assert (await post(client, people)).status_code == 503


async def test_one_customer_cannot_stop_the_webhook_of_another(
    client: httpx.AsyncClient, database: Database
) -> None:
    await fuse(database, "hooks", "acme", "globex")
    for number in range(5):
        assert (await post(client, {"id": number, "kind": "odd"})).status_code == 202
