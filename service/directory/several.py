"""Statements about many rows at once, for SQLite.

Whoever calls SQLite gives the interpreter up, and has it back only when the loop has done what waits there:
a call for each row costs more than what it does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnClause

from service.directory.database import Transaction
from service.directory.prepared import Convert, is_watched, known, reads, writes

Rows = Sequence[Mapping[str, Any]]
_MOST: Final = 64
"""Rows in one statement: SQLite keeps one for each number of them."""


class Several:
    """One statement for any number of rows that have the same columns.

    ``sql`` makes it of the rows as SQL has them: ``VALUES (?, ?), …``, in the order of ``given``.
    ``told``: the columns that it returns.
    """

    __slots__ = ("_given", "_reading", "_sql", "_texts", "_told", "_writing")

    def __init__(
        self,
        given: Sequence[ColumnClause[Any]],
        sql: Callable[[str], str],
        told: Sequence[ColumnClause[Any]] = (),
    ) -> None:
        self._given = given
        self._sql = sql
        self._told = told
        self._texts: dict[int, str] = {}
        self._writing: list[tuple[str, Convert | None]] = []
        self._reading: list[tuple[str, Convert | None]] = []

    def all(self, transaction: Transaction, rows: Rows) -> list[dict[str, Any]]:
        """What it returns of all of them, by column. Raises what SQLAlchemy raises."""
        return [
            {
                name: value if convert is None or value is None else convert(value)
                for (name, convert), value in zip(self._reading, told, strict=True)
            }
            for at in range(0, len(rows), _MOST)
            for told in self._run(transaction, rows[at : at + _MOST])
        ]

    def _run(self, transaction: Transaction, rows: Rows) -> Sequence[Sequence[Any]]:
        sql = self._texts.get(len(rows)) or self._text(transaction, len(rows))
        writing = self._writing
        values = [
            row[name] if convert is None else convert(row[name])
            for row in rows
            for name, convert in writing
        ]
        if is_watched(transaction):
            found = transaction.exec_driver_sql(sql, tuple(values))
            return found.all() if found.returns_rows else []
        driver = transaction.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        try:
            return driver.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise known(error, transaction, sql) from error

    def _text(self, transaction: Transaction, count: int) -> str:
        dialect = transaction.dialect
        self._writing = [(each.name, writes(each.type, dialect)) for each in self._given]
        self._reading = [(each.name, reads(each.type, dialect)) for each in self._told]
        row = f"({', '.join('?' * len(self._given))})"
        sql = self._texts[count] = self._sql(f"VALUES {', '.join([row] * count)}")
        return sql
