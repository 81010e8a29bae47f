"""Statements of the hot paths, compiled once: SQLAlchemy takes three times as long to run a statement as
SQLite takes to carry it out. On Postgres the round trip decides, and they run like any other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]
Convert = Callable[[Any], Any]


class _Compiled(NamedTuple):
    """A statement in SQLite's words, and how its values go in and come out.

    ``fixed``: values that stand in the statement itself.
    """

    sql: str
    fixed: Mapping[str, Any]
    given: Sequence[tuple[str, Convert | None]]
    names: Sequence[str]
    told: Sequence[tuple[int, Convert]]


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
        compiled = self._for(transaction, values)
        if compiled is None:
            return [dict(row) for row in transaction.execute(self._statement, values).mappings()]
        try:
            rows = _run(transaction, compiled, values).fetchall()
        except sqlite3.Error as error:
            raise _known(error, transaction, compiled) from error
        return [_named(compiled, row) for row in rows]

    def run(self, transaction: Connection, values: Values) -> None:
        """For what it does, not for what it returns."""
        compiled = self._for(transaction, values)
        if compiled is None:
            transaction.execute(self._statement, values)
            return
        try:
            _run(transaction, compiled, values)
        except sqlite3.Error as error:
            raise _known(error, transaction, compiled) from error

    def _for(self, transaction: Connection, values: Values) -> _Compiled | None:
        """None where SQLAlchemy is to run it: on Postgres, and where somebody listens."""
        if transaction.dialect.name != "sqlite" or _is_watched(transaction):
            return None
        names = tuple(values)
        known = self._compiled.get(names)
        if known is None:
            known = self._compiled[names] = _compile(self._statement, transaction.dialect, names)
        return known


def _is_watched(transaction: Connection) -> bool:
    return transaction._has_events or transaction.engine._has_events  # pyright: ignore[reportPrivateUsage]


def _known(error: sqlite3.Error, transaction: Connection, compiled: _Compiled) -> Exception:
    """SQLite's error as SQLAlchemy names it.

    Nothing is run again to learn the name: a full disk ends the whole transaction, and what is run
    after that would be committed by itself.
    """
    return DBAPIError.instance(
        compiled.sql,
        None,
        error,
        sqlite3.Error,
        hide_parameters=True,  # an error's text must not hold what we store
        dialect=transaction.dialect,
    )


def _run(transaction: Connection, compiled: _Compiled, values: Values) -> sqlite3.Cursor:
    sqlite = transaction.connection.driver_connection
    assert isinstance(sqlite, sqlite3.Connection)
    fixed = compiled.fixed
    given = [
        (values[name] if name in values else fixed[name])
        if convert is None
        else convert(values[name] if name in values else fixed[name])
        for name, convert in compiled.given
    ]
    return sqlite.execute(compiled.sql, given)


def _named(compiled: _Compiled, row: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(compiled.names, row, strict=True))
    for at, convert in compiled.told:
        named[compiled.names[at]] = convert(row[at])
    return named


def _compile(statement: Any, dialect: Dialect, names: tuple[str, ...]) -> _Compiled:
    compiled: SQLCompiler = statement.compile(
        dialect=dialect, column_keys=list(names), compile_kwargs={"render_postcompile": True}
    )
    columns = compiled._result_columns  # pyright: ignore[reportPrivateUsage]
    binding: Any = compiled._bind_processors  # pyright: ignore[reportPrivateUsage]
    reading = [column.type._cached_result_processor(dialect, None) for column in columns]  # pyright: ignore[reportPrivateUsage]
    return _Compiled(
        sql=compiled.string,
        fixed={name: value for name, value in compiled.params.items() if name not in names},
        given=[(name, binding.get(name)) for name in compiled.positiontup or ()],
        names=[column.keyname for column in columns],
        told=[(at, convert) for at, convert in enumerate(reading) if convert is not None],
    )
