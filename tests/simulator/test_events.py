"""The feed of events: what it tells, where it starts, when it refuses."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from auth0.management import AsyncAuth0
from auth0.management.errors import ForbiddenError

from service.auth0.simulator.event_feed import FeedTraits
from service.auth0.simulator.lag import NO_LAG
from tests.provisioning.world import Simulator
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

QUIET = FeedTraits(heartbeat=0.05, lifetime=300.0, repeats=0.0)


@asynccontextmanager
async def _served(folder: Path, **options: Any) -> AsyncGenerator[Auth0]:
    simulator = Simulator(folder, **options)
    url = await simulator.start()
    async with httpx.AsyncClient(base_url=url) as http:
        caller = Auth0(http)
        await caller.sign_in()
        yield caller
    await simulator.stop()


@asynccontextmanager
async def _subscribed(auth0: Auth0, **query: Any) -> AsyncGenerator[AsyncIterator[Any]]:
    """A stream of the SDK's, open from the first message that is read."""
    async with httpx.AsyncClient(timeout=60.0) as http:
        sdk = AsyncAuth0(
            base_url=f"{str(auth0.http.base_url).rstrip('/')}/api/v2",
            token=auth0.token,
            httpx_client=http,
        )
        stream: Any = sdk.events.subscribe(**query)
        async with aclosing(stream):
            yield stream


async def _read(stream: AsyncIterator[Any], events: int) -> list[Any]:
    """So many events or more, up to the offset alone which says that there are no more."""
    told: list[Any] = []
    async for message in stream:
        told.append(message)
        if len(_types(told)) >= events and not hasattr(message, "event"):
            return told
    raise AssertionError(f"Auth0 closed the stream after {told}")


async def _told(auth0: Auth0, events: int, **query: Any) -> list[Any]:
    async with _subscribed(auth0, **query) as stream:
        return await _read(stream, events)


def _types(messages: list[Any]) -> list[str]:
    return [str(message.event.type) for message in messages if hasattr(message, "event")]


async def test_everything_that_is_done_to_users_and_members_is_told(tmp_path: Path) -> None:
    async with _served(tmp_path, feed=QUIET) as auth0, _subscribed(auth0) as stream:
        assert _types(await _read(stream, 0)) == []
        user = await auth0.create_user("ada@hoekstra.example")
        members = f"/organizations/{await auth0.organization()}/members"
        roles = f"{members}/{user['user_id']}/roles"
        wanted = {"roles": [await auth0.role()]}
        await auth0.post(members, {"members": [user["user_id"]]})
        await auth0.post(roles, wanted)
        await auth0.send("DELETE", roles, wanted)
        await auth0.send("DELETE", members, {"members": [user["user_id"]]})
        await auth0.send("PATCH", f"/users/{user['user_id']}", {"blocked": True})
        await auth0.send("DELETE", f"/users/{user['user_id']}")
        await auth0.login("eve@metahexa.example", "metahexa-ad")
        told = await _read(stream, 8)
    assert _types(told) == [
        "user.created",
        "organization.member.added",
        "organization.member.role.assigned",
        "organization.member.role.deleted",
        "organization.member.deleted",
        "user.updated",
        "user.deleted",
        "user.created",
    ]
    assert any(not hasattr(message, "event") for message in told)  # offsets alone


async def test_a_stream_goes_on_after_the_offset_that_it_is_given(tmp_path: Path) -> None:
    async with _served(tmp_path, feed=QUIET) as auth0:
        async with _subscribed(auth0) as stream:
            await _read(stream, 0)
            await auth0.create_user("ada@hoekstra.example")
            offset = (await _read(stream, 1))[-1].offset
        await auth0.create_user("bob@hoekstra.example")
        after = await _told(auth0, 1, from_=offset)
        assert [m.event.data.object.email for m in after if hasattr(m, "event")] == [
            "bob@hoekstra.example"
        ]
        everything = await _told(auth0, 2, from_timestamp="2020-01-01T00:00:00Z")
        assert _types(everything).count("user.created") == 2
        chosen = await _told(
            auth0, 0, from_timestamp="2020-01-01T00:00:00Z", event_type=["user.deleted"]
        )
        assert _types(chosen) == []


async def test_events_come_late_out_of_order_and_twice_but_none_is_left_out(
    tmp_path: Path, clock: Clock
) -> None:
    options: dict[str, Any] = {
        "feed": replace(QUIET, repeats=0.5),
        "lag": replace(NO_LAG, events=(0.0, 0.3)),
        "clock": clock,
    }
    async with (
        _served(tmp_path, **options) as auth0,
        _subscribed(auth0, event_type=["user.created"]) as stream,
    ):
        await _read(stream, 0)
        made = [f"p{n}@hoekstra.example" for n in range(12)]
        for address in made:
            await auth0.create_user(address)
        assert _types(await _read(stream, 0)) == []  # late
        told: list[str] = []
        while not set(made) <= set(told):
            clock.advance(0.1)
            told += [
                m.event.data.object.email for m in await _read(stream, 0) if hasattr(m, "event")
            ]
    assert set(told) == set(made)
    assert len(told) > len(made)
    assert list(dict.fromkeys(told)) != made


async def test_a_plan_has_so_many_streams_at_once(tmp_path: Path) -> None:
    async with _served(tmp_path, feed=replace(QUIET, connections=1)) as auth0:
        async with _subscribed(auth0) as stream:
            await _read(stream, 0)
            refusal = await auth0.refused("GET", "/events")
            assert refusal["statusCode"] == 403
            assert "concurrent event stream" in refusal["message"]
        await _until_admitted(auth0)


async def _until_admitted(auth0: Auth0) -> None:
    """The end of a connection is seen a moment after it."""
    async with asyncio.timeout(30.0):
        while True:
            with suppress(ForbiddenError):
                await _told(auth0, 0)
                return
            await asyncio.sleep(0.01)


async def test_auth0_closes_a_stream_when_its_time_is_over(tmp_path: Path) -> None:
    async with _served(tmp_path, feed=replace(QUIET, connections=1, lifetime=0.2)) as auth0:
        for _ in range(2):  # which makes room
            async with _subscribed(auth0) as stream:
                assert _types([message async for message in stream]) == []


async def test_a_place_is_refused_when_it_is_too_old_or_none(
    open_tenant: OpenTenant, clock: Clock
) -> None:
    auth0 = await open_tenant()
    old = base64.urlsafe_b64encode(f"{clock.now!r} 1".encode()).decode()
    clock.advance(300_000)
    await auth0.sign_in()
    assert (await auth0.refused("GET", "/events", **{"from": old}))["statusCode"] == 410
    assert (await auth0.refused("GET", "/events", **{"from": "?"}))["statusCode"] == 400
    both = {"from": old, "from_timestamp": "2026-01-01T00:00:00Z"}
    assert (await auth0.refused("GET", "/events", **both))["statusCode"] == 400


@pytest.mark.parametrize("scopes", [["read:users"], []])
async def test_the_feed_needs_its_scope(open_tenant: OpenTenant, scopes: list[str]) -> None:
    auth0 = await open_tenant()
    await auth0.control("clients", {"client_id": "narrow", "scopes": scopes})
    await auth0.sign_in(client_id="narrow")
    refusal = await auth0.refused("GET", "/events")
    assert refusal["message"] == "Insufficient scope, expected any of: read:events"
