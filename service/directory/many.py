"""Many rows by one statement: Postgres takes them as arrays, SQLite as a list of values.

Knows tables and values; not what they mean.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    Table,
    column,
    text,
)

from service.directory import tables as t
from service.directory.database import Transaction, dumps
from service.directory.prepared import Prepared
from service.directory.several import Several

Rows = Sequence[Mapping[str, Any]]
PLACE: Final = column("place", Integer)
"""Counts the rows of arrays from 1; no column of a table is called so."""


def insert(transaction: Transaction, table: Table, rows: Rows) -> None:
    """Inserts rows that have the same columns, in order. Raises what the database raises."""
    if not rows:
        return
    if transaction.dialect.name == "postgresql":
        _insert(table, tuple(rows[0]), False, ()).run(transaction, arrays(table, rows))
        return
    _inserts(table, tuple(rows[0]), False, ()).all(transaction, rows)


def insert_unknown(
    transaction: Transaction, table: Table, rows: Rows, returning: Sequence[Column[Any]]
) -> Rows:
    """Inserts rows that have the same columns, in order; returns these columns of those that went
    in. A row of which a unique value is there already, or in a row before it, does not go in.
    """
    if not rows:
        return []
    names, told = tuple(rows[0]), tuple(returning)
    if transaction.dialect.name == "postgresql":
        return _insert(table, names, True, told).all(transaction, arrays(table, rows))
    return _inserts(table, names, True, told).all(transaction, rows)


def write(transaction: Transaction, table: Table, rows: Rows) -> None:
    """Writes columns, the same of each row, where ``id`` is that of the row."""
    if not rows:
        return
    if transaction.dialect.name == "postgresql":
        _update(table, tuple(rows[0])).run(transaction, arrays(table, rows))
        return
    _updates(table, tuple(rows[0])).all(transaction, rows)


class LookUp:
    """Finds rows by the values of some columns, for many such values at once.

    ``told``: the columns to return. ``where``: what must hold besides, in SQL.
    """

    __slots__ = ("_by", "_many", "_several", "_table")

    def __init__(
        self, table: Table, by: Sequence[str], told: Sequence[str], where: str = "TRUE"
    ) -> None:
        self._table = table
        self._by = by
        columns = ", ".join(f'found."{name}"' for name in told)
        types = [table.c[name] for name in told]
        # Each by itself, not as a join, for which a planner may read the whole table.
        asked = " AND ".join(f'"{name}" = given."{name}"' for name in by)
        self._many = Prepared(
            text(
                f"SELECT given.place, {columns} FROM {unnested(table, by)}"  # noqa: S608 - our own names
                f" CROSS JOIN LATERAL (SELECT * FROM {table.name} WHERE {asked} AND {where}"
                " OFFSET 0) AS found"
            ).columns(PLACE, *types)
        )
        # Under names of their own: ``where`` speaks of what is found, by its columns' plain names.
        given = ", ".join(f"column{at} AS given_{at}" for at in range(1, len(by) + 1))
        given += f", column{len(by) + 1} AS {PLACE.name}"
        asked = " AND ".join(f'found."{name}" = given.given_{at}' for at, name in enumerate(by, 1))
        # CROSS JOIN, so that SQLite goes from what is given to what is found.
        self._several = Several(
            [*(table.c[name] for name in by), PLACE],
            lambda values: (
                f"SELECT given.place, {columns} FROM (SELECT {given} FROM ({values})) AS given"  # noqa: S608 - our own names
                f" CROSS JOIN {table.name} AS found WHERE {asked} AND {where}"
            ),
            [PLACE, *types],
        )

    def all(
        self, transaction: Transaction, wanted: Sequence[Sequence[Any]]
    ) -> list[tuple[int, Mapping[str, Any]]]:
        """What was found, each with the index of the values it was found by."""
        rows = [dict(zip(self._by, values, strict=True)) for values in wanted]
        if not rows:
            return []
        if transaction.dialect.name == "postgresql":
            found = self._many.all(transaction, arrays(self._table, rows))
            return [(row["place"] - 1, row) for row in found]
        placed = [{**row, PLACE.name: at} for at, row in enumerate(rows)]
        return [(row["place"], row) for row in self._several.all(transaction, placed)]


def unnested(table: Table, names: Sequence[str]) -> str:
    """What stands behind FROM where rows come as ``arrays``, one bound value a column."""
    bound = ", ".join(f"CAST(:{name} AS {_array_of(table.c[name])}[])" for name in names)
    columns = ", ".join(f'"{name}"' for name in (*names, PLACE.name))
    return f"unnest({bound}) WITH ORDINALITY AS given({columns})"


def arrays(table: Table, rows: Rows) -> dict[str, list[Any]]:
    """The values of rows that have the same columns, by column."""
    return {name: _array(table.c[name], [row[name] for row in rows]) for name in rows[0]}


def _array(of: Column[Any], values: list[Any]) -> list[Any]:
    if isinstance(of.type, JSON):
        return [None if value is None else dumps(value) for value in values]
    return values


def _array_of(of: Column[Any]) -> str:
    """The type of an array's elements; a text of any length: a cast would cut it off unasked."""
    match of.type:
        case JSON():
            return "text"
        case t.Instant():
            return "timestamptz"
        case BigInteger():
            return "bigint"
        case Integer():
            return "integer"
        case LargeBinary():
            return "bytea"
        case Boolean():
            return "boolean"
        case _:
            return "text"


