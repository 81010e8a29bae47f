"""`GET /events`: the feed of happenings as server-sent events, resumed by offset.

Sources: Auth0's page "Consume Events with the Events API" (messages, resuming, limits by plan,
connections closed every few minutes) and the OpenAPI document (parameters, refusals).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from service.auth0.simulator import happenings
from service.auth0.simulator.errors import Refusal, bad_query
from service.auth0.simulator.happenings import BadOffset, Offset
from service.auth0.simulator.limits import Plan
from service.auth0.simulator.operation import Answer, Call, Operation, World

CONNECTIONS: Final[dict[Plan, int]] = {"free": 1, "professional": 4, "enterprise": 8}
"""How many streams of a tenant may be open at once, by plan."""

MOST_OFFSET: Final = 1024
_LOOK: Final = 0.25
"""Seconds after which delayed events are looked for where nobody says that one is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTraits:
    """How the feed behaves. Times in seconds.

    connections: streams of one tenant at once.
    heartbeat: between two messages that only move the offset.
    lifetime: after which a connection is closed, as for balancing load.
    repeats: the chance that an event is sent twice.
    """

    connections: int = CONNECTIONS["enterprise"]
    heartbeat: float = 10.0
    lifetime: float = 300.0
    repeats: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A stream that a call has opened."""

    tenant: str
    offset: Offset
    kinds: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Subscribers:
    """Who listens to which tenant."""

    _listening: dict[str, list[asyncio.Event]] = field(
        default_factory=dict[str, list[asyncio.Event]]
    )

    def count(self, tenant: str) -> int:
        return len(self._listening.get(tenant, ()))

    def wake(self, tenant: str) -> None:
        for one in self._listening.get(tenant, ()):
            one.set()

    @contextmanager
    def listening(self, tenant: str) -> Generator[asyncio.Event]:
        stirred = asyncio.Event()
        listeners = self._listening.setdefault(tenant, [])
        listeners.append(stirred)
        try:
            yield stirred
        finally:
            listeners.remove(stirred)


def subscribe(call: Call) -> Answer:
    """Checks a call for the feed; the stream itself is `messages`."""
    world, query = call.world, call.query
    kinds = tuple(kind for kind in (query.text("event_type") or "").split(",") if kind)
    if unknown := sorted(set(kinds) - happenings.TYPES):
        raise Refusal(status=400, message=f"Unsupported event type: {unknown[0]}")
    happenings.forget_old(world)
    offset = _start(world, query.text("from"), query.text("from_timestamp"))
    return Answer(stream=Subscription(tenant=world.tenant, offset=offset, kinds=kinds))


def _start(world: World, cursor: str | None, since: str | None) -> Offset:
    if cursor is not None and since is not None:
        raise bad_query("from and from_timestamp exclude each other")
    if since is not None:
        return _since(since)
    if cursor is None:
        return happenings.newest(world)
    try:
        if len(cursor) > MOST_OFFSET:
            raise BadOffset
        offset = happenings.read(cursor)
    except BadOffset:
        raise Refusal(status=400, message="Invalid cursor format.") from None
    if happenings.is_expired(world, offset):
        raise Refusal(
            status=410, message="Cursor points to data no longer available in the stream."
        )
    return offset


def _since(text: str) -> Offset:
    try:
        if len(text) > 20:
            raise ValueError
        return datetime.fromisoformat(text).timestamp(), -1
    except ValueError:
        raise bad_query("from_timestamp must be an RFC 3339 timestamp of 20 characters") from None


def refuse_too_many() -> Refusal:
    return Refusal(
        status=403,
        message="Maximum concurrent event stream connections reached."
        " Please close existing connections.",
    )


async def messages(
    subscription: Subscription,
    stirred: asyncio.Event,
    traits: FeedTraits,
    world_of: Callable[[str], Any],
) -> AsyncGenerator[bytes]:
    """The stream as bytes, until its lifetime is over. `world_of` opens a transaction in a tenant."""
    yield b":connected\n\nretry: 200\n\n"
    loop = asyncio.get_running_loop()
    offset, ends = subscription.offset, loop.time() + traits.lifetime
    beats = loop.time() + traits.heartbeat
    while loop.time() < ends:
        stirred.clear()
        with world_of(subscription.tenant) as world:
            found = happenings.after(world, offset, subscription.kinds)
            repeated = [world.random.random() < traits.repeats for _ in found]
            newest = happenings.newest(world)
        for row, again in zip(found, repeated, strict=True):
            offset = float(row["due"]), int(row["seq"])
            body = {
                "type": row["type"],
                "offset": happenings.written(offset),
                "event": json.loads(row["document"]),
            }
            yield _message(row["type"], body) * (2 if again else 1)
        if found:
            continue
        if loop.time() >= beats:
            beats = loop.time() + traits.heartbeat
            offset = max(offset, newest)
            body = {"type": "offset-only", "offset": happenings.written(offset)}
            yield _message("offset-only", body) + b": heartbeat\n\n"
        try:
            await asyncio.wait_for(stirred.wait(), min(_LOOK, traits.heartbeat))
        except TimeoutError:
            continue


def _message(kind: str, body: dict[str, Any]) -> bytes:
    return f"event: {kind}\nid: {body['offset']}\ndata: {json.dumps(body)}\n\n".encode()


OPERATIONS = (Operation("GET", "/events", "events", ("read:events",), subscribe),)
