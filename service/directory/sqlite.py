"""Transactions on SQLite: one writer thread with group commit, readers beside it, and look-ups in the
caller's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from service.directory.database import Alike, Together, Work, dumps, is_unavailable, plain_errors
from service.directory.turnstile import Turnstile

T = TypeVar("T")


def sqlite_engine(
    path: Path, *, read_only: bool = False, patience: float = 10.0, cache: int = 16_384
) -> Engine:
    """An engine whose connections begin no transaction by themselves and commit durably.

    ``patience``: seconds to wait for a lock; ``cache``: KiB that a connection keeps of the file, at most.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=dumps,
        json_deserializer=orjson.loads,
        hide_parameters=True,  # an error's text must not hold what we store
        connect_args={"check_same_thread": False, "timeout": patience},
    )
    pragmas = [
        "journal_mode=WAL",
        "synchronous=FULL",  # what we acknowledge survives a power cut
        "foreign_keys=ON",
        f"cache_size=-{cache}",  # the system caches the file anyway
    ]
    if read_only:
        pragmas.append("query_only=ON")
    else:
        pragmas.append("temp_store=MEMORY")  # what a savepoint may have to put back, above all

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        connection.create_function("casefold", 1, _casefold, deterministic=True)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", connected)
    return engine


def _casefold(value: object) -> str | None:
    """As SQLite's ``lower`` takes whatever a document holds, but for letters of any alphabet."""
    return None if value is None else str(value).casefold()


_READERS_CACHE: Final = 4_096
"""KiB of each reader: a walk through everybody fills all of their caches, and another one's write voids
them."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


_Verdict = tuple[Any, BaseException | None]
"""What work returned or raised."""
_Ended = tuple[asyncio.Future[Any], Any, BaseException | None]
"""Whom to tell, and what their work returned or raised."""


class SqliteDatabase:
    """One writer thread per process; waiting transactions share a commit, each in its savepoint."""

    _BATCH: Final = 64

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = sqlite_engine(path)
        self._turnstile = Turnstile(path, patience=10.0)
        self._reading = sqlite_engine(path, read_only=True, cache=_READERS_CACHE)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="sqlite-reader")
        self._here = _Here(path)
        self._writer = threading.Thread(target=self._write, name="sqlite-writer", daemon=True)
        self._closed = False
        self._writer.start()

    async def transact(self, work: Work[T]) -> T:
        if self._closed:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put(_Job(work, done, loop))
        return await done

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def look_up(self, work: Work[T]) -> T:
        if self._closed:
            raise RuntimeError("the database is closed")
        try:
            return self._here.read(work)
        except _Elsewhere:
            return await self.read(work)

    def _read(self, work: Work[T]) -> T:
        with plain_errors(), self._reading.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            return work(connection)

    async def close(self) -> None:
        """Ends when everything that was asked for before has been done."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
        self._turnstile.close()
        self._readers.shutdown()
        self._here.close()
        self._writing.dispose()
        self._reading.dispose()

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch = [job]
            while len(batch) < self._BATCH:
                try:
                    waiting = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if waiting is None:
                    self._jobs.put(None)
                    break
                batch.append(waiting)
            self._commit(batch)

    def _commit(self, batch: list[_Job]) -> None:
        """Ends every job of a batch; one that fails takes only itself with it."""
        try:
            verdicts = self._run(batch)
        except BaseException as error:  # nothing of this batch is durable
            if len(batch) > 1 and not is_unavailable(error):
                for job in batch:  # alone, so that the one to blame fails alone
                    self._commit([job])
                return
            verdicts = [(None, error)] * len(batch)
        ended: dict[asyncio.AbstractEventLoop, list[_Ended]] = {}
        for job, verdict in zip(batch, verdicts, strict=True):
            ended.setdefault(job.loop, []).append((job.done, *verdict))
        for loop, those in ended.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._tell, those)

    def _tell(self, ended: list[_Ended]) -> None:
        """In the loop of those who wait: for all of a batch at once, since each wake-up costs."""
        self._here.end()  # whoever has written sees it
        for done, result, error in ended:
            if done.done():  # its caller has gone away
                continue
            if error is None:
                done.set_result(result)
            else:
                done.set_exception(error)

    def _run(self, batch: list[_Job]) -> list[_Verdict]:
        """A batch as one transaction, each job in a savepoint: what each returned or raised."""
        with self._writing.connect() as connection, self._turnstile.turn():
            try:
                # IMMEDIATE: another process on the same file waits here, not in the middle.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                verdicts = _attempt_all(connection, [job.work for job in batch])
                connection.commit()
            except BaseException:
                # A COMMIT that fails leaves SQLite in its transaction: a new connection has none.
                connection.invalidate()
                raise
            return verdicts