def _given(of: Column[Any]) -> str:
    return f'given."{of.name}"' + ("::jsonb" if isinstance(of.type, JSON) else "")


@functools.cache
def _insert(
    table: Table, names: tuple[str, ...], unknown: bool, returning: tuple[Column[Any], ...]
) -> Prepared:
    quoted = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(_given(table.c[name]) for name in names)
    statement = text(
        f"INSERT INTO {table.name} ({quoted}) SELECT {values}"  # noqa: S608 - our own names
        f" FROM {unnested(table, names)} ORDER BY given.{PLACE.name}{_ending(unknown, returning)}"
    )
    return Prepared(statement.columns(*returning) if returning else statement)


@functools.cache
def _inserts(
    table: Table, names: tuple[str, ...], unknown: bool, returning: tuple[Column[Any], ...]
) -> Several:
    quoted = ", ".join(f'"{name}"' for name in names)
    ending = _ending(unknown, returning)
    return Several(
        [table.c[name] for name in names],
        lambda values: f"INSERT INTO {table.name} ({quoted}) {values}{ending}",
        returning,
    )


def _ending(unknown: bool, returning: Sequence[Column[Any]]) -> str:
    told = ", ".join(f'"{each.name}"' for each in returning)
    return (" ON CONFLICT DO NOTHING" if unknown else "") + (f" RETURNING {told}" if told else "")


@functools.cache
def _update(table: Table, names: tuple[str, ...]) -> Prepared:
    changes = ", ".join(f'"{name}" = {_given(table.c[name])}' for name in names if name != "id")
    return Prepared(
        text(
            f"UPDATE {table.name} SET {changes} FROM {unnested(table, names)}"  # noqa: S608 - ours
            f" WHERE {table.name}.id = given.id"
        )
    )


@functools.cache
def _updates(table: Table, names: tuple[str, ...]) -> Several:
    quoted = ", ".join(f'"{name}"' for name in names)
    changed = ", ".join(f'"{name}"' for name in names if name != "id")
    # Not as a join, for which SQLite may read the whole table.
    return Several(
        [table.c[name] for name in names],
        lambda values: (
            f"WITH given ({quoted}) AS MATERIALIZED ({values}) UPDATE {table.name}"  # noqa: S608 - our own names
            f" SET ({changed}) = (SELECT {changed} FROM given WHERE given.id = {table.name}.id)"
            f" WHERE id IN (SELECT id FROM given)"
        ),
    )
