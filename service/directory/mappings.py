"""The mappings that customers declared, as stored. What they mean is the affair of ``consumers``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Text, bindparam, cast, select

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import columns, insert
from service.directory.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A stored mapping. ``text``: its document as JSON."""

    name: str
    version: int
    text: str
    modified_at: datetime


_EVERY: Final = select(
    t.mappings.c.name,
    t.mappings.c.version,
    cast(t.mappings.c.document, Text).label("text"),
    t.mappings.c.modified_at,
).order_by(t.mappings.c.name)
_ONE: Final = Prepared(_EVERY.where(t.mappings.c.name == bindparam("of")))


def every(transaction: Transaction) -> dict[str, Declared]:
    """By name."""
    return {row.name: Declared(**columns(row)) for row in transaction.execute(_EVERY)}


def find(transaction: Transaction, name: str) -> Declared | None:
    row = _ONE.first(transaction, {"of": name})
    return Declared(**dict(row)) if row is not None else None


def apply(
    transaction: Transaction, name: str, version: int, document: dict[str, Any], now: datetime
) -> None:
    """Stores a mapping as declared, new or changed."""
    values = {"version": version, "document": document, "modified_at": now}
    transaction.execute(
        insert(transaction, t.mappings)
        .values(name=name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
    )
