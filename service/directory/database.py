"""Where a transaction runs: SQLite's writer thread with group commit, or Postgres through asyncpg.

A transaction is a synchronous function of a Connection. Nothing outside this room opens one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from service.errors import ConfigurationError, ProvisionerError, Refused

T = TypeVar("T")
Transaction = Connection
"""What a transaction's function is given: doors pass it on and never look inside."""
Work = Callable[[Connection], T]


class Database(Protocol):
    """Runs transactions. ``transact`` has committed durably when it returns; it may run its work
    more than once, so work does nothing but SQL. ``read`` sees one moment and cannot write;
    ``look_up`` is a read of a few rows by their keys, too short to be worth a thread's change or a
    transaction of its own: on Postgres each of its statements sees a moment of its own.

    Raises Refused for what no database can hold; see ``is_unavailable`` for the rest.
    """

    async def transact(self, work: Work[T]) -> T: ...

    async def read(self, work: Work[T]) -> T: ...

    async def look_up(self, work: Work[T]) -> T: ...

    async def close(self) -> None: ...


def open_database(url: str) -> Database:
    """A Database for ``sqlite:///path`` or ``postgresql://…`` (``postgres://`` also does).

    Raises ConfigurationError for any other kind of URL.
    """
    file = sqlite_file(url)
    return PostgresDatabase(postgres_url(url)) if file is None else SqliteDatabase(file)


def sqlite_file(url: str) -> Path | None:
    """The file that an SQLite URL names, None for a Postgres one. Raises ConfigurationError."""
    known = _parsed(url)
    if known.get_backend_name() in ("postgresql", "postgres"):
        return None
    if known.get_backend_name() != "sqlite":
        raise ConfigurationError(
            "PROVISIONER_DATABASE_URL must be postgresql:// or sqlite://, not"
            f" {known.get_backend_name()}://"
        )
    if known.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "PROVISIONER_DATABASE_URL must name a file, as sqlite:///provisioner.db does:"
            " what is accepted must outlive the process."
        )
    return Path(known.database)


def postgres_url(url: str) -> str:
    """A Postgres URL for asyncpg; ``sslmode``, as libpq calls it, is understood."""
    known = _parsed(url).set(drivername="postgresql+asyncpg")
    if unknown := sorted(known.query.keys() - _PARAMETERS):
        raise ConfigurationError(
            f"PROVISIONER_DATABASE_URL has the parameter {unknown[0]}, which is none of"
            f" {', '.join(sorted(_PARAMETERS))}: leave it out."
        )
    mode = known.query.get("sslmode", known.query.get("ssl"))
    if mode is not None and mode not in _SSL_MODES:
        raise ConfigurationError(
            f"PROVISIONER_DATABASE_URL: sslmode must be one of {', '.join(_SSL_MODES)}."
        )
    if mode is not None and "sslmode" in known.query:
        known = known.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return known.render_as_string(hide_password=False)


_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PARAMETERS: Final = frozenset(
    {"sslmode", "ssl", "host", "port", "user", "password", "database"}
    | {"statement_cache_size", "prepared_statement_cache_size"}
)
"""What a Postgres URL may say beside its parts; a pooler such as PgBouncer needs the last two."""


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # whose messages repeat the URL, password and all
        raise ConfigurationError(
            "PROVISIONER_DATABASE_URL is not a URL: write sqlite:///path or"
            " postgresql://user:password@host/database, with special characters percent-encoded."
        ) from None


def _dumps(value: Any) -> str:
    try:
        written = orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise Refused(f"This cannot be stored: {error}.") from error
    if "\\u0000" in written.replace(
        "\\\\", ""
    ):  # a text of Postgres cannot hold it; the same rule on both databases
        raise Refused("This cannot be stored: it contains the character U+0000.")
    return written


def sqlite_engine(path: Path, *, read_only: bool = False, patience: float = 10.0) -> Engine:
    """An engine whose connections begin no transaction by themselves and commit durably.

    ``patience``: seconds to wait for a lock.
    """
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        hide_parameters=True,  # an error's text must not hold what we store
        connect_args={"check_same_thread": False, "timeout": patience},
    )
    pragmas = [
        "journal_mode=WAL",
        "synchronous=FULL",  # what we acknowledge survives a power cut
        "foreign_keys=ON",
        "cache_size=-16384",  # KiB a connection; the system caches the file anyway
    ]
    if read_only:
        pragmas.append("query_only=ON")

    def connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we begin transactions ourselves
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", connected)
    return engine


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


