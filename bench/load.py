"""A bounded load from one process on loopback: so many connections for so many seconds."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a load saw. Times in milliseconds."""

    name: str
    requests: int
    per_second: float
    p50: float
    p99: float
    failures: int

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


Request = Callable[[aiohttp.ClientSession, int], Awaitable[int]]
"""Makes the n-th request and returns its status."""


async def load(name: str, request: Request, *, connections: int, seconds: float) -> Measured:
    """Closed loop: each connection sends its next request when it has the last answer."""
    took: list[float] = []
    failures = 0
    number = 0
    deadline = time.perf_counter() + seconds

    async def one(session: aiohttp.ClientSession) -> None:
        nonlocal failures, number
        while time.perf_counter() < deadline:
            number += 1
            began = time.perf_counter()
            status = await request(session, number)
            took.append(time.perf_counter() - began)
            failures += status >= 400

    began = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(one(session) for _ in range(connections)))
    elapsed = time.perf_counter() - began
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
    return Measured(
        name=name,
        requests=len(took),
        per_second=round(len(took) / elapsed, 1),
        p50=round(cuts[49] * 1000, 2),
        p99=round(cuts[98] * 1000, 2),
        failures=failures,
    )
