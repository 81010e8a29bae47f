"""What a transaction may rely on, whichever database runs it, and which one a URL names.

A transaction is a synchronous function of a Connection. Nothing outside this room opens one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import orjson
from sqlalchemy import URL, Connection, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.errors import ConfigurationError, ProvisionerError, Refused

Item = TypeVar("Item")
T = TypeVar("T")
Transaction = Connection
"""What a transaction's function is given: doors pass it on and never look inside."""
Work = Callable[[Connection], T]

Together = Callable[[Connection, Sequence[Any]], Sequence[Any]]
"""Work for many items: see Alike."""


@dataclass(frozen=True, slots=True)
class Alike(Generic[Item, T]):
    """Work that may be carried out in one with others of its kind that wait beside it.

    ``together``: does what these items ask for in one transaction, and returns of each what its own
    work would; None where nothing was written for it, so that it is to be done alone. Called, it is
    work like any other.
    """

    alone: Work[T]
    item: Item
    together: Callable[[Connection, Sequence[Item]], Sequence[T | None]]

    def __call__(self, transaction: Connection) -> T:
        return self.alone(transaction)


class Database(Protocol):
    """Runs transactions. ``transact`` has committed durably when it returns; it may run its work
    more than once, so work does nothing but SQL, and together with others (see Alike). ``read`` sees one moment and cannot write;
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
    # Only the one that is meant is imported: each brings a library of its own.
    file = sqlite_file(url)
    if file is not None:
        from service.directory.sqlite import SqliteDatabase

        return SqliteDatabase(file)
    from service.directory.postgres import PostgresDatabase

    return PostgresDatabase(postgres_url(url))


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


def dumps(value: Any) -> str:
    """A document as text. Raises Refused for what no database can hold."""
    try:
        written = orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise Refused(f"This cannot be stored: {error}.") from error
    # What is said in so many words has its backslash doubled. The same rule on both databases: a text
    # of Postgres cannot hold it.
    if "\\u0000" in written and "\\u0000" in written.replace("\\\\", ""):
        raise Refused("This cannot be stored: it contains the character U+0000.")
    return written


_UNFIT: Final = frozenset({"22021", "22P05", "54000"})
"""Postgres cannot hold U+0000 in a text, nor index a text of more than 2,700 bytes."""
_AWAY: Final = ("08", "53", "57P")
"""Classes of Postgres for a server that is out of reach, out of resources, or going down."""
_STUCK: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR}
    | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
)


@contextlib.contextmanager
def plain_errors() -> Generator[None]:
    """Errors of ours as they were raised, and what no database can hold as Refused."""
    try:
        yield
    except StatementError as error:
        if isinstance(error.orig, ProvisionerError):  # raised while a value was converted
            raise error.orig from None
        if sqlstate(error) in _UNFIT:
            raise Refused(
                "This cannot be stored: a text contains the character U+0000, or one that must be"
                " searchable is longer than 2,700 bytes."
            ) from error
        raise


def sqlstate(error: BaseException) -> str:
    """The code of a Postgres error, wrapped by SQLAlchemy or not; empty for any other."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not be reached: wait and try again, the work itself is fine."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    sqlite_code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return (
        isinstance(error, OSError | PoolTimeout)
        or sqlstate(error).startswith(_AWAY)
        or sqlite_code & 0xFF in _STUCK
    )


def check(connection: Connection) -> None:
    """Raises what the database raises when it does not answer."""
    connection.execute(text("SELECT 1"))
