"""Transactions on Postgres through asyncpg, and which of them are worth running once more."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

import orjson
import structlog
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import greenlet_spawn
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from service.directory.database import Alike, Together, Work, dumps, plain_errors, sqlstate
from service.directory.prepared import LOOKS_UP
from service.directory.turns import Turns

T = TypeVar("T")
log = structlog.get_logger(__name__)
_UNDONE: Final = frozenset({"40001", "40P01"})
"""Serialisation failures and deadlocks: Postgres undid the transaction, so it can run again."""


class PostgresDatabase:
    """A pool of asyncpg connections; each transaction runs in a greenlet."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._engine: AsyncEngine = create_async_engine(
            make_url(url),
            pool_size=pool_size,
            max_overflow=0,
            json_serializer=dumps,
            json_deserializer=orjson.loads,
            hide_parameters=True,
        )
        # A reader sees one moment, as it does on SQLite, and cannot write by mistake.
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._looking = self._engine.execution_options(**{LOOKS_UP: True})
        self._running: set[asyncio.Task[Any]] = set()
        self._turns: dict[Together, Turns] = {}
        self._closed = False

    async def transact(self, work: Work[T]) -> T:
        running = self._in_turn(work) if isinstance(work, Alike) else self._transact(work)
        return await self._to_its_end(running)

    async def read(self, work: Work[T]) -> T:
        return await self._to_its_end(self._read(work, self._reading))

    async def look_up(self, work: Work[T]) -> T:
        return await self._to_its_end(self._read(work, self._looking))

    async def _to_its_end(self, running: Coroutine[Any, Any, T]) -> T:
        """A caller that goes away does not tear down a connection in the middle of a statement."""
        if self._closed:
            running.close()
            raise RuntimeError("the database is closed")
        task = asyncio.create_task(running)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, work: Alike[Any, T]) -> T:
        turns = self._turns.get(work.together)
        if turns is None:
            turns = self._turns[work.together] = Turns(work.together, self._transact)
        return await turns.take(work)

    async def _transact(self, work: Work[T]) -> T:
        return await self._repeating(functools.partial(self._commit, work))

    async def _read(self, work: Work[T], engine: AsyncEngine) -> T:
        return await self._repeating(functools.partial(self._look, work, engine))

    async def _commit(self, work: Work[T]) -> T:
        return await greenlet_spawn(_committed, self._engine.sync_engine, work)

    async def _look(self, work: Work[T], engine: AsyncEngine) -> T:
        return await greenlet_spawn(_seen, engine.sync_engine, work)

    async def _repeating(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeats what Postgres undid, and what was lost with a connection that had gone while it
        was idle: the pool drops all of them then, so the next one is new.
        """
        try:
            return await attempt()
        except (DBAPIError, _LostConnection) as error:
            if not _worth_repeating(error):
                raise
        try:
            async for again in AsyncRetrying(
                retry=retry_if_exception(_worth_repeating),
                stop=stop_after_attempt(7),
                wait=wait_random_exponential(multiplier=0.01, max=0.5),
                reraise=True,
            ):
                with again:
                    return await attempt()
        except _LostConnection as lost:
            raise lost.error from lost
        raise AssertionError("tenacity ends with a result or an error")

    async def close(self, *, within: float = 5.0) -> None:
        """Ends when everything that was asked for before has been done, or ``within`` seconds: what
        a dead connection holds is given up then, and was either committed or has not happened.
        """
        self._closed = True
        ended = asyncio.gather(*self._running, return_exceptions=True)
        try:
            await asyncio.wait_for(asyncio.shield(ended), within)
        except TimeoutError:
            log.warning("database.given_up", transactions=len(self._running))
            for task in self._running:
                task.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended, 1.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._engine.dispose(), timeout=2.0)


# Each whole in one greenlet: an AsyncConnection makes one for every step of it.
def _committed(engine: Engine, work: Work[T]) -> T:
    with plain_errors(), engine.begin() as connection, _lost_before_commit():
        return work(connection)


def _seen(engine: Engine, work: Work[T]) -> T:
    with plain_errors(), engine.connect() as connection, _lost_before_commit():
        return work(connection)


class _LostConnection(Exception):
    """The connection went before anything was committed, so that nothing can have happened."""

    def __init__(self, error: DBAPIError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _lost_before_commit() -> Generator[None]:
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _LostConnection(error) from error
        raise


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, _LostConnection) or sqlstate(error) in _UNDONE
