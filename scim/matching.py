"""Whether an entry of a multi-valued attribute fulfils the filter in a PATCH path's brackets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
)


def matches(predicate: Predicate, entry: Mapping[str, Any]) -> bool:
    """The same answer as the SQL of service.directory.conditions gives for stored entries."""
    match predicate:
        case And(terms):
            return all(matches(term, entry) for term in terms)
        case Or(terms):
            return any(matches(term, entry) for term in terms)
        case Not(term):
            return not matches(term, entry)
        case Constant(value):
            return value
        case Present(target=target):
            return entry.get(target.keys[-1]) is not None
        case Compare():
            return _compares(predicate, entry.get(predicate.target.keys[-1]))
        case Entry():
            raise AssertionError("brackets do not stand inside brackets")


def _compares(leaf: Compare, actual: Any) -> bool:
    wanted: Any = leaf.value
    if type(actual) is not type(wanted):
        return False
    if isinstance(actual, str) and not leaf.target.exact:
        actual, wanted = actual.casefold(), wanted.casefold()
    return holds(actual, leaf.operator, wanted)


def holds(actual: Any, operator: Operator, wanted: Any) -> bool:
    """Whether a comparison of two values of one type is true, letter for letter."""
    match operator:
        case "eq":
            return actual == wanted
        case "co":
            return wanted in actual
        case "sw":
            return actual.startswith(wanted)
        case "ew":
            return actual.endswith(wanted)
        case "gt":
            return actual > wanted
        case "ge":
            return actual >= wanted
        case "lt":
            return actual < wanted
        case "le":
            return actual <= wanted


def terms_of(predicate: Predicate) -> int:
    """How many comparisons a filter has."""
    match predicate:
        case And(terms) | Or(terms):
            return sum(terms_of(term) for term in terms)
        case Not(term):
            return terms_of(term)
        case _:
            return 1


def depth_of(predicate: Predicate) -> int:
    """How many terms of a filter stand within each other; one comparison has none around it."""
    match predicate:
        case And(terms) | Or(terms):
            inner = max(map(depth_of, terms), default=0)
            return inner + 1 if len(terms) > 1 else inner
        case Not(term):
            return depth_of(term) + 1
        case Entry(where=where):
            return depth_of(where) + 1
        case _:
            return 0


def template(predicate: Predicate) -> dict[str, Any] | None:
    """The entry that equalities describe; None where the filter says more than that."""
    match predicate:
        case Compare(target=target, operator="eq", value=value):
            return {target.keys[-1]: value}
        case And(terms):
            made: dict[str, Any] = {}
            for term in terms:
                part = template(term)
                if part is None:
                    return None
                made |= part
            return made
        case _:
            return None


def named_values(predicate: Predicate) -> frozenset[str] | None:
    """The values that ``value eq "a" or value eq "b"`` names; None for any other filter."""
    match predicate:
        case Compare(target=target, operator="eq", value=str() as value) if target.keys == (
            "value",
        ):
            return frozenset((value,))
        case Or(terms):
            found: set[str] = set()
            for term in terms:
                part = named_values(term)
                if part is None:
                    return None
                found |= part
            return frozenset(found)
        case _:
            return None
