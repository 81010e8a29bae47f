"""Callers whose token has not opened a door yet: what looking at their tokens may cost all of us.

A token that is wrong once is wrong for a moment without another look; a client has so many wrong
ones; and only a few are looked at at the same time, whoever sends them.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from service.clock import Clock
from service.limiting import Buckets, Limit

WRONG_TOKENS: Final = Limit(rate=10.0, burst=50)
"""Of one client: an identity provider left with an expired token gets its 401s from memory."""
_AT_ONCE: Final = 3
_MOST_WAITING: Final = 1_000
_WRONG_FOR: Final = 3.0
_MOST_WRONG: Final = 10_000


class Crowded(Exception):
    """Too many unknown tokens. ``seconds``: when to come again. ``by``: ``client`` or ``process``."""

    def __init__(self, by: str, seconds: float) -> None:
        super().__init__(by)
        self.by = by
        self.seconds = seconds


class Strangers:
    """The bounds. A client is known by the address of its connection, not by what it says."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._clients = Buckets(WRONG_TOKENS)
        self._wrong: dict[bytes, float] = {}
        self._looking = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    def is_wrong(self, digest: bytes) -> bool:
        """Whether this token was wrong a moment ago."""
        until = self._wrong.get(digest)
        return until is not None and self._clock.monotonic() < until

    def remember_wrong(self, digest: bytes) -> None:
        self._wrong.pop(digest, None)  # so that it comes last
        self._wrong[digest] = self._clock.monotonic() + _WRONG_FOR
        if len(self._wrong) > _MOST_WRONG:
            del self._wrong[next(iter(self._wrong))]

    @asynccontextmanager
    async def look(self) -> AsyncGenerator[None]:
        """The right to look at one token. Raises Crowded where too many wait for it."""
        if self._waiting >= _MOST_WAITING:
            raise Crowded("process", 1.0)
        self._waiting += 1
        try:
            await self._looking.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._looking.release()

    def charge(self, client: str) -> None:
        """One unknown token of this client, until it proves right. Raises Crowded."""
        if (wait := self._clients.take(_network(client), self._clock.monotonic())) > 0:
            raise Crowded("client", wait)

    def give_back(self, client: str) -> None:
        """The token was right."""
        self._clients.give_back(_network(client))


def _network(client: str) -> str:
    """An address; of IPv6 its /64, since that many belong to one client."""
    if ":" not in client:
        return client
    try:
        return str(ipaddress.ip_network((client.partition("%")[0], 64), strict=False))
    except ValueError:
        return client
