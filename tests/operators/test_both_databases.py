"""What operators do and see, on SQLite and on Postgres alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from operators import reading, showing
from operators.console import routes as console_routes
from service.clock import SystemClock
from service.directory import (
    accounts,
    audit,
    discards,
    ending,
    inbox,
    locks,
    organizations,
    outbox,
    overview,
    people,
    replays,
    users,
    workers,
)
from service.directory.database import Database, Transaction, open_database
from service.directory.events import Filter, Problem
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.organizations import Organization
from service.people import User
from service.workers import WorkerEvent
from tests.infrastructure.schema import migrated_sqlite
from tests.operators.house import acme, hired

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
UNMAPPED = Problem(kind="input", code="unmapped_type", message="No mapping knows this type.")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "directory.db")
    return request.getfixturevalue("postgres_migrated")


@pytest.fixture
async def database(database_url: str) -> AsyncGenerator[Database]:
    opened = open_database(database_url)
    await opened.transact(lambda tx: organizations.apply(tx, acme(), NOW))
    yield opened
    await opened.close()


def registered() -> Registered:
    organization: Organization = acme()
    return Registered(organization=organization, version=1)


async def a_user(database: Database, name: str = "ada@acme.example") -> User:
    received = Received(door="scim", source="scim", type="scim.user.created", at=NOW)
    resource = {"userName": name, "emails": [{"value": name, "primary": True}]}
    return await database.transact(lambda tx: users.create(tx, registered(), resource, received))


async def a_dead_letter(database: Database, body: bytes) -> str:
    received = Received(door="http", source="//hr", type="x", at=NOW, body=body)

    def work(tx: Transaction) -> str:
        event_id = inbox.admit(tx, received, "acme").event_id
        ending.finish(tx, event_id, "deadlettered", now=NOW, problem=UNMAPPED)
        return event_id

    return await database.transact(work)


async def test_trouble_is_counted_by_cause_until_an_operator_deals_with_it(
    database: Database,
) -> None:
    first = await a_dead_letter(database, hired("1"))
    second = await a_dead_letter(database, b"{")
    before = await database.read(overview.summary)

    replayed = await database.transact(
        lambda tx: replays.replay(tx, first, read=reading.read, actor="kim", now=NOW)
    )
    aside = await database.transact(
        lambda tx: discards.discard(tx, second, reason="known", actor="kim", now=NOW)
    )
    after = await database.read(overview.summary)

    assert [(each.code, each.count) for each in before.trouble] == [("unmapped_type", 2)]
    assert (replayed.verdict, aside.verdict) == ("replayed", "set-aside")
    assert after.trouble == ()
    assert await database.read(lambda tx: overview.event_ids(tx, Filter(), trouble=True)) == {}


async def test_summary_counts_users_events_and_paused_tenants(database: Database) -> None:
    await a_user(database)
    worker = WorkerEvent(type="worker.hired", worker_id="1", effective_at=NOW + timedelta(days=1))
    received = Received(door="http", source="//hr", type="worker.hired", at=NOW)
    await database.transact(lambda tx: workers.accept(tx, registered(), worker, received))

    seen = await database.read(overview.summary)

    assert seen.users == {"acme": {"pending": 1}}
    assert seen.open_events == {"accepted": 1, "scheduled": 1}
    assert seen.paused == ()


async def test_locks_are_told_shown_and_written_down(database: Database) -> None:
    user = await a_user(database)

    locked = await database.transact(
        lambda tx: locks.block(tx, user.id, actor="kim", reason="lost laptop", now=NOW)
    )
    event_id = str(locked.event_id)
    event = await database.read(lambda tx: showing.event(tx, event_id))
    shown = await database.read(
        lambda tx: showing.user(tx, overview.the_user(tx, "acme", "ADA@acme.example"), NOW)
    )
    lifted = await database.transact(lambda tx: locks.unblock(tx, user.id, actor="kim", now=NOW))

    assert event.waits_for
    assert shown.causes == ["locked-by-operator"]
    assert {moment.what for moment in shown.timeline} >= {"operator.block", "scim.user.created"}
    assert lifted.causes == frozenset()
    entries = await database.read(lambda tx: audit.listing(tx, organization="acme"))
    assert [entry.action for entry in entries] == ["user.block", "user.unblock"]


async def test_decommissioning_makes_every_account_due_and_one_event_wait(
    database: Database,
) -> None:
    residents = [await a_user(database, f"u{number}@acme.example") for number in range(3)]
    later = NOW + timedelta(minutes=1)

    ended = await database.transact(
        lambda tx: locks.decommission(tx, "acme", actor="kim", now=later)
    )

    assert ended.accounts == 3
    for resident in residents:
        account = await database.read(
            lambda tx, account_id=str(resident.account_id): accounts.get(tx, account_id)
        )
        assert account is not None
        assert (account.revision, account.due_at) == (2, NOW)  # due before, it keeps its place
        user = await database.read(lambda tx, user_id=resident.id: people.get(tx, user_id))
        assert user is not None
        assert user.state == "pending"


async def test_newest_outcomes_come_last(database: Database) -> None:
    for _ in range(3):
        await a_dead_letter(database, b"{")

    newest = await database.read(lambda tx: outbox.listing(tx, limit=2, newest=True))

    assert [outcome.number for outcome in newest] == [2, 3]


@pytest.mark.parametrize(
    "path",
    [
        *("events/%00", "users/%00", "users?q=%00", "events?user=a%00", "events?organization=%00"),
        *("events?state=%00", "events?error=%00", "events?since=%00"),
        *(f"events?before={'9' * 30}", "events?before=%C2%B2", "events?since=999999w"),
    ],
)
async def test_the_console_answers_whatever_it_is_asked(database: Database, path: str) -> None:
    mounted = Mount(
        "/console",
        routes=console_routes(database=database, clock=SystemClock(), password=None, open=True),
    )
    transport = httpx.ASGITransport(app=Starlette(routes=[mounted]))
    async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
        answer = await client.get(f"/console/{path}")
    assert answer.status_code in (200, 404)
    assert answer.headers["content-type"].startswith("text/html")
