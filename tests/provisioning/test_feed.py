"""The feed goes on whatever a tenant sends, costs no more than it may, and what it missed is found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from service.auth0.calls import http_client
from service.auth0.pacing import Pacer
from service.directory import appearances, drift
from service.directory import tables as t
from tests.faults import proves
from tests.provisioning.logins import blocked, follow, followed, log_in
from tests.provisioning.test_leavers_at_identity_providers import set_account
from tests.provisioning.world import World

EVE = "eve@metahexa.example"


class _Sent(httpx.AsyncByteStream):
    """A stream of events that stays open."""

    def __init__(self, *messages: dict[str, Any], ends: bool = False) -> None:
        self._messages = messages
        self._ends = ends

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b":connected\n\n"
        for each in self._messages:
            yield f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode()
        if not self._ends:
            await asyncio.sleep(3600)

    async def aclose(self) -> None:
        return None


def stream(sent: _Sent) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=sent)


class Telling(httpx.AsyncBaseTransport):
    """The tenant, but for its feed, which is as the test says. Counts how often it is opened."""

    def __init__(self, answer: Any) -> None:
        self._real = httpx.AsyncHTTPTransport()
        self._answer = answer
        self.queries: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return await self._real.handle_async_request(request)
        self.queries.append(request.url.query.decode())
        answer: httpx.Response = self._answer(request)
        return answer

    async def aclose(self) -> None:
        await self._real.aclose()


def telling(world: World, answer: Any, **lanes: Any) -> Telling:
    transport = Telling(answer)
    http = http_client()
    http._transport = transport  # pyright: ignore[reportPrivateUsage]
    world.work(world.lanes(feed=True, http=http, **lanes))
    return transport


def event(kind: str, offset: str, at: str = "2026-11-23T07:00:00Z", **user: Any) -> dict[str, Any]:
    content = {"type": kind, "time": at, "data": {"object": user}}
    return {"type": kind, "offset": offset, "event": content}


def identity_of(id: str) -> list[dict[str, str]]:
    return [{"connection": "metahexa-ad", "user_id": id, "provider": "waad"}]


async def _looks(world: World) -> list[int]:
    looked = await world.database.read(lambda tx: tx.execute(select(t.accounts.c.looked)).all())
    return [row.looked for row in looked]


@proves("feed: rate limit", "feed: place too old")
@pytest.mark.parametrize(
    "answer",
    [
        lambda _: httpx.Response(429, headers={"retry-after": "0"}, json={}),
        lambda _: httpx.Response(410, json={"message": "Cursor points to data no longer there."}),
        lambda _: stream(_Sent(ends=True)),
    ],
    ids=["429", "410", "ends at once"],
)
async def test_a_feed_that_is_no_good_is_not_asked_for_again_and_again(
    world: World, answer: Any
) -> None:
    feed = telling(world, answer)
    await asyncio.sleep(1.2)
    assert 1 <= len(feed.queries) <= 4


async def test_a_moment_that_auth0_does_not_take_is_given_up(world: World) -> None:
    await world.database.transact(
        lambda tx: appearances.store_feed(
            tx, "main", newest_at=datetime(9999, 12, 31, 23, 59, tzinfo=UTC), marks={}
        )
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if "from_timestamp" in request.url.params:
            return httpx.Response(400, json={"message": "from_timestamp lies ahead"})
        return stream(_Sent())

    feed = telling(world, answer)

    async def asked_from_now() -> bool:
        return bool(feed.queries) and "from_timestamp" not in feed.queries[-1]

    await world.until(asked_from_now, 3.0)


async def test_a_moment_that_lies_ahead_is_not_believed(world: World) -> None:
    at = "9999-12-31T23:59:59-12:00"
    sent = _Sent(event("user.updated", "o1", at, user_id="waad|x"))
    telling(world, lambda _: stream(sent))

    async def heard() -> bool:
        return (await followed(world)).newest_at is not None

    await world.until(heard)
    newest = (await followed(world)).newest_at
    assert newest is not None
    assert newest <= datetime.now(UTC)


async def test_an_event_that_cannot_be_taken_in_keeps_no_other_back(postgres_world: World) -> None:
    world = postgres_world
    await log_in(world, "E123@metahexa.example", subject="stable-1")
    await world.join("metahexa", EVE, active=False, externalId="stable-1")
    profile = {"user_id": "waad|stable-1", "email": "E123@metahexa.example"}
    sent = _Sent(
        event("user.created", "o1", user_id="waad|\0", email="\0@x", identities=identity_of("\0")),
        event("user.created", "o2", **profile, identities=identity_of("stable-1")),
    )
    telling(world, lambda _: stream(sent))
    await blocked(world, "E123@metahexa.example")

    async def stored() -> bool:
        return (await followed(world)).cursor == "o2"

    await world.until(stored)


async def test_what_a_lost_place_has_hidden_is_compared(world: World) -> None:
    await follow(world)
    await world.rest()
    await world.database.transact(
        lambda tx: appearances.store_feed(tx, "main", cursor="MS4wIDE=", newest_at=None)
    )
    assert await world.database.read(lambda tx: drift.next_open(tx, "main")) is None
    await follow(world)

    async def asked() -> bool:
        check = await world.database.read(lambda tx: drift.next_open(tx, "main"))
        return check is not None and check.asked_by == "feed" and not check.correct

    await world.until(asked)


async def test_a_feed_that_is_open_and_silent_hides_nobody_for_ever(world: World) -> None:
    telling(world, lambda _: stream(_Sent()), sweep_beside=0.2)
    await world.join("metahexa", EVE, active=False, externalId="stable-1")

    async def looked_for() -> bool:
        """By name; the next time is minutes away."""
        return (await followed(world)).heard_at is not None and await _looks(world) != [0]

    await world.until(looked_for)
    await asyncio.sleep(0.1)
    await world.settled()
    await log_in(world, "E123@metahexa.example", subject="stable-1")
    await blocked(world, "E123@metahexa.example")


async def test_more_new_users_than_search_shows_have_everyone_looked_for(world: World) -> None:
    """Search ends after a thousand: whoever came before them was not seen."""
    eve = await world.join("metahexa", EVE, active=False)
    world.work()
    await world.settled()
    await world.rest()
    await world.database.transact(
        lambda tx: appearances.store_feed(
            tx, "main", marks={"metahexa-ad": "2020-01-01T00:00:00+00:00"}
        )
    )
    await set_account(world, eve, look_at=datetime(2050, 1, 1, tzinfo=UTC))
    users = [
        {"user_id": f"waad|n{n}", "email": f"n{n}@x.example", "created_at": "2026-11-23T07:00:00Z"}
        for n in range(100)
    ]
    page = {"users": users, "start": 0, "limit": 100, "length": 100, "total": 5000}
    await world.fault("status", "GET", "/events", status=404)
    await world.fault("status", "GET", "/users", status=200, body=page)
    quick = Pacer("enterprise", world.clock, share=1.0)
    world.work(world.lanes(feed=True, sweep=0.2, pacer=quick))

    async def looked_for() -> bool:
        return await _looks(world) == [2]

    await world.until(looked_for)


async def test_an_organization_that_cannot_be_read_keeps_no_other_from_being_followed(
    world: World,
) -> None:
    """As where an earlier release stored what a later one refuses."""
    broken = {"name": "clinic-a", "model": "no such model"}
    await world.database.transact(
        lambda tx: tx.execute(
            update(t.organizations)
            .values(document=broken)
            .where(t.organizations.c.name == "clinic-a")
        )
    )
    await follow(world)
    await world.join("metahexa", EVE, active=False)
    await world.settled()
    await log_in(world, "Eve@MetaHexa.example")
    await blocked(world, "Eve@MetaHexa.example")
