"""Thin events: durable at once, filled up by what the HR system answers, in order, or told why not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest
from sqlalchemy import select
from starlette.applications import Starlette

from consumers.callers import Callers
from consumers.enrichment import Enricher
from consumers.mappings.packs import checked
from consumers.webhooks import webhook_routes
from operators import reading
from service.directory import (
    credentials,
    discards,
    enrichments,
    mappings,
    organizations,
    replays,
    snapshots,
)
from service.directory import tables as t
from service.directory.database import Database
from service.directory.events import Event
from service.directory.replays import Reading
from service.organizations import Connection, EventSource, Organization
from tests.consumers.hr_system import Answered, HrSystem, listening
from tests.consumers.support import START, events_of


@dataclass
class Hurried:
    """A clock on which a tenth of a second is a second: what waits ten seconds waits one."""

    began: float = field(default_factory=time.monotonic)

    def monotonic(self) -> float:
        return (time.monotonic() - self.began) * 10

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds / 10))


PEPPER = b"a pepper for these tests only....."
CLOCK = Hurried()
THIN = """
mapping: thin
version: 1
rules:
  - subject: payload.id
    id: payload.event
    sequence: payload.sequence
    type: {from: payload.kind, table: {changed: worker.changed, left: worker.terminated}}
    enrich: {ENRICH}
enriched:
  - match: fetched.address
    subject: fetched.id
    effective_at: {from: fetched.from, format: rfc3339}
    attributes: {email: fetched.address, title: fetched.title}
