"""How much the doors for events bear: wrong tokens cost little, and an organization sends so many."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from consumers.callers import Callers
from consumers.cloudevents import BATCH
from consumers.http import event_routes
from consumers.webhooks import webhook_routes
from service.directory import credentials, organizations
from service.directory.database import Database, Work
from service.limiting import UNLIMITED, Limit
from service.organizations import Connection, Organization
from service.strangers import WRONG_TOKENS
from tests.consumers.support import START, SetClock

PEPPER = b"a pepper for these tests only....."
LIMIT = Limit(rate=10.0, burst=20)


@dataclass
class Counting:
    """A database that counts who asks it."""

    database: Database
    asked: int = 0

    async def transact(self, work: Work[Any]) -> Any:
        return await self.database.transact(work)

    async def read(self, work: Work[Any]) -> Any:
        self.asked += 1
        return await self.database.read(work)

    async def look_up(self, work: Work[Any]) -> Any:
        return await self.database.look_up(work)

    async def close(self) -> None:
        await self.database.close()


@dataclass
class Site:
    http: httpx.AsyncClient
    tokens: dict[str, str]
    database: Counting
    clock: SetClock
    refused: list[str] = field(default_factory=list[str])

    async def send(
        self, number: int = 1, *, to: str = "acme", token: str | None = None
    ) -> httpx.Response:
        """So many events that no others repeat."""
        sent = [
            {
                "specversion": "1.0",
                "id": f"{self.clock.now().timestamp()}-{at}",
                "source": "/hr",
                "type": "worker.changed",
                "data": {"worker_id": "w-1"},
            }
            for at in range(number)
        ]
        headers = {"Authorization": f"Bearer {token or self.tokens[to]}", "Content-Type": BATCH}
        return await self.http.post(f"/events/{to}", content=json.dumps(sent), headers=headers)


@asynccontextmanager
async def opened(database: Database, limit: Limit = UNLIMITED) -> AsyncGenerator[Site]:
    counting, clock, tokens, refused = Counting(database), SetClock(), dict[str, str](), list[str]()
    for name in ("acme", "initech"):
        declared = Organization(name=name, connections=(Connection(name=f"{name}-users"),))
        await database.transact(lambda tx, it=declared: organizations.apply(tx, it, START))
        tokens[name] = await database.transact(
            lambda tx, of=name: credentials.create(
                tx, organization=of, door="events", pepper=PEPPER, now=START
            )
        )
    callers = Callers(
        database=counting,
        clock=clock,
        pepper=PEPPER,
        limit=limit,
        on_refused=refused.append,
    )
    given: dict[str, Any] = {"database": counting, "clock": clock, "callers": callers}
    app = Starlette(routes=[*webhook_routes(**given), *event_routes(**given)])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://events.test"
    ) as http:
        yield Site(http=http, tokens=tokens, database=counting, clock=clock, refused=refused)


def wrong(number: int) -> str:
    return f"ap_{number:032x}_{'x' * 43}"


async def test_an_organization_over_its_limit_waits_and_others_do_not(database: Database) -> None:
    async with opened(database, LIMIT) as site:
        statuses = [(await site.send()).status_code for _ in range(21)]
        assert statuses == [202] * 20 + [429]
        over = await site.send()
        assert over.headers["retry-after"] == "1"
        assert over.json()["code"] == "too_many_requests"
        assert site.refused == ["organization"] * 2
        assert (await site.send(to="initech")).status_code == 202
        await site.clock.sleep(1)
        assert [(await site.send()).status_code for _ in range(11)] == [202] * 10 + [429]


async def test_a_batch_counts_as_what_it_holds(database: Database) -> None:
    async with opened(database, LIMIT) as site:
        assert (await site.send(70)).status_code == 202
        over = await site.send()
        assert (over.status_code, over.headers["retry-after"]) == (429, "6")
        await site.clock.sleep(6)
        assert (await site.send()).status_code == 202


async def test_both_doors_spend_one_budget(database: Database) -> None:
    async with opened(database, LIMIT) as site:
        headers = {"Authorization": f"Bearer {site.tokens['acme']}"}
        for _ in range(20):
            answer = await site.http.post("/events/acme/unknown", headers=headers)
            assert answer.status_code == 404
        assert (await site.send()).status_code == 429


async def test_wrong_tokens_spend_nothing_of_an_organization_s_budget(database: Database) -> None:
    async with opened(database, LIMIT) as site:
        for number in range(30):
            assert (await site.send(token=wrong(number))).status_code == 401
        assert (await site.send()).status_code == 202


async def test_a_client_has_so_many_wrong_tokens_and_right_ones_pass_by(
    database: Database,
) -> None:
    async with opened(database) as site:
        assert (await site.send()).status_code == 202
        burst = WRONG_TOKENS.burst
        statuses = [(await site.send(token=wrong(n))).status_code for n in range(burst + 5)]
        assert statuses == [401] * burst + [429] * 5
        assert set(site.refused) == {"client"}
        late = await site.send(token=wrong(burst + 9))
        assert late.headers["retry-after"].isdecimal()
        assert (await site.send()).status_code == 202  # known from before


async def test_one_wrong_token_over_and_over_is_looked_up_once_in_a_while(
    database: Database,
) -> None:
    async with opened(database) as site:
        for _ in range(200):
            assert (await site.send(token=wrong(1))).status_code == 401
        assert site.database.asked == 1
        await site.clock.sleep(4)
        await site.send(token=wrong(1))
        assert site.database.asked == 2


@pytest.mark.parametrize("token", ["", "nothing", "ap_zz_short", "ap_" + "0" * 9000])
async def test_what_can_be_no_token_is_not_looked_up(database: Database, token: str) -> None:
    async with opened(database) as site:
        for _ in range(100):
            assert (await site.send(token=token or " ")).status_code == 401
        assert site.database.asked == 0


async def test_a_revoked_token_opens_nothing_any_more(database: Database) -> None:
    async with opened(database) as site:
        assert (await site.send()).status_code == 202
        (made,) = await database.read(lambda tx: credentials.listing(tx, "acme", "events"))
        await database.transact(lambda tx: credentials.revoke(tx, "acme", made.id, START))
        assert (await site.send()).status_code == 401


async def test_without_a_limit_nobody_waits(database: Database) -> None:
    async with opened(database) as site:
        assert {(await site.send(100)).status_code for _ in range(5)} == {202}
        assert site.refused == []
