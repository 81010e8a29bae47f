"""Conditions and orders in SQL for typed predicates, on Postgres JSONB and SQLite JSON.

The predicates are those of service.directory.predicates; where a table keeps what is its ``Layout``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Numeric,
    Text,
    and_,
    case,
    cast,
    collate,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
)

from service.directory.letters import folded_letters
from service.directory.predicates import (
    And,
    Compare,
    Constant,
    Entry,
    Not,
    Operator,
    Or,
    Predicate,
    Present,
    Target,
)
from service.directory.tables import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A list attribute that is kept as rows: ``rows`` makes a FROM of one resource's entries."""

    rows: Callable[[], FromClause]
    joined: Callable[[FromClause], ColumnElement[bool]]
    columns: Mapping[str, Callable[[FromClause], ColumnElement[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a table keeps what. ``columns`` are attributes with a column of their own; ``folded``
    hold a value's casefold and are indexed; ``keyed`` answers an equality from another table;
    ``indexed`` names the other columns of which an index finds an equal value.
    """

    resource: ColumnElement[Any]
    columns: Mapping[tuple[str, ...], ColumnElement[Any]]
    folded: Mapping[tuple[str, ...], ColumnElement[Any]]
    keyed: Mapping[tuple[str, ...], Callable[[str], ColumnElement[bool]]] = field(
        default_factory=dict[tuple[str, ...], "Callable[[str], ColumnElement[bool]]"]
    )
    relations: Mapping[tuple[str, ...], Relation] = field(
        default_factory=dict[tuple[str, ...], Relation]
    )
    indexed: frozenset[tuple[str, ...]] = frozenset()


def finds_few(predicate: Predicate, layout: Layout) -> Literal["ids", "values"] | None:
    """What an index leads by to all that fulfil this: their ids, a value, or None to a walk."""
    match predicate:
        case Compare(target=target, operator="eq", value=str()):
            if target.name == ("id",) or target.name in layout.keyed:
                return "ids"
            known = target.name in layout.indexed or target.name in layout.folded
            return "values" if known else None
        case Entry(keys=keys, where=where):
            return "ids" if _named_value(keys, where, layout) is not None else None
        case And(terms):
            found = [finds_few(term, layout) for term in terms]
            return "ids" if "ids" in found else "values" if "values" in found else None
        case Or(terms):
            by_ids = bool(terms) and all(finds_few(term, layout) == "ids" for term in terms)
            return "ids" if by_ids else None
        case _:
            return None


def _named_value(keys: tuple[str, ...], where: Predicate, layout: Layout) -> str | None:
    """The value that an entry must have to fulfil this, where ``keyed`` knows who has it."""
    match where:
        case Compare(target=Target(keys=("value",)), operator="eq", value=str(value)):
            return value if (*keys, "value") in layout.keyed else None
        case And(terms):
            values = (_named_value(keys, term, layout) for term in terms)
            return next((value for value in values if value is not None), None)
        case _:
            return None


def compile_predicate(
    predicate: Predicate, layout: Layout, dialect_name: str
) -> ColumnElement[bool]:
    """A condition for WHERE. NULL in it counts as false; nothing is left out, nothing widened."""
    return _Compiler(dialect_name, layout).condition(predicate)


def compile_sort(target: Target, layout: Layout, dialect_name: str) -> ColumnElement[Any]:
    """What to order by: of a list the primary entry, else the first (RFC 7644 section 3.4.2.3)."""
    return _Compiler(dialect_name, layout).sort_key(target)


_ESCAPE: Final = "\\"
LONGEST_KEY: Final = 256
"""Characters of a text that sorting looks at: a place in the order must fit into a cursor."""


def _escaped(text: str) -> str:
    return text.replace(_ESCAPE, _ESCAPE * 2).replace("%", "\\%").replace("_", "\\_")


class _Compiler:
    """Walks one predicate; ``host`` is the document that keys start from."""

    def __init__(self, dialect_name: str, layout: Layout) -> None:
        self._postgres = dialect_name == "postgresql"
        self._layout = layout

    def condition(self, predicate: Predicate) -> ColumnElement[bool]:
        return self._condition(predicate, self._layout.resource, self._layout)

    def _condition(
        self, predicate: Predicate, host: ColumnElement[Any], layout: Layout | None
    ) -> ColumnElement[bool]:
        match predicate:
            case And(terms):
                return and_(true(), *(self._condition(term, host, layout) for term in terms))
            case Or(terms):
                return or_(false(), *(self._condition(term, host, layout) for term in terms))
            case Not(term):
                return not_(func.coalesce(self._condition(term, host, layout), false()))
            case Constant(value):
                return true() if value else false()
            case Entry(keys=keys, where=where):
                return self._entry(keys, where, host, layout)
            case Compare():
                return self._compare(predicate, host, layout)
            case Present(target=target):
                return self._present(target, host, layout)

    # Leaves

    def _compare(
        self, leaf: Compare, host: ColumnElement[Any], layout: Layout | None
    ) -> ColumnElement[bool]:
        target = leaf.target
        if layout is not None:
            known = self._by_column(leaf, layout)
            if known is not None:
                return known
        if target.many:
            inner = Target(
                keys=(target.sub,) if target.sub else (), kind=target.kind, exact=target.exact
            )
            entry = Compare(target=inner, operator=leaf.operator, value=leaf.value)
            return self._entry(target.keys, entry, host, layout)
        value = self._value(host, target)
        if isinstance(leaf.value, datetime):  # in a document it is text of one form, which sorts
            moment = leaf.value.astimezone(UTC).isoformat(timespec="microseconds")
            return self._ordered(self._collated(value), leaf.operator, moment)
        return self._test(value, leaf)

    def _by_column(self, leaf: Compare, layout: Layout) -> ColumnElement[bool] | None:
        """The condition on a column or an index, where the attribute has one."""
        name, value = leaf.target.name, leaf.value
        if leaf.operator == "eq" and isinstance(value, str):
            if name in layout.keyed:
                return layout.keyed[name](value)
            if name in layout.folded:
                return layout.folded[name] == value.casefold()
        if name in layout.columns:
            return self._test(layout.columns[name], leaf)
        return None

    def _present(
        self, target: Target, host: ColumnElement[Any], layout: Layout | None
    ) -> ColumnElement[bool]:
        if layout is not None and target.name in layout.columns:
            return layout.columns[target.name].is_not(None)
        if target.many:
            if target.sub is None:
                return self._entry(target.keys, Constant(True), host, layout)
            inner = Present(target=Target(keys=(target.sub,), kind=target.kind))
            return self._entry(target.keys, inner, host, layout)
        if not self._postgres:
            return func.json_type(host, _sqlite_path(target.keys)).is_not(None)
        return _postgres_path(host, target.keys).is_not(None)

    def _entry(
        self,
        keys: tuple[str, ...],
        where: Predicate,
        host: ColumnElement[Any],
        layout: Layout | None,
    ) -> ColumnElement[bool]:
        if layout is not None and keys in layout.relations:
            relation = layout.relations[keys]
            rows = relation.rows()
            inner = Layout(
                resource=host,
                columns={(name,): make(rows) for name, make in relation.columns.items()},
                folded={},
            )
            condition = self._condition(where, host, inner)
            return exists(
                select(literal(1)).select_from(rows).where(relation.joined(rows), condition)
            )
        entries, value = self._entries(keys, host, plain=_is_of_plain_values(where))
        found = exists(
            select(literal(1)).select_from(entries).where(self._condition(where, value, None))
        )
        named = _named_value(keys, where, layout) if layout is not None else None
        if layout is None or named is None:
            return found
        return and_(layout.keyed[(*keys, "value")](named), found)

    def _entries(
        self, keys: tuple[str, ...], host: ColumnElement[Any], *, plain: bool = False
    ) -> tuple[FromClause, ColumnElement[Any]]:
        """The rows of a list, and the entry in each. ``plain``: entries are values, not objects.

        What an extension holds may have been stored under another declaration: that has no rows.
        """
        unsure = ":" in keys[0]
        if self._postgres:
            found = _postgres_path(host, keys)
            if unsure:
                found = case((func.jsonb_typeof(found) == "array", found), else_=null())
            rows = func.jsonb_array_elements(found).table_valued(column("value", Document))
            return rows, rows.c.value
        if not unsure:
            rows = func.json_each(host, _sqlite_path(keys)).table_valued(column("value", Text))
            return rows, rows.c.value
        path = _sqlite_path(keys)
        listed = case(
            (func.json_type(host, path) == "array", func.json_extract(host, path)), else_="[]"
        )
        rows = func.json_each(listed).table_valued(column("value", Text), column("type", Text))
        return rows, rows.c.value if plain else case((rows.c.type == "object", rows.c.value))

    def _value(self, host: ColumnElement[Any], target: Target) -> ColumnElement[Any]:
        if not self._postgres:
            # An entry that is no object is its own value: json_each has unwrapped it.
            path = _sqlite_path(target.keys)
            value = func.json_extract(host, path) if target.keys else host
            if target.kind != "number":
                return value
            kind = func.json_type(host, path) if target.keys else func.typeof(host)
            return case((kind.in_(("integer", "real")), value))
        found = _postgres_path(host, target.keys)
        text = found.op("#>>")(literal_column("'{}'"))
        if target.keys:
            text = func.jsonb_extract_path_text(host, *target.keys)
        if target.kind == "boolean":
            return text == "true"
        if target.kind == "number":
            return case((func.jsonb_typeof(found) == "number", cast(text, Numeric)))
        return text

    def _test(self, value: ColumnElement[Any], leaf: Compare) -> ColumnElement[bool]:
        wanted = leaf.value
        if isinstance(wanted, bool):
            return value == (true() if wanted else false())
        if isinstance(wanted, datetime):
            return self._ordered(value, leaf.operator, wanted.astimezone(UTC))
        if isinstance(wanted, float) and self._postgres:
            return self._ordered(value, leaf.operator, Decimal(repr(wanted)))  # as JSONB keeps it
        if isinstance(wanted, int | float):
            return self._ordered(value, leaf.operator, wanted)
        return self._text(value, leaf, wanted)

    def _text(self, value: ColumnElement[Any], leaf: Compare, wanted: str) -> ColumnElement[bool]:
        # Both sides are folded alike, so that a value always equals itself.
        exact = leaf.target.exact
        left, right = (value, literal) if exact else self._folded(value, wanted)
        match leaf.operator:
            case "eq" | "gt" | "ge" | "lt" | "le":
                if self._postgres and leaf.operator != "eq":
                    left = collate(left, "C")
                return self._ordered(left, leaf.operator, right(wanted))
            case "co":
                pattern = f"%{_escaped(wanted)}%"
            case "sw":
                pattern = f"{_escaped(wanted)}%"
            case "ew":
                pattern = f"%{_escaped(wanted)}"
        if exact and not self._postgres:
            return self._sqlite_exact(left, leaf.operator, wanted)
        return left.like(right(pattern), escape=_ESCAPE)

    def _folded(
        self, value: ColumnElement[Any], wanted: str
    ) -> tuple[ColumnElement[Any], Callable[[str], ColumnElement[Any]]]:
        """A value without its letter case, and what makes ``wanted``, or a pattern of it, so.

        SQLite's ``lower`` leaves letters beyond ASCII as they are, and so does Postgres's in some
        locales: where such are wanted, more is done.
        """
        if wanted.isascii():
            return func.lower(value), lambda text: func.lower(literal(text))
        if not self._postgres:
            # A value of ASCII alone, as most are, costs no call from SQLite to Python.
            beyond = value.op("GLOB")(literal_column("'*[^ -~]*'"))
            folded = case((beyond, func.casefold(value)), else_=func.lower(value))
            return folded, lambda text: literal(text.casefold())
        forms = folded_letters(wanted)
        if forms:
            value = func.translate(value, "".join(forms), "".join(forms.values()))
        return func.lower(value), lambda text: func.lower(
            literal(text.translate(str.maketrans(forms)))
        )

    def _sqlite_exact(
        self, value: ColumnElement[Any], operator: Operator, wanted: str
    ) -> ColumnElement[bool]:
        """SQLite's LIKE ignores letter case, so positions are compared instead."""
        if operator == "co":
            return func.instr(value, wanted) > 0
        if not wanted:
            return value.is_not(None)
        if operator == "sw":
            return func.substr(value, 1, len(wanted)) == wanted
        return func.substr(value, -len(wanted)) == wanted

    def _ordered(
        self, value: ColumnElement[Any], operator: Operator, wanted: Any
    ) -> ColumnElement[bool]:
        match operator:
            case "eq":
                return value == wanted
            case "gt":
                return value > wanted
            case "ge":
                return value >= wanted
            case "lt":
                return value < wanted
            case "le":
                return value <= wanted
            case _:
                raise AssertionError(f"{operator} compares text only")

    # Sorting

    def sort_key(self, target: Target) -> ColumnElement[Any]:
        layout = self._layout
        if target.name in layout.folded:
            return layout.folded[target.name]  # of a collation that is the same everywhere
        if target.name in layout.columns:
            value = layout.columns[target.name]
            return self._collated(value) if target.kind == "string" else value
        resource = layout.resource
        value = self._of_list(target) if target.many else self._value(resource, target)
        if target.kind != "string":
            return value
        text = func.substr(value, 1, LONGEST_KEY)
        return self._collated(text if target.exact else func.lower(text))

    def _of_list(self, target: Target) -> ColumnElement[Any]:
        sub = (target.sub,) if target.sub else ()
        if not sub:
            first = Target(keys=(*target.keys, "0"), kind=target.kind)
            return self._value(self._layout.resource, first)
        inner = Target(keys=sub, kind=target.kind, exact=target.exact)
        entries, entry = self._entries(target.keys, self._layout.resource)
        primary = Compare(
            target=Target(keys=("primary",), kind="boolean"), operator="eq", value=True
        )
        first = Target(keys=(*target.keys, "0", *sub), kind=target.kind)
        preferred = (
            select(self._value(entry, inner))
            .select_from(entries)
            .where(self._condition(primary, entry, None))
            .limit(1)
            .scalar_subquery()
        )
        return func.coalesce(preferred, self._value(self._layout.resource, first))

    def _collated(self, value: ColumnElement[Any]) -> ColumnElement[Any]:
        return collate(value, "C") if self._postgres else value


def _is_of_plain_values(where: Predicate) -> bool:
    """Whether the condition is on entries that are values themselves."""
    return isinstance(where, Compare) and not where.target.keys


def _sqlite_path(keys: tuple[str, ...]) -> str:
    """A JSON path with every name quoted; a number is a position in a list."""
    steps = (f"[{key}]" if key.isdigit() else f'."{key}"' for key in keys)
    return "$" + "".join(steps)


def _postgres_path(host: ColumnElement[Any], keys: tuple[str, ...]) -> ColumnElement[Any]:
    return func.jsonb_extract_path(host, *keys, type_=Document) if keys else host
