"""How a page is fetched: by index, with an exact total, or by keyset from where a walk stands.

A walk goes by (sort value, id), so that rows which come or go meanwhile neither hide nor repeat one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, Row, Table, func, literal, null, select, tuple_
from sqlalchemy.types import NullType

from service.directory.conditions import Layout, compile_predicate, compile_sort, finds_few
from service.directory.database import Transaction
from service.directory.dialect import columns
from service.directory.predicates import Kind, Predicate, Target

T = TypeVar("T")
_KEY: Final = "sort key"
Key = str | bool | int | float | Decimal | datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """What to order by before the id; resources without a value come last.

    ``descending`` is the exact reverse, ids included.
    """

    target: Target
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A row's place in the order: its sort value, None where it has none, and of what ``kind`` the
    values are, None where nothing is sorted.
    """

    id: str
    key: Key | None = None
    kind: Kind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What lies beyond ``position``; where that is None, all from the first row on.

    ``backward``: what lies before it, nearest first; where it is None, from the last row back.
    """

    position: Position | None = None
    backward: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a page shows: at most ``limit`` resources of a walk, else of what follows ``offset``.

    The total of a walk is counted where ``counted`` says so; by index it always is.
    """

    where: Predicate | None = None
    sort: Sort | None = None
    offset: int = 0
    limit: int = 100
    walk: Walk | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """``items`` in the order asked for, backward or not. ``total`` counts everything that matches.

    Of a walk: whether there is ``more`` in its direction, and where its items begin and end.
    """

    items: Sequence[T]
    total: int | None
    more: bool = False
    first: Position | None = None
    last: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is listed: an organization's rows that fulfil ``shown``, or ``walked``: both say the same.

    An index of everything listed knows ``walked`` and not ``shown``: so no database walks through
    it past the index that finds the few that a filter names.
    """

    table: Table
    organization: str
    shown: tuple[ColumnElement[bool], ...]
    walked: tuple[ColumnElement[bool], ...]
    layout: Layout

    def conditions(self, few: Literal["ids", "values"] | None) -> list[ColumnElement[bool]]:
        owner: ColumnElement[Any] = self.table.c.organization
        if few == "ids":  # an expression: else SQLite may read the whole organization for them
            owner = owner.concat("")
        return [owner == self.organization, *(self.walked if few is None else self.shown)]


def fetch(transaction: Transaction, listing: Listing, query: Query) -> Page[Row[Any]]:
    selection = _Selection(transaction, listing, query)
    if query.walk is not None:
        return selection.walked(query.walk)
    return selection.indexed()


class _Selection:
    """One query on one table: its conditions and its order in the database's own words."""

    def __init__(self, transaction: Transaction, listing: Listing, query: Query) -> None:
        dialect = transaction.dialect.name
        self._transaction = transaction
        self._query = query
        self._table = listing.table
        few = finds_few(query.where, listing.layout) if query.where is not None else None
        self._conditions = listing.conditions(few)
        if query.where is not None:
            self._conditions.append(compile_predicate(query.where, listing.layout, dialect))
        # Of few, expressions are sorted by: else the order's index is preferred to the filter's.
        self._id: ColumnElement[Any] = self._table.c.id.concat("") if few else self._table.c.id
        self._key: ColumnElement[Any] | None = None
        if query.sort is not None:
            key = compile_sort(query.sort.target, listing.layout, dialect)
            text = query.sort.target.kind == "string"
            self._key = key.concat("") if few and text else key

    def indexed(self) -> Page[Row[Any]]:
        query = self._query
        rows: Sequence[Row[Any]] = ()
        if query.limit > 0:
            rows = self._rows_by_index()
            ends_here = len(rows) < query.limit and (rows or query.offset == 0)
            if ends_here:  # the last page tells the total
                return Page(items=rows, total=query.offset + len(rows))
        return Page(items=rows, total=self._count())

    def _rows_by_index(self) -> Sequence[Row[Any]]:
        table, query = self._table, self._query
        down = query.sort is not None and query.sort.descending
        order = [self._id.desc() if down else self._id.asc()]
        if self._key is not None:
            nulls_last = self._key.asc().nulls_last()
            order.insert(0, self._key.desc().nulls_first() if down else nulls_last)
        conditions: Sequence[ColumnElement[bool]] = self._conditions
        if query.offset > 0:  # only ids are passed over, since indexes have them
            passed = select(table.c.id).where(*conditions).order_by(*order)
            conditions = [table.c.id.in_(passed.limit(query.limit).offset(query.offset))]
        page = select(table).where(*conditions).order_by(*order).limit(query.limit)
        return self._transaction.execute(page).all()

    def _count(self) -> int:
        counted = select(func.count()).select_from(self._table).where(*self._conditions)
        return self._transaction.execute(counted).scalar_one()

    def walked(self, walk: Walk) -> Page[Row[Any]]:
        limit = self._query.limit
        found = self._beyond(walk, limit + 1)
        more = len(found) > limit
        rows, positions = [row for row, _ in found[:limit]], [at for _, at in found[:limit]]
        total = None
        if self._query.counted:
            whole = walk.position is None and not more
            total = len(rows) if whole else self._count()
        if walk.backward:
            rows.reverse()
            positions.reverse()
        return Page(
            items=rows,
            total=total,
            more=more,
            first=positions[0] if positions else None,
            last=positions[-1] if positions else None,
        )

    def _beyond(self, walk: Walk, wanted: int) -> list[tuple[Row[Any], Position]]:
        """Rows with their places, in the direction of the walk."""
        at, key = walk.position, self._key
        past = [self._past(walk, at)] if at is not None else []
        if key is None:
            return self._rows(walk, past, wanted)
        # Rows with a value and rows without are asked for apart: how NULL sorts differs.
        parts = [True, False]
        if self._down(walk):
            parts.reverse()
        if at is not None and parts[0] is not (at.key is not None):
            del parts[0]
        found: list[tuple[Row[Any], Position]] = []
        for valued in parts:
            conditions = [key.is_not(None) if valued else key.is_(None), *past]
            found += self._rows(walk, conditions, wanted - len(found), valued=valued)
            if len(found) >= wanted:
                break
            past = []
        return found

    def _rows(
        self,
        walk: Walk,
        conditions: Sequence[ColumnElement[bool]],
        wanted: int,
        *,
        valued: bool = False,
    ) -> list[tuple[Row[Any], Position]]:
        key = self._key if valued and self._key is not None else null()
        order = [key, self._id] if valued else [self._id]
        rows = self._transaction.execute(
            select(self._table, key.label(_KEY))
            .where(*self._conditions, *conditions)
            .order_by(*(each.desc() if self._down(walk) else each.asc() for each in order))
            .limit(wanted)
        )
        sort = self._query.sort
        kind = sort.target.kind if sort is not None else None
        return [(row, Position(id=row.id, key=columns(row)[_KEY], kind=kind)) for row in rows]

    def _past(self, walk: Walk, at: Position) -> ColumnElement[bool]:
        here: ColumnElement[Any] = self._id
        there: ColumnElement[Any] = literal(at.id)
        if at.key is not None and self._key is not None:
            known = None if isinstance(self._key.type, NullType) else self._key.type
            here = tuple_(self._key, self._id)
            there = tuple_(literal(at.key, known), there)
        return here < there if self._down(walk) else here > there

    def _down(self, walk: Walk) -> bool:
        descending = self._query.sort is not None and self._query.sort.descending
        return descending is not walk.backward
