"""Entries of multi-valued attributes: which are the same, which say nothing, which is primary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scim.schema import Attribute


def is_same(attribute: Attribute, known: Any, entry: Any) -> bool:
    """Whether adding this entry means one that is there: by ``value``, and ``type`` where both tell."""
    if not attribute.is_complex or "value" not in attribute.sub:
        return known == entry
    first, second = known.get("type"), entry.get("type")
    if first and second and first.casefold() != second.casefold():
        return False
    return _equal(attribute.sub["value"], known.get("value"), entry.get("value"))


def is_described(attribute: Attribute, entry: Any, wanted: Any) -> bool:
    if not attribute.is_complex:
        return entry == wanted
    return all(
        _equal(attribute.sub[name.casefold()], entry.get(name), value)
        for name, value in wanted.items()
    )


def _equal(attribute: Attribute, first: Any, second: Any) -> bool:
    if isinstance(first, str) and isinstance(second, str) and not attribute.exact:
        return first.casefold() == second.casefold()
    return first == second


def says_something(attribute: Attribute, entry: Mapping[str, Any]) -> bool:
    """An e-mail entry without its value is none; an address needs more than its type."""
    if "value" in attribute.sub:
        return "value" in entry
    return bool(entry.keys() - {"type", "primary"})


def demote_others(entries: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]]) -> None:
    """A new primary entry takes that from the others (RFC 7644 section 3.5.2)."""
    for entry in entries:
        if entry.get("primary") is True and not any(entry is one for one in kept):
            entry["primary"] = False
