"""Statements of the hot paths, compiled once: SQLAlchemy takes three times as long to run a statement as
SQLite takes to carry it out, and on Postgres as much of the processor as all the rest of a request.

What goes in, comes out and goes wrong is what it is for SQLAlchemy.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import JSON, Connection, Dialect
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

from service.directory.database import dumps
from service.directory.tables import Instant

Values = Mapping[str, Any]
Convert = Callable[[Any], Any]

LOOKS_UP: Final = "looks_up"
"""An execution option: on Postgres each statement by itself, in no transaction."""


class _Compiled(NamedTuple):
    """A statement in a database's words, and how its values go in and come out.

    ``fixed``: values that stand in the statement itself.
    """

    sql: str
    fixed: Mapping[str, Any]
    given: Sequence[tuple[str, Convert | None]]
    names: Sequence[str]
    told: Sequence[tuple[int, Convert]]

    def parameters(self, values: Values) -> list[Any]:
        fixed = self.fixed
        return [
            (values[name] if name in values else fixed[name])
            if convert is None
            else convert(values[name] if name in values else fixed[name])
            for name, convert in self.given
        ]

    def named(self, row: Iterable[Any]) -> dict[str, Any]:
        named = dict(zip(self.names, row, strict=True))
        for at, convert in self.told:
            name = self.names[at]
            if named[name] is not None:
                named[name] = convert(named[name])
        return named


class Prepared:
    """One statement with named parameters. It may set other columns each time; IN lists are fixed."""

    __slots__ = ("_compiled", "_statement")

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def first(self, transaction: Connection, values: Values) -> dict[str, Any] | None:
        """The first row by column name; None where there is none."""
        rows = self.all(transaction, values)
        return rows[0] if rows else None

    def all(self, transaction: Connection, values: Values) -> list[dict[str, Any]]:
        """Every row by column name. Raises what SQLAlchemy raises."""
        if is_watched(transaction):
            return [dict(row) for row in transaction.execute(self._statement, values).mappings()]
        compiled = self._for(transaction, values)
        return [compiled.named(row) for row in _run(transaction, compiled, values)]

    def run(self, transaction: Connection, values: Values) -> None:
        """For what it does, not for what it returns."""
        if is_watched(transaction):
            transaction.execute(self._statement, values)
        else:
            _run(transaction, self._for(transaction, values), values)

    def _for(self, transaction: Connection, values: Values) -> _Compiled:
        kind = (transaction.dialect.name, *values)
        known = self._compiled.get(kind)
        if known is None:
            known = _compile(self._statement, transaction.dialect, list(values))
            self._compiled[kind] = known
        return known


def is_watched(transaction: Connection) -> bool:
    """Whether somebody listens to what is run: then SQLAlchemy runs it, and tells them."""
    if not (transaction._has_events or transaction.engine._has_events):  # pyright: ignore[reportPrivateUsage]
        return False
    return bool(transaction.dispatch.before_cursor_execute)


def _run(transaction: Connection, compiled: _Compiled, values: Values) -> Sequence[Any]:
    given = compiled.parameters(values)
    driver = transaction.connection.dbapi_connection
    if isinstance(driver, sqlite3.Connection):
        try:
            return driver.execute(compiled.sql, given).fetchall()
        except sqlite3.Error as error:
            raise known(error, transaction, compiled.sql) from error
    assert isinstance(driver, AsyncAdapt_asyncpg_connection)
    return _on_postgres(driver, transaction, compiled, given)


def _on_postgres(
    driver: AsyncAdapt_asyncpg_connection,
    transaction: Connection,
    compiled: _Compiled,
    given: Sequence[Any],
) -> Sequence[Any]:
    connection: Any = driver.driver_connection
    try:
        if not (driver._started or transaction.get_execution_options().get(LOOKS_UP)):  # pyright: ignore[reportPrivateUsage]
            driver.await_(driver._start_transaction())  # pyright: ignore[reportPrivateUsage]
        return driver.await_(connection.fetch(compiled.sql, *given))
    except Exception as error:
        try:
            driver._handle_exception(error)  # pyright: ignore[reportPrivateUsage]
        except driver.dbapi.Error as translated:
            # Names it, and lets the pool forget a connection that was lost.
            transaction._handle_dbapi_exception(translated, compiled.sql, None, None, None)  # pyright: ignore[reportPrivateUsage]
        raise


def known(error: sqlite3.Error, transaction: Connection, sql: str) -> Exception:
    """SQLite's error as SQLAlchemy names it.

    Nothing is run again to learn the name: a full disk ends the whole transaction, and what is run
    after that would be committed by itself.
    """
    return DBAPIError.instance(
        sql,
        None,
        error,
        sqlite3.Error,
        hide_parameters=True,  # an error's text must not hold what we store
        dialect=transaction.dialect,
    )


def _compile(statement: Any, dialect: Dialect, names: list[str]) -> _Compiled:
    compiled: SQLCompiler = statement.compile(
        dialect=dialect, column_keys=names, compile_kwargs={"render_postcompile": True}
    )
    columns = compiled._result_columns  # pyright: ignore[reportPrivateUsage]
    reading = [reads(column.type, dialect) for column in columns]
    return _Compiled(
        sql=compiled.string,
        fixed={name: value for name, value in compiled.params.items() if name not in names},
        given=[
            (name, writes(compiled.binds[name].type, dialect))
            for name in compiled.positiontup or ()
        ],
        names=[column.keyname for column in columns],
        told=[(at, convert) for at, convert in enumerate(reading) if convert is not None],
    )


def writes(kind: Any, dialect: Dialect) -> Convert | None:
    """How a value of this type goes in; None where it goes in as it is."""
    if isinstance(kind, Instant):
        return _stored if dialect.name == "sqlite" else None
    if isinstance(kind, JSON) and dialect.name == "sqlite":
        return _document
    return kind._cached_bind_processor(dialect)  # pyright: ignore[reportPrivateUsage]


def reads(kind: Any, dialect: Dialect) -> Convert | None:
    """How a value of this type comes out; None where it comes out as it is."""
    if isinstance(kind, Instant):  # by far the most frequent, and the slowest in SQLAlchemy
        return _instant if dialect.name == "sqlite" else None
    return kind._cached_result_processor(dialect, None)


def _document(value: Any) -> str | None:
    return dumps(value) if value is not None else None


def _stored(instant: datetime | None) -> str | None:
    return _written(instant) if instant is not None else None


@functools.lru_cache(maxsize=256)  # all that a request writes has one moment
def _written(instant: datetime) -> str:
    """As SQLAlchemy writes it: what has the same moment must have the same text."""
    return instant.astimezone(UTC).isoformat(" ", "microseconds")[:-6]


def _instant(stored: str) -> datetime:
    return datetime.fromisoformat(stored).replace(tzinfo=UTC)
