"""The named transforms of attributes: a value in, a value out. Pure.

Null goes through all of them but ``default``; numbers count as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from consumers.mappings import instants
from consumers.unusable import Unusable

Transform = Callable[[Any], Any]
"""Raises Unusable where the value is of a kind that it cannot take."""


def strip(value: Any) -> Any:
    """Text without spaces around it; text of nothing else is null."""
    return None if value is None else as_text(value).strip() or None


def lower(value: Any) -> Any:
    return None if value is None else as_text(value).lower()


def lookup(table: Mapping[str, Any]) -> Transform:
    """What the table has for the value, null where it has nothing. ``true`` is the key of true."""
    return lambda value: None if value is None else table.get(as_key(value))


def default(instead: Any) -> Transform:
    """Something else for null."""
    return lambda value: instead if value is None else value


def parse_date(names: str | Sequence[str]) -> Transform:
    """``YYYY-MM-DD`` of a moment in one of these formats; of an instant its own date."""
    tried = instants.formats(names)

    def transform(value: Any) -> Any:
        if value is None:
            return None
        found = instants.read(value, tried)
        if found is None:
            raise Unusable("invalid_attribute", "is in none of the formats of its parse_date")
        return f"{found.year:04}-{found.month:02}-{found.day:02}"

    return transform


def full_name_split(part: Literal["given", "family"]) -> Transform:
    """One half of a whole name: of ``Ada King Lovelace`` and of ``Lovelace, Ada King`` the family
    name is ``Lovelace``. A single word is the given name.
    """

    def transform(value: Any) -> Any:
        if value is None:
            return None
        whole = " ".join(as_text(value).split())
        before, comma, after = whole.partition(",")
        if comma:
            given, family = after.strip(), before.strip()
        else:
            given, _, family = whole.rpartition(" ")
            given, family = given or family, family if given else ""
        return (given if part == "given" else family) or None

    return transform


def as_text(value: Any) -> str:
    """Text or a number as text. Raises Unusable for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise Unusable("invalid_attribute", "is neither text nor a number, which its transforms need")


def as_key(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return as_text(value)