"""
Post = Callable[..., Awaitable[None]]


@pytest.fixture
async def hr() -> AsyncIterator[HrSystem]:
    async with listening() as system:
        yield system


@pytest.fixture
async def post(database: Database, hr: HrSystem) -> AsyncIterator[Post]:
    """Sends payloads to a webhook whose source asks the HR system."""
    acme = Organization(name="acme", connections=(Connection(name="acme-users"),))
    source = EventSource(
        name="hooks",
        organizations=("acme",),
        mapping="thin",
        webhook=True,
        enrichment=hr.enrichment(),
    )
    await declare(database, THIN.replace("{ENRICH}", "required"))
    await database.transact(lambda tx: organizations.apply(tx, acme, CLOCK.now()))
    await apply(database, source)
    token = await database.transact(
        lambda tx: credentials.create(
            tx, organization="acme", door="events", pepper=PEPPER, now=CLOCK.now()
        )
    )
    callers = Callers(database=database, clock=CLOCK, pepper=PEPPER)
    app = Starlette(routes=webhook_routes(database=database, clock=CLOCK, callers=callers))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://events.test",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:

        async def sent(**payload: Any) -> None:
            answer = await client.post(
                "/events/acme/hooks", json={"kind": "changed", "event": "e1", **payload}
            )
            assert answer.status_code == 202, answer.text

        yield sent


async def declare(database: Database, text: str) -> None:
    document, _ = checked(text, where="thin.yaml")
    written = document.model_dump(mode="json", by_alias=True, exclude_unset=True)
    await database.transact(
        lambda tx: mappings.apply(tx, "thin", document.version, written, CLOCK.now())
    )


async def apply(database: Database, source: EventSource) -> None:
    await database.transact(lambda tx: organizations.apply_source(tx, source))


async def reconfigure(database: Database, hr: HrSystem, **changes: Any) -> None:
    (source,) = await database.read(organizations.sources)
    changed = source.model_copy(update={"enrichment": hr.enrichment(**changes)})
    await apply(database, changed)


@asynccontextmanager
async def enriching(database: Database, owner: str = "one") -> AsyncGenerator[None]:
    enricher = Enricher(
        database=database, clock=CLOCK, again=reading.again, owner=owner, looks_every=0.02
    )
    stop = asyncio.Event()
    running = asyncio.create_task(enricher.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 5)


async def events_when(database: Database, state: str, *, number: int = 1) -> list[Event]:
    """All events, once so many of them are in this state."""

    async def held() -> bool:
        found = await events_of(database)
        return sum(event.state == state for event in found) >= number

    await eventually(held)
    return await events_of(database)


async def titles(database: Database) -> dict[str, Any]:
    def work(tx: Any) -> dict[str, Any]:
        rows = tx.execute(t.users.select()).mappings()
        return {row["worker_id"]: (row["worker"] or {}).get("title", [None])[0] for row in rows}

    return await database.read(work)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1000):
        if await holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about within ten seconds")


async def until(holds: Callable[[], bool]) -> None:
    async def held() -> bool:
        return holds()

    await eventually(held)


async def titled(database: Database, expected: dict[str, Any]) -> None:
    async def held() -> bool:
        return await titles(database) == expected

    await eventually(held)


async def worked_off(database: Database) -> None:
    async def held() -> bool:
        return await waiting(database) == 0

    await eventually(held)


async def waiting(database: Database) -> int:
    backlogs = await database.read(enrichments.backlogs)
    return sum(each.waiting for each in backlogs.values())


async def test_a_thin_event_is_accepted_at_once_and_does_what_the_answer_says(
    database: Database, hr: HrSystem, post: Post
) -> None:
    hr.workers["/workers/77"] = {"id": "77", "address": "ann@acme.example", "title": "Nurse"}
    await post(id="77")
    (event,) = await events_of(database)
    assert (event.state, event.user_id, hr.asked) == ("accepted", None, [])
    async with enriching(database):
        await titled(database, {"77": "Nurse"})
    (event,) = await events_of(database)
    assert event.user_id is not None  # and it waits for the account now
    assert await waiting(database) == 0
    assert len(hr.asked) == 1


async def test_an_answer_that_dates_the_change_plans_it(
    database: Database, hr: HrSystem, post: Post
) -> None:
    hr.workers["/workers/77"] = {
        "id": "77",
        "address": "ann@acme.example",
        "from": "2999-01-01T00:00:00Z",
    }
    await post(id="77")
    async with enriching(database):
        await events_when(database, "scheduled")


async def test_of_one_worker_one_at_a_time_and_in_the_order_of_acceptance(
    database: Database, hr: HrSystem, post: Post
) -> None:
    hr.workers["/workers/77"] = {"id": "77", "address": "ann@acme.example"}
    hr.workers["/workers/78"] = {"id": "78", "address": "bob@acme.example"}
    for number in range(3):
        await post(id="77", event=f"a{number}")
    await post(id="78", event="b")
    hr.answers.clear()
    async with enriching(database):
        await until(lambda: hr.at_once == 2)
        await asyncio.sleep(0.2)
        assert sorted(asked.path for asked in hr.asked) == ["/workers/77", "/workers/78"]
        hr.answers.set()
        await worked_off(database)
    assert [asked.path for asked in hr.asked].count("/workers/77") == 3


async def test_an_event_that_repeats_an_id_asks_nobody(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await post(id="77")
    await post(id="77")
    states = [event.state for event in await events_of(database)]
    assert states == ["accepted", "duplicate"]
    assert await waiting(database) == 1


@pytest.mark.parametrize(
    ("answered", "code"),
    [
        (Answered(status=404), "enrichment_not_found"),
        (Answered(body=b"null"), "enrichment_not_found"),
        (Answered(status=400), "enrichment_refused"),
        (Answered(status=302), "enrichment_redirected"),
        (Answered(body=b'{"id": "77"}'), "no_rule_matches"),
        (Answered(body=b'{"id": "78", "address": "x@acme.example"}'), "enrichment_mismatch"),
        (Answered(body=b'{"id": "77", "address": 5, "from": "soon"}'), "invalid_effective_at"),
    ],
)
async def test_without_a_usable_answer_the_event_is_a_dead_letter_that_says_why(
    database: Database, hr: HrSystem, post: Post, answered: Answered, code: str
) -> None:
    hr.failures = [answered]
    await post(id="77")
    async with enriching(database):
        (event,) = await events_when(database, "deadlettered")
    assert (event.error or {})["code"] == code
    assert await titles(database) == {}


async def test_a_system_that_fails_is_asked_again_and_nothing_is_lost(
    database: Database, hr: HrSystem, post: Post
) -> None:
    hr.workers["/workers/77"] = {"id": "77", "address": "ann@acme.example", "title": "Nurse"}
    hr.failures = [Answered(status=503), Answered(body=b"<html>")]
    await post(id="77")
    async with enriching(database):
        await titled(database, {"77": "Nurse"})
    assert len(hr.asked) == 3


async def test_a_refused_credential_lets_the_source_rest_and_says_so(
    database: Database, hr: HrSystem, post: Post
) -> None:
    hr.failures = [Answered(status=401) for _ in range(9)]
    for number in range(6):
        await post(id=str(number), event=str(number))
    await reconfigure(database, hr, at_once=2)
    async with enriching(database):
        await until(lambda: len(hr.asked) == 2)
        await asyncio.sleep(0.3)  # many more looks
    assert len(hr.asked) == 2
    backlog = (await database.read(enrichments.backlogs))["hooks"]
    assert backlog.waiting == 6
    assert (backlog.error or {})["code"] == "enrichment_denied"


async def test_a_source_that_hangs_delays_no_other(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await post(id="77")
    hr.answers.clear()
    async with listening() as other:
        other.workers["/workers/1"] = {"id": "1", "address": "bob@acme.example", "title": "Clerk"}
        (source,) = await database.read(organizations.sources)
        second = source.model_copy(update={"name": "second", "enrichment": other.enrichment()})
        await apply(database, second)
        async with enriching(database):
            await until(lambda: hr.at_once == 1)
            await _also(database, post)
            await titled(database, {"1": "Clerk"})


async def _also(database: Database, post: Post) -> None:
    """An event of the second source, as its webhook would take it in."""
    await post(id="1", event="other")

    def work(tx: Any) -> None:
        tx.execute(
            t.enrichments.update().where(t.enrichments.c.worker_id == "1").values(source="second")
        )

    await database.transact(work)


async def test_events_of_a_source_that_asks_no_more_are_dead_letters(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await post(id="77")
    (source,) = await database.read(organizations.sources)
    await apply(database, source.model_copy(update={"enrichment": None}))
    await post(id="78", event="e2")
    async with enriching(database):
        found = await events_when(database, "deadlettered", number=2)
    assert {(event.error or {})["code"] for event in found} == {"enrichment_missing"}
    assert hr.asked == []


async def test_a_dead_letter_is_asked_for_again_when_it_is_replayed(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await post(id="77")
    async with enriching(database):
        (event,) = await events_when(database, "deadlettered")
        hr.workers["/workers/77"] = {"id": "77", "address": "ann@acme.example", "title": "Nurse"}
        result = await database.transact(
            lambda tx: replays.replay(tx, event.id, read=reading.read, actor="op", now=CLOCK.now())
        )
        assert result.verdict == "replayed"
        await titled(database, {"77": "Nurse"})


async def test_an_event_that_is_discarded_meanwhile_asks_nobody(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await post(id="77")
    (event,) = await events_of(database)
    await database.transact(
        lambda tx: discards.discard(tx, event.id, reason="r", actor="op", now=CLOCK.now())
    )
    assert await waiting(database) == 0


async def test_whoever_is_out_by_a_thin_event_is_out_without_an_answer(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await declare(
        database, THIN.replace("{ENRICH}", "optional").replace("version: 1", "version: 2")
    )
    hr.answers.clear()
    async with enriching(database):
        await post(id="77", kind="left")
        await events_when(database, "succeeded")
        assert hr.asked == []
        await post(id="78", event="e2")
        await until(lambda: bool(hr.asked))


async def test_an_event_that_is_enough_by_itself_acts_alone_where_nothing_can_be_fetched(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await declare(
        database, THIN.replace("{ENRICH}", "optional").replace("version: 1", "version: 2")
    )
    hr.failures = [Answered(status=400)]
    await post(id="77")
    async with enriching(database):
        await worked_off(database)
    (event,) = await events_of(database)
    assert (event.state, event.error) == ("succeeded", None)
    assert len(hr.asked) == 1


async def test_an_event_that_is_enough_by_itself_acts_alone_where_nobody_answers_for_a_day(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await declare(
        database, THIN.replace("{ENRICH}", "optional").replace("version: 1", "version: 2")
    )
    await post(id="77")
    await database.transact(
        lambda tx: tx.execute(t.enrichments.update().values(since=CLOCK.now() - timedelta(days=2)))
    )
    hr.failures = [Answered(status=503)]
    async with enriching(database):
        await worked_off(database)
    (event,) = await events_of(database)
    assert (event.state, event.error) == ("succeeded", None)


@pytest.mark.parametrize(
    ("worker", "code"),
    [
        ({"id": "78", "address": "x@acme.example"}, "enrichment_mismatch"),
        (None, "enrichment_not_found"),
    ],
)
async def test_who_is_another_or_unknown_there_is_not_let_in_by_such_an_event_either(
    database: Database, hr: HrSystem, post: Post, worker: dict[str, Any] | None, code: str
) -> None:
    await declare(
        database, THIN.replace("{ENRICH}", "optional").replace("version: 1", "version: 2")
    )
    hr.workers["/workers/77"] = worker
    await post(id="77")
    async with enriching(database):
        (event,) = await events_when(database, "deadlettered")
    assert (event.error or {})["code"] == code


async def test_thin_lines_of_a_full_export_are_heard_once_they_are_filled_up(
    database: Database, hr: HrSystem, post: Post
) -> None:
    snapshot = THIN.replace("{ENRICH}", "required").replace("version: 1", "version: 2")
    snapshot = snapshot.replace("    enrich:", "    snapshot: payload.run\n    enrich:")
    await declare(database, snapshot)
    for number in ("1", "2"):
        hr.workers[f"/workers/{number}"] = {"id": number, "address": f"{number}@acme.example"}
        await post(id=number, event=number, run="night")
    async with enriching(database):
        await worked_off(database)

    def named(tx: Any) -> int:
        run = snapshots.get(tx, "acme", "night")
        return snapshots.heard(tx, run) if run is not None else 0

    assert await database.read(named) == 2


async def test_while_the_database_is_away_no_more_are_asked_at_once_than_configured(
    database: Database, hr: HrSystem, post: Post
) -> None:
    for number in range(6):
        hr.workers[f"/workers/{number}"] = {"id": str(number), "address": f"{number}@acme.example"}
        await post(id=str(number), event=str(number))
    await reconfigure(database, hr, at_once=2)
    hr.answers.clear()

    def away(*_: object) -> Reading:
        raise OSError("the database is away")

    enricher = Enricher(database=database, clock=CLOCK, again=away, owner="one", looks_every=0.02)
    stop = asyncio.Event()
    running = asyncio.create_task(enricher.run(stop))
    await until(lambda: len(hr.asked) == 2)
    hr.hangs = {hr.asked[1].path}
    hr.answers.set()
    await asyncio.sleep(0.3)  # many more looks
    assert len(hr.asked) == 2
    stop.set()
    await asyncio.wait_for(running, 5)


async def test_a_worker_who_may_not_be_seen_keeps_no_other_from_being_asked_for(
    database: Database, hr: HrSystem, post: Post
) -> None:
    for number in range(6):
        hr.workers[f"/workers/{number}"] = {"id": str(number), "address": f"{number}@acme.example"}
    del hr.workers["/workers/0"]
    hr.denied = {"/workers/0"}
    for number in range(6):
        await post(id=str(number), event=str(number))
    await reconfigure(database, hr, at_once=2)
    async with enriching(database):

        async def held() -> bool:
            return await waiting(database) == 1

        await asyncio.wait_for(eventually(held), 2)


async def test_who_ends_in_the_middle_of_it_leaves_the_event_to_the_next(
    database: Database, hr: HrSystem, post: Post
) -> None:
    hr.workers["/workers/77"] = {"id": "77", "address": "ann@acme.example", "title": "Nurse"}
    await post(id="77")
    hr.answers.clear()
    async with enriching(database, "one"):
        await until(lambda: bool(hr.asked))
    hr.answers.set()
    async with enriching(database, "two"):
        await titled(database, {"77": "Nurse"})


async def test_a_termination_that_gusto_enters_is_planned_for_the_fetched_day(
    database: Database, hr: HrSystem, post: Post
) -> None:
    await read_by(database, hr, "gusto", url=hr.url + "/v1/employees/{worker_id}")
    hr.workers["/v1/employees/g-1"] = {
        "uuid": "g-1",
        "terminated": False,
        "terminations": [{"effective_date": "2099-01-31", "active": False}],
    }
    await post(
        uuid="u-1",
        event_type="employee.terminated",
        entity_type="Employee",
        entity_uuid="g-1",
        timestamp=1790000000,
    )
    async with enriching(database):
        await events_when(database, "scheduled")
    due = await database.read(lambda tx: tx.execute(select(t.schedule.c.due_at)).scalar_one())
    assert due == datetime(2099, 2, 1, 8, tzinfo=UTC)


async def test_whom_hibob_calls_inactivated_is_asked_for_by_post(
    database: Database, hr: HrSystem, post: Post
) -> None:
    asked = {"fields": ["internal.lifecycleStatus"], "humanReadable": "APPEND"}
    await read_by(database, hr, "hibob", url=hr.url + "/v1/people/{worker_id}", body=asked)
    hr.workers["/v1/people/34"] = {"id": "34", "internal": {"lifecycleStatus": "Terminated"}}
    await post(
        companyId=1,
        type="employee.inactivated",
        triggeredAt="2026-03-01T00:00:07.120000",
        data={"employeeId": "34"},
    )
    async with enriching(database):
        await events_when(database, "succeeded")
    assert [(each.method, orjson.loads(each.body)) for each in hr.asked] == [("POST", asked)]
    employment = select(t.users.c.employment).where(t.users.c.worker_id == "34")
    found = await database.read(lambda tx: tx.execute(employment).scalar_one())
    assert found == "terminated"


async def read_by(database: Database, hr: HrSystem, mapping: str, **asks: Any) -> None:
    (source,) = await database.read(organizations.sources)
    changes = {"mapping": mapping, "enrichment": hr.enrichment(**asks)}
    await apply(database, source.model_copy(update=changes))
