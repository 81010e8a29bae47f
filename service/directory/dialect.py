"""The few places where Postgres and SQLite want to be asked differently."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    func,
    literal,
    select,
    text,
)
from sqlalchemy import column as named
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from service.directory.prepared import Prepared
from service.directory.tables import Document


def insert(transaction: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT; both databases share its syntax, SQLAlchemy has it twice."""
    if transaction.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_unless_known(
    transaction: Connection,
    table: Table,
    values: Mapping[str, Any],
    returning: Sequence[Column[Any]],
) -> Mapping[str, Any] | None:
    """Inserts a row and returns these columns of it; None where one of its unique values is there.

    For the hot paths: what SQLAlchemy has for ON CONFLICT is compiled anew each time.
    """
    statement = _insert_unless_known(table, tuple(values), tuple(returning))
    return statement.first(transaction, values)


@functools.cache
def _insert_unless_known(
    table: Table, names: tuple[str, ...], returning: tuple[Column[Any], ...]
) -> Prepared:
    quoted = ", ".join(f'"{name}"' for name in names)
    bound = ", ".join(f":{name}" for name in names)
    told = ", ".join(f'"{column.name}"' for column in returning)
    statement = text(
        f"INSERT INTO {table.name} ({quoted}) VALUES ({bound})"  # noqa: S608 - our own names
        f" ON CONFLICT DO NOTHING RETURNING {told}"
    )
    types = [bindparam(name, type_=table.c[name].type) for name in names]
    return Prepared(statement.bindparams(*types).columns(*returning))


def among(
    transaction: Connection, column: ColumnElement[str], ids: Collection[str]
) -> ColumnElement[bool]:
    """Whether a column is one of these ids, as one bound value, however many they are."""
    if transaction.dialect.name == "postgresql":
        # No join, which the planner may do the quadratic way where its statistics lag behind.
        return column == any_(_array(ids))
    return column.in_(id_list(transaction, ids))


def id_list(transaction: Connection, ids: Collection[str]) -> Select[tuple[str]]:
    """Ids as a sub-query of one bound value, however many they are."""
    if transaction.dialect.name == "postgresql":
        # Of an array the planner knows the length, of a JSON list it guesses a hundred.
        unnested = func.unnest(_array(ids))
        rows = unnested.table_valued(named("value", Text)).render_derived()
    else:
        rows = func.json_each(literal(list(ids), Document)).table_valued(named("value", Text))
    return select(rows.c.value)


def _array(ids: Collection[str]) -> ColumnElement[Any]:
    return literal(list(ids), ARRAY(Text))


IDS: Final = bindparam("ids", type_=JSON().with_variant(ARRAY(Text), "postgresql"))
"""A list of ids as one bound value, for ``one_of``."""


class one_of(FunctionElement[Any]):
    """Whether a column is one of a list, which is one bound value: as ``among``, compiled once."""

    type = NullType()  # of a Boolean SQLAlchemy asks SQLite whether it is 1, which no index answers
    inherit_cache = True


@compiles(one_of, "sqlite")
def _one_of_by_sqlite(element: one_of, compiler: SQLCompiler, **how: Any) -> str:
    column, ids = (compiler.process(each, **how) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - compiled


@compiles(one_of, "postgresql")
def _one_of_by_postgres(element: one_of, compiler: SQLCompiler, **how: Any) -> str:
    column, ids = (compiler.process(each, **how) for each in element.clauses)
    return f"{column} = ANY ({ids})"


class paired(FunctionElement[Any]):
    """Two columns of all rows as one list of pairs, in no order; NULL or empty where there are none."""

    type = Document
    inherit_cache = True


@compiles(paired, "sqlite")
def _paired_by_sqlite(element: paired, compiler: SQLCompiler, **how: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **how)}))"


@compiles(paired, "postgresql")
def _paired_by_postgres(element: paired, compiler: SQLCompiler, **how: Any) -> str:
    return f"jsonb_agg(jsonb_build_array({compiler.process(element.clauses, **how)}))"


def columns(row: Row[Any]) -> Mapping[Any, Any]:
    """A row by column name."""
    return row._mapping  # pyright: ignore[reportPrivateUsage] - SQLAlchemy's documented name


def hold(transaction: Connection, *name: str) -> None:
    """Keeps others who hold the same name waiting until this transaction ends, row or no row."""
    if transaction.dialect.name == "postgresql":
        _HOLD.run(transaction, {"name": "\x1f".join(name)})


_HOLD: Final = Prepared(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"))


def hold_all(transaction: Connection, names: Collection[tuple[str, ...]]) -> None:
    """As ``hold``, of many names, in an order in which no two who do so wait for each other."""
    hold_in_order(transaction, sorted(set(names)))


def hold_in_order(transaction: Connection, names: Sequence[tuple[str, ...]]) -> None:
    """As ``hold``, of one after the other."""
    if names and transaction.dialect.name == "postgresql":
        _HOLD_ALL.run(transaction, {"names": ["\x1f".join(name) for name in names]})


_HOLD_ALL: Final = Prepared(
    text(
        "SELECT count(pg_advisory_xact_lock(hashtextextended(name, 0)))"
        " FROM unnest(CAST(:names AS text[])) AS held(name)"
    )
)


def hold_if_free(transaction: Connection, *name: str) -> bool:
    """As ``hold``, but without waiting: False where another transaction holds the name."""
    if transaction.dialect.name != "postgresql":
        return True
    key = func.hashtextextended("\x1f".join(name), 0)
    return bool(transaction.execute(select(func.pg_try_advisory_xact_lock(key))).scalar_one())


def hold_those_free(
    transaction: Connection, names: Collection[tuple[str, ...]]
) -> set[tuple[str, ...]]:
    """As ``hold``, of many names without waiting; returns those that are held now."""
    if transaction.dialect.name != "postgresql":
        return set(names)
    joined = {"\x1f".join(name): name for name in names}
    found = _HOLD_THOSE_FREE.all(transaction, {"names": sorted(joined)})
    return {joined[row["name"]] for row in found}


_HOLD_THOSE_FREE: Final = Prepared(
    text(
        "SELECT name FROM unnest(CAST(:names AS text[])) AS held(name)"
        " WHERE pg_try_advisory_xact_lock(hashtextextended(name, 0))"
    ).columns(named("name", Text))
)


def favour_indexes(transaction: Connection) -> None:
    """For a transaction of many look-ups by key: Postgres keeps a plan that it made while a table
    was small, and reads all of it each time until its statistics follow.

    A batch of 300 changes then takes 70 ms instead of 570; with any other plan it makes no difference.
    """
    if transaction.dialect.name == "postgresql":
        _FAVOUR_INDEXES.run(transaction, {})


_FAVOUR_INDEXES: Final = Prepared(text("SELECT set_config('enable_seqscan', 'off', true)"))


def plan_anew(transaction: Connection) -> None:
    """As ``favour_indexes``, for look-ups by two columns of which several indexes have the first: of
    a table that was small any of them is as good, and an organization is read whole from then on.

    To look up 32 users among 2,000 then takes 2 ms of Postgres instead of 39.
    """
    if transaction.dialect.name == "postgresql":
        _PLAN_ANEW.run(transaction, {})


_PLAN_ANEW: Final = Prepared(
    text(
        "SELECT set_config('enable_seqscan', 'off', true),"
        " set_config('plan_cache_mode', 'force_custom_plan', true)"
    )
)
