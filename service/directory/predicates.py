"""Typed predicates over resources: what a filter asks, with names resolved and values typed.

Knows no filter grammar and no SQL: service.directory.conditions makes conditions of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["string", "boolean", "number", "instant"]
Operator = Literal["eq", "co", "sw", "ew", "gt", "ge", "lt", "le"]
Value = str | bool | int | float | datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A value in a resource. ``keys`` lead to it, or to the list whose entries' ``sub`` is meant.

    Inside an ``Entry`` the keys start at the entry. ``exact``: letter case matters.
    """

    keys: tuple[str, ...]
    kind: Kind = "string"
    exact: bool = False
    many: bool = False
    sub: str | None = None

    @property
    def name(self) -> tuple[str, ...]:
        return (*self.keys, self.sub) if self.sub else self.keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Whether the value, or any of the values, compares so. An absent value never does."""

    target: Target
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Whether there is a value."""

    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Whether one entry of the list at ``keys`` fulfils all of ``where``."""

    keys: tuple[str, ...]
    where: Predicate


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True exactly where the term is not: an absent value makes the term false, not unknown."""

    term: Predicate


@dataclass(frozen=True, slots=True)
class Constant:
    value: bool


Predicate = Compare | Present | Entry | And | Or | Not | Constant
