"""Checks of request bodies and query strings against small schemas, with Auth0-like messages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from service.auth0.simulator.errors import bad_body, bad_paging, bad_query

Kind = Literal["string", "email", "boolean", "integer", "object", "array"]

EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_TYPES: Mapping[Kind, type] = {
    "string": str,
    "email": str,
    "boolean": bool,
    "integer": int,
    "object": dict,
    "array": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """What one property of a body may hold. `least` and `most` bound lengths or numbers."""

    kind: Kind
    required: bool = False
    nullable: bool = False
    least: int = 0
    most: int | None = None
    pattern: str | None = None
    items: "Property | None" = None
    properties: "Mapping[str, Property] | None" = None


Shape = Mapping[str, Property]


def text(*, most: int | None = None, least: int = 1, required: bool = False) -> Property:
    """A string that is not empty."""
    return Property(kind="string", least=least, most=most, required=required)


FLAG = Property(kind="boolean")
OBJECT = Property(kind="object")


def checked(body: object, shape: Shape) -> dict[str, Any]:
    """`body` as an object that fits `shape`. Raises the 400 that names the first problem."""
    if not isinstance(body, dict):
        raise bad_body("Expected type object")
    unknown = [name for name in body if name not in shape]
    if unknown:
        raise bad_body(f"Additional properties not allowed: {','.join(map(str, unknown))}")
    for name, rule in shape.items():
        if name in body:
            _check(name, body[name], rule)
        elif rule.required:
            raise bad_body(f"Missing required property: {name}")
    return body


def _check(name: str, value: object, rule: Property) -> None:
    if value is None and rule.nullable:
        return
    expected = _TYPES[rule.kind]
    is_flag_as_number = isinstance(value, bool) and expected is int
    if not isinstance(value, expected) or is_flag_as_number:
        kind = "string" if rule.kind == "email" else rule.kind
        raise bad_body(f"Expected type {kind} on property {name}")
    if isinstance(value, str):
        _check_text(name, value, rule)
    elif isinstance(value, int) and not isinstance(value, bool):
        _check_bounds(name, value, rule, "value")
    elif isinstance(value, list):
        _check_bounds(name, len(value), rule, "array length")
        for item in value:
            if rule.items is not None:
                _check(name, item, rule.items)
    elif rule.properties is not None:
        checked(value, rule.properties)


def _check_text(name: str, value: str, rule: Property) -> None:
    _check_bounds(name, len(value), rule, "string length")
    if rule.kind == "email" and not EMAIL.fullmatch(value):
        raise bad_body(f"No valid e-mail address on property {name}")
    if rule.pattern is not None and not re.fullmatch(rule.pattern, value):
        raise bad_body(f"No match of pattern {rule.pattern} on property {name}")


def _check_bounds(name: str, size: int, rule: Property, what: str) -> None:
    if size < rule.least:
        raise bad_body(f"Too small {what} {size} on property {name}, minimum {rule.least}")
    if rule.most is not None and size > rule.most:
        raise bad_body(f"Too large {what} {size} on property {name}, maximum {rule.most}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The query string of a call, first value of each name."""

    values: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """The parameter, or None where it is absent."""
        return self.values.get(name)

    def flag(self, name: str) -> bool | None:
        """A boolean parameter: `true` or `false`."""
        value = self.values.get(name)
        if value is None:
            return None
        if value not in {"true", "false"}:
            raise bad_query(f"Expected type boolean on property {name}")
        return value == "true"

    def integer(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        """A whole number within bounds."""
        value = self.values.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"\d{1,9}", value):
            raise bad_query(f"Expected type integer on property {name}")
        number = int(value)
        if number < least or (most is not None and number > most):
            raise bad_query(f"{name} must lie between {least} and {most}")
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page by index."""

    page: int
    per_page: int
    totals: bool

    @property
    def start(self) -> int:
        """Index of the first row."""
        return self.page * self.per_page


def page_of(query: Query, *, reachable: int | None = 1000) -> Page:
    """`page`, `per_page` and `include_totals`. 400 where the page lies beyond `reachable` rows."""
    page = Page(
        page=query.integer("page", 0),
        per_page=query.integer("per_page", 50, least=1, most=100),
        totals=query.flag("include_totals") or False,
    )
    if reachable is not None and page.start + page.per_page > reachable:
        raise bad_paging(f"Only the first {reachable} records can be reached by page")
    return page


def paged(
    rows: list[dict[str, Any]], name: str, query: Query, *, reachable: int | None = 1000
) -> list[dict[str, Any]] | dict[str, Any]:
    """One page of `rows`: a bare array, or with `include_totals` an object that holds it."""
    page = page_of(query, reachable=reachable)
    shown = rows[page.start : page.start + page.per_page]
    if not page.totals:
        return shown
    return {"start": page.start, "limit": page.per_page, "total": len(rows), name: shown}


def checkpointed(rows: list[dict[str, Any]], name: str, query: Query) -> dict[str, Any]:
    """Rows by cursor: `take` and `from`. The cursor is the number of rows already seen."""
    take = query.integer("take", 50, least=1, most=100)
    cursor = query.text("from") or "0"
    if not cursor.isdigit():
        raise bad_query("from is not a cursor of this list")
    start = int(cursor)
    answer: dict[str, Any] = {name: rows[start : start + take]}
    if start + take < len(rows):
        answer["next"] = str(start + take)
    return answer


def by_checkpoint(query: Query) -> bool:
    """Whether the caller pages by cursor."""
    return query.text("take") is not None or query.text("from") is not None


def selected(rows: list[dict[str, Any]], query: Query) -> list[dict[str, Any]]:
    """Rows with the `fields` asked for (`include_fields=false` leaves these out instead)."""
    fields = query.text("fields")
    if not fields:
        return rows
    names = {name.strip() for name in fields.split(",")}
    include = query.flag("include_fields") is not False
    return [{k: v for k, v in row.items() if (k in names) == include} for row in rows]
