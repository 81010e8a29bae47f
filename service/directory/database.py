"""Where a transaction runs: SQLite's writer thread with group commit, or Postgres through asyncpg.

A transaction is a synchronous function of a Connection. Nothing outside this room opens one.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from service.errors import ConfigurationError

T = TypeVar("T")
Transaction = Connection
"""What a transaction's function is given: doors pass it on and never look inside."""
Work = Callable[[Connection], T]


class Database(Protocol):
    """Runs transactions. ``transact`` has committed durably when it returns; ``read`` never writes."""

    async def transact(self, work: Work[T]) -> T: ...

    async def read(self, work: Work[T]) -> T: ...

    async def close(self) -> None: ...


def open_database(url: str) -> Database:
    """A Database for ``sqlite:///path`` or ``postgresql+asyncpg://…`` (``postgres://`` also does).

    Raises ConfigurationError for any other kind of URL.
    """
    kind = url.partition(":")[0]
    if kind.startswith("sqlite"):
        return SqliteDatabase(Path(url.partition("///")[2]))
    if kind.startswith("postgres"):
        return PostgresDatabase("postgresql+asyncpg:" + url.partition(":")[2])
    raise ConfigurationError(
        f"PROVISIONER_DATABASE_URL must be postgresql:// or sqlite://, not {kind}://"
    )


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        connect_args={"check_same_thread": False, "timeout": 10.0},
    )

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # what we acknowledge survives a power cut
            "busy_timeout=10000",
            "foreign_keys=ON",
            "cache_size=-65536",
        ):
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", connected)
    return engine


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    done: Future[Any]


class SqliteDatabase:
    """One writer thread per process; waiting transactions share a commit, each in its savepoint."""

    _BATCH: Final = 64

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = _sqlite_engine(path)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="sqlite-reader")
        self._writer = threading.Thread(target=self._write, name="sqlite-writer", daemon=True)
        self._writer.start()

    async def transact(self, work: Work[T]) -> T:
        done: Future[T] = Future()
        self._jobs.put(_Job(work, done))
        # Shielded: a caller that goes away must not leave the writer with a cancelled future.
        return await asyncio.shield(asyncio.wrap_future(done))

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            return work(connection)

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        self._engine.dispose()

    def _write(self) -> None:
        with self._engine.connect() as connection:
            while (job := self._jobs.get()) is not None:
                batch = [job]
                ending = False
                while len(batch) < self._BATCH:
                    try:
                        waiting = self._jobs.get_nowait()
                    except queue.Empty:
                        break
                    if waiting is None:
                        ending = True
                        break
                    batch.append(waiting)
                self._commit(connection, batch)
                if ending:
                    return

    def _commit(self, connection: Connection, batch: list[_Job]) -> None:
        """Runs a batch as one transaction; a job that fails takes only its own savepoint with it."""
        results: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            # IMMEDIATE: another process on the same file waits here, not in the middle.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for job in batch:
                connection.exec_driver_sql("SAVEPOINT job")
                try:
                    results.append((job, job.work(connection), None))
                except BaseException as error:  # the caller sees it
                    connection.exec_driver_sql("ROLLBACK TO job")
                    results.append((job, None, error))
                connection.exec_driver_sql("RELEASE job")
            connection.commit()
        except BaseException as error:  # nothing of this batch is durable
            connection.rollback()
            results = [(job, None, error) for job in batch]
        for job, result, error in results:
            if error is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(error)


def _worth_repeating(error: BaseException) -> bool:
    """Serialisation failures and deadlocks: Postgres undid the transaction, so it can run again."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, DBAPIError) and state in {"40001", "40P01"}


class PostgresDatabase:
    """A pool of asyncpg connections; each transaction runs through ``run_sync``."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._engine: AsyncEngine = create_async_engine(
            make_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
        )

    async def transact(self, work: Work[T]) -> T:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_worth_repeating),
            stop=stop_after_attempt(8),
            wait=wait_random_exponential(multiplier=0.01, max=0.5),
            reraise=True,
        ):
            with attempt:
                async with self._engine.begin() as connection:
                    return await connection.run_sync(work)
        raise AssertionError("tenacity ends with a result or an error")

    async def read(self, work: Work[T]) -> T:
        async with self._engine.connect() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached: wait and try again, the work itself is fine."""
    return isinstance(error, OperationalError | ConnectionError | OSError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def check(connection: Connection) -> None:
    """Raises what the database raises when it does not answer."""
    connection.execute(text("SELECT 1"))
