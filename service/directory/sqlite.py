"""Transactions on SQLite: one writer at a time with group commit, a thread or the loop itself, and readers
beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import orjson
from sqlalchemy import Engine, create_engine, event

from service.directory.database import Alike, Work, dumps, is_unavailable, plain_errors
from service.directory.here import Elsewhere, Here
from service.directory.jobs import Job, Verdict, attempt_all
from service.directory.loop_turns import LoopTurns
from service.directory.turnstile import Turnstile

T = TypeVar("T")


_CHECKPOINT: Final = 16_000
"""Pages in the log, 64 MiB, after which it is written back to the file. What is written often is in it many
times and goes back once: with SQLite's own thousand pages many writers have a sixth less done.
"""


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
        pragmas.append(f"wal_autocheckpoint={_CHECKPOINT}")

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


class SqliteDatabase:
    """One writer at a time; waiting transactions share a commit, each in its savepoint. What is alike is
    written in turns of the loop, all else by a thread.
    """

    _BATCH: Final = 64

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = sqlite_engine(path)
        self._turnstile = Turnstile(path, patience=10.0)
        self._reading = sqlite_engine(path, read_only=True, cache=_READERS_CACHE)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="sqlite-reader")
        self._here = Here(sqlite_engine(path, read_only=True, patience=0.0))
        self._one_writes = threading.Lock()
        self._turns = LoopTurns(
            sqlite_engine(path, patience=0.0),
            self._turnstile,
            self._one_writes,
            elsewhere=self._put,
            written=self._here.end,
        )
        self._writer = threading.Thread(target=self._write, name="sqlite-writer", daemon=True)
        self._closed = False
        self._writer.start()

    async def transact(self, work: Work[T]) -> T:
        if self._closed:
            raise RuntimeError("the database is closed")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        job = Job(work, done, loop)
        if not (isinstance(work, Alike) and self._turns.take(job)):
            self._jobs.put(job)
        return await done

    async def read(self, work: Work[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def look_up(self, work: Work[T]) -> T:
        if self._closed:
            raise RuntimeError("the database is closed")
        try:
            return self._here.read(work)
        except Elsewhere:
            return await self.read(work)

    def _read(self, work: Work[T]) -> T:
        with plain_errors(), self._reading.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            return work(connection)

    async def close(self) -> None:
        """Ends when everything that was asked for before has been done."""
        self._closed = True
        self._turns.hand_over()
        await asyncio.to_thread(self._turns.close)
        await asyncio.sleep(0)  # what could not be committed has been handed over by then
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
            self._turns.let()

    def _put(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._jobs.put(job)

    def _commit(self, batch: list[Job]) -> None:
        """Ends every job of a batch; one that fails takes only itself with it."""
        try:
            verdicts = self._run(batch)
        except BaseException as error:  # nothing of this batch is durable
            if len(batch) > 1 and not is_unavailable(error):
                for job in batch:  # alone, so that the one to blame fails alone
                    self._commit([job])
                return
            verdicts = [(None, error)] * len(batch)
        ended: dict[asyncio.AbstractEventLoop, list[tuple[Job, Verdict]]] = {}
        for job, verdict in zip(batch, verdicts, strict=True):
            ended.setdefault(job.loop, []).append((job, verdict))
        for loop, those in ended.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._tell, those)

    def _tell(self, ended: Sequence[tuple[Job, Verdict]]) -> None:
        """In the loop of those who wait: for all of a batch at once, since each wake-up costs."""
        self._here.end()  # whoever has written sees it
        for job, verdict in ended:
            job.end(verdict)

    def _run(self, batch: list[Job]) -> list[Verdict]:
        """A batch as one transaction, each job in a savepoint: what each returned or raised."""
        with (
            self._one_writes,
            self._writing.connect() as connection,
            self._turnstile.turn(),
        ):
            try:
                # IMMEDIATE: another process on the same file waits here, not in the middle.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                verdicts = attempt_all(connection, [job.work for job in batch])
                connection.commit()
            except BaseException:
                # A COMMIT that fails leaves SQLite in its transaction: a new connection has none.
                connection.invalidate()
                raise
            return verdicts
