"""What something costs the process that does it: time of the event loop and of the database, memory,
processor, and calls to Auth0. Knows nothing of what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.budgets import Budget
from bench.usage import peak_megabytes, queued_seconds
from service.directory.database import Alike, Database, T, Transaction, Work
from service.memory import look_for_garbage_seldom
from tests.provisioning.world import World

_TICK: Final = 0.005


@dataclass(slots=True, kw_only=True)
class Watched:
    """Times in seconds, waits for a core aside; memory in megabytes.

    ``database``: within transactions and reads, together; ``longest``: of them, and ``longest_is`` the
    function that it was; ``stood_still``: the longest that the event loop did; ``grown``: the peak of memory
    meanwhile, beyond what there was. ``calls``: by endpoint group; ``limited``: of them, 429s.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    database: float = 0.0
    longest: float = 0.0
    longest_is: str = ""
    transactions: int = 0
    stood_still: float = 0.0
    grown: float = 0.0
    limited: int = 0
    calls: dict[str, int] = field(default_factory=dict[str, int])

    def budgets(self) -> list[Budget]:
        """What any work in the background is to keep to, however much there is of it."""
        return [
            Budget(what="MB of memory beyond", wanted=64, measured=round(self.grown, 1)),
            Budget(
                what="ms that the event loop stood still",
                wanted=100,
                measured=round(self.stood_still * 1000, 1),
            ),
            Budget(
                what="ms of the longest transaction",
                wanted=100,
                measured=round(self.longest * 1000, 1),
            ),
        ]


class TimedDatabase:
    """A database that notes how long it was at work, not how long one waited for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.seen = Watched()

    async def transact(self, work: Work[T]) -> T:
        if isinstance(work, Alike):  # written together with others like it
            return await self._database.transact(work)
        return await self._database.transact(self._timed(work))

    async def read(self, work: Work[T]) -> T:
        return await self._database.read(self._timed(work))

    async def look_up(self, work: Work[T]) -> T:
        return await self._database.look_up(self._timed(work))

    async def close(self) -> None:
        await self._database.close()

    def _timed(self, work: Work[T]) -> Callable[[Transaction], T]:
        def timed(transaction: Transaction) -> T:
            began, queued = time.perf_counter(), queued_seconds() or 0.0
            try:
                return work(transaction)
            finally:
                took = time.perf_counter() - began - ((queued_seconds() or 0.0) - queued)
                self.seen.database += took
                if took > self.seen.longest:
                    self.seen.longest = took
                    self.seen.longest_is = getattr(work, "__qualname__", repr(work))
                self.seen.transactions += 1

        return timed


@asynccontextmanager
async def watching(world: World) -> AsyncGenerator[Watched]:
    """What happens meanwhile, once it is over. The world's database is timed."""
    timed = TimedDatabase(world.database)
    seen, plain = timed.seen, world.database
    world.database = timed
    first = await _last_call(world)
    look_for_garbage_seldom()  # as serve does: what was made so far is the bench's own
    _forget_peak()
    before, began, cpu = _memory(), time.monotonic(), time.process_time()
    ticking = asyncio.create_task(_tick(seen))
    try:
        yield seen
    finally:
        ticking.cancel()
        world.database = plain
        seen.seconds = time.monotonic() - began
        seen.cpu = time.process_time() - cpu
        seen.grown = _memory() - before
    while page := await world.calls(first):  # after the memory was read: the list is ours, not its
        first = page[-1]["number"]
        for call in page:
            seen.calls[call["group"]] = seen.calls.get(call["group"], 0) + 1
            seen.limited += call["status"] == 429


async def _tick(seen: Watched) -> None:
    while True:
        began, queued = time.perf_counter(), queued_seconds() or 0.0
        await asyncio.sleep(_TICK)
        without_core = (queued_seconds() or 0.0) - queued
        late = time.perf_counter() - began - _TICK - without_core
        seen.stood_still = max(seen.stood_still, late)


async def _last_call(world: World) -> int:
    return max((call["number"] for call in await world.calls()), default=0)


def _memory() -> float:
    return peak_megabytes(os.getpid()) or 0.0


def _forget_peak() -> None:
    """Has Linux count the peak of memory anew, see proc(5), ``clear_refs``."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