class _Elsewhere(Exception):
    """Not here and now: another thread is reading, or the file is locked for a moment."""


class _Here:
    """A connection for look-ups in the caller's own thread, open as long as it serves.

    Look-ups of one turn of the loop see one moment, unless this process has written meanwhile: to
    begin and end a transaction costs as much as to find a row.
    """

    def __init__(self, path: Path) -> None:
        self._engine = sqlite_engine(path, read_only=True, patience=0.0)
        self._connection: Connection | None = None
        self._turn_of: asyncio.AbstractEventLoop | None = None
        self._free = threading.Lock()

    def read(self, work: Work[T]) -> T:
        """Raises _Elsewhere where the work is to be done there, from its beginning."""
        if not self._free.acquire(blocking=False):
            raise _Elsewhere
        try:
            with plain_errors():
                return work(self._begun())
        except (sqlite3.OperationalError, DBAPIError) as error:
            self._drop()
            if is_unavailable(error) or isinstance(error, sqlite3.OperationalError):
                raise _Elsewhere from error
            raise
        finally:
            self._free.release()

    def end(self) -> None:
        """What is looked up from now on is what is there from now on."""
        with self._free:
            self._end()

    def close(self) -> None:
        with self._free:
            self._drop()
            self._engine.dispose()

    def _begun(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._turn_of is not loop:
            self._end()
        if self._connection is None:
            self._connection = self._engine.connect()
        if self._turn_of is None:
            self._sqlite(self._connection).execute("BEGIN")
            self._turn_of = loop
            loop.call_soon(self.end)
        return self._connection

    def _end(self) -> None:
        turn_of, self._turn_of = self._turn_of, None
        if turn_of is not None and self._connection is not None:
            try:
                self._sqlite(self._connection).execute("ROLLBACK")
            except (sqlite3.Error, DBAPIError):  # writers are told after this, whatever went wrong
                self._drop()

    @staticmethod
    def _sqlite(connection: Connection) -> sqlite3.Connection:
        sqlite = connection.connection.driver_connection
        assert isinstance(sqlite, sqlite3.Connection)
        return sqlite

    def _drop(self) -> None:
        connection, self._connection, self._turn_of = self._connection, None, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def _attempt_all(connection: Connection, works: Sequence[Work[Any]]) -> list[_Verdict]:
    """Each in its savepoint, but for those that are done together in one."""
    kinds: dict[Together, dict[int, Any]] = {}
    for place, work in enumerate(works):
        if isinstance(work, Alike):
            kinds.setdefault(work.together, {})[place] = work.item
    done: dict[int, _Verdict] = {}
    for together, items in kinds.items():
        if len(items) > 1:
            done |= _attempt_together(connection, together, items)
    return [
        done[place] if place in done else _attempt(connection, work)
        for place, work in enumerate(works)
    ]


def _attempt_together(
    connection: Connection, together: Together, items: Mapping[int, Any]
) -> dict[int, _Verdict]:
    """What became of those that were done; where they fail, each is to be tried alone."""
    results, error = _attempt(connection, lambda it: together(it, list(items.values())))
    if results is None or error is not None:
        return {}
    told = zip(items, results, strict=True)
    return {place: (result, None) for place, result in told if result is not None}


def _attempt(connection: Connection, work: Work[T]) -> tuple[T | None, BaseException | None]:
    sqlite = connection.connection.driver_connection
    assert isinstance(sqlite, sqlite3.Connection)
    sqlite.execute("SAVEPOINT job")
    try:
        with plain_errors():
            result = work(connection)
    except BaseException as error:
        if not sqlite.in_transaction:  # a full disk and the like end the whole transaction
            raise
        sqlite.execute("ROLLBACK TO job")
        sqlite.execute("RELEASE job")
        return None, error
    sqlite.execute("RELEASE job")
    return result, None
