"""The few places where Postgres and SQLite want to be asked differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite


def insert(transaction: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT; both databases share its syntax, SQLAlchemy has it twice."""
    if transaction.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def columns(row: Row[Any]) -> Mapping[Any, Any]:
    """A row by column name."""
    return row._mapping  # pyright: ignore[reportPrivateUsage] - SQLAlchemy's documented name


def hold(transaction: Connection, *name: str) -> None:
    """Keeps others who hold the same name waiting until this transaction ends, row or no row."""
    if transaction.dialect.name == "postgresql":
        key = func.hashtextextended("\x1f".join(name), 0)
        transaction.execute(select(func.pg_advisory_xact_lock(key)))