_Ended = tuple[asyncio.Future[Any], Any, BaseException | None]
"""Whom to tell, and what their work returned or raised."""


class SqliteDatabase:
    """One writer thread per process; waiting transactions share a commit, each in its savepoint."""

    _BATCH: Final = 64

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = sqlite_engine(path)
        self._reading = sqlite_engine(path, read_only=True)
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
        with _plain_errors(), self._reading.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            return work(connection)

    async def close(self) -> None:
        """Ends when everything that was asked for before has been done."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._writer.join)
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

    def _run(self, batch: list[_Job]) -> list[tuple[Any, BaseException | None]]:
        """A batch as one transaction, each job in a savepoint: what each returned or raised."""
        with self._writing.connect() as connection:
            try:
                # IMMEDIATE: another process on the same file waits here, not in the middle.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                verdicts = [_attempt(connection, job.work) for job in batch]
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
            with _plain_errors():
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
            self._sqlite(self._connection).execute("ROLLBACK")

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


def _attempt(connection: Connection, work: Work[T]) -> tuple[T | None, BaseException | None]:
    sqlite = connection.connection.driver_connection
    assert isinstance(sqlite, sqlite3.Connection)
    sqlite.execute("SAVEPOINT job")
    try:
        with _plain_errors():
            result = work(connection)
    except BaseException as error:
        if not sqlite.in_transaction:  # a full disk and the like end the whole transaction
            raise
        sqlite.execute("ROLLBACK TO job")
        sqlite.execute("RELEASE job")
        return None, error
    sqlite.execute("RELEASE job")
    return result, None


class PostgresDatabase:
    """A pool of asyncpg connections; each transaction runs through ``run_sync``."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self._engine: AsyncEngine = create_async_engine(
            make_url(url),
            pool_size=pool_size,
            max_overflow=0,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
            hide_parameters=True,
        )
        # A reader sees one moment, as it does on SQLite, and cannot write by mistake.
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._looking = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def transact(self, work: Work[T]) -> T:
        return await self._to_its_end(self._transact(work))

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

    async def _transact(self, work: Work[T]) -> T:
        return await self._repeating(functools.partial(self._commit, work))

    async def _read(self, work: Work[T], engine: AsyncEngine) -> T:
        return await self._repeating(functools.partial(self._look, work, engine))

    async def _commit(self, work: Work[T]) -> T:
        with _plain_errors():
            async with self._engine.begin() as connection:
                with _lost_before_commit():
                    return await connection.run_sync(work)

    async def _look(self, work: Work[T], engine: AsyncEngine) -> T:
        with _plain_errors():
            async with engine.connect() as connection:
                with _lost_before_commit():
                    return await connection.run_sync(work)

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

    async def close(self) -> None:
        """Ends when everything that was asked for before has been done."""
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._engine.dispose()


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


_UNFIT: Final = frozenset({"22021", "22P05", "54000"})
"""Postgres cannot hold U+0000 in a text, nor index a text of more than 2,700 bytes."""
_UNDONE: Final = frozenset({"40001", "40P01"})
"""Serialisation failures and deadlocks: Postgres undid the transaction, so it can run again."""
_AWAY: Final = ("08", "53", "57P")
"""Classes of Postgres for a server that is out of reach, out of resources, or going down."""
_STUCK: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
    | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)


@contextlib.contextmanager
def _plain_errors() -> Generator[None]:
    """Errors of ours as they were raised, and what no database can hold as Refused."""
    try:
        yield
    except StatementError as error:
        if isinstance(error.orig, ProvisionerError):  # raised while a value was converted
            raise error.orig from None
        if _sqlstate(error) in _UNFIT:
            raise Refused(
                "This cannot be stored: a text contains the character U+0000, or one that must be"
                " searchable is longer than 2,700 bytes."
            ) from error
        raise


def _sqlstate(error: BaseException) -> str:
    """The code of a Postgres error, wrapped by SQLAlchemy or not; empty for any other."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, _LostConnection) or _sqlstate(error) in _UNDONE


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached: wait and try again, the work itself is fine."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    sqlite_code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return (
        isinstance(error, OSError | PoolTimeout)
        or _sqlstate(error).startswith(_AWAY)
        or sqlite_code & 0xFF in _STUCK
    )


def check(connection: Connection) -> None:
    """Raises what the database raises when it does not answer."""
    connection.execute(text("SELECT 1"))
