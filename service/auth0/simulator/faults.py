"""Faults that a test orders: which call they meet, how often, and what they do to it.

Rules and what is left of their `times` are kept in the store. Knows no transport.
"""

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any, Literal, get_args

Kind = Literal[
    "status",
    "latency",
    "drop-before",
    "drop-after-commit",
    "html-502",
    "hang",
    "job-fails",
    "job-hangs",
    "job-refuses",
]
OF_JOBS = ("job-fails", "job-hangs", "job-refuses")


class FaultError(Exception):
    """A rule that cannot be read; the text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule, as posted.

    path: exact, with `*` for any text and `{…}` for one segment. Without a path, or with one that
        begins with `*`, only Management API calls are met, so that a token request never spends
        what was meant for them.
    kind: `status` answers `status` with `body` and `headers`; `latency` waits `seconds` and goes on; `drop-before` closes the
        connection instead of doing anything, `drop-after-commit` after doing it; `html-502` answers
        a gateway's page; `hang` never answers, or closes the connection after `seconds`;
        `job-fails` lets the job that the call starts fail half-way, `job-hangs` lets it never end,
        `job-refuses` lets it refuse every row for its password hash.
    after_commit: for `status`, `latency`, `html-502` and `hang`: do it first, then misbehave.
    times: how many calls it meets; None for all.
    probability: of meeting a call that matches.
    """

    kind: Kind
    method: str | None = None
    path: str | None = None
    tenant: str | None = None
    status: int = 503
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    seconds: float | None = None
    times: int | None = None
    probability: float = 1.0
    after_commit: bool = False

    @property
    def commits(self) -> bool:
        """Whether the call takes effect although the caller may never know."""
        through = ("drop-after-commit", "latency", *OF_JOBS)
        return self.after_commit or self.kind in through

    def matches(self, *, tenant: str, method: str, paths: tuple[str, ...], is_call: bool) -> bool:
        """Whether a request is meant. `paths` are the forms under which it may be named; `is_call`
        tells the Management API from the other endpoints."""
        if not is_call and (self.path is None or self.path.startswith("*")):
            return False
        if self.tenant not in {None, tenant} or self.method not in {None, "*", method}:
            return False
        if self.path is None:
            return True
        pattern = _pattern(self.path)
        return any(pattern.fullmatch(path) is not None for path in paths)


def _pattern(path: str) -> re.Pattern[str]:
    """`*` stands for any text, `{…}` for one segment."""
    parts = re.split(r"(\*|\{[^}]*\})", path if path == "*" else path.rstrip("/") or "/")
    return re.compile(
        "".join(
            ".*" if part == "*" else "[^/]+" if part.startswith("{") else re.escape(part)
            for part in parts
        )
    )


def parsed(rule: object) -> Fault:
    """A rule from its JSON form `{"match": {"method", "path", "tenant"}, "kind", …}`.

    Raises FaultError with what is wrong.
    """
    if not isinstance(rule, dict):
        raise FaultError("a fault is an object")
    match = rule.get("match") or {}
    if not isinstance(match, dict):
        raise FaultError("match is an object with method, path and tenant")
    known = {
        "match",
        "kind",
        "status",
        "body",
        "headers",
        "seconds",
        "times",
        "probability",
        "after_commit",
    }
    unknown = sorted(set(rule) - known) + sorted(set(match) - {"method", "path", "tenant"})
    if unknown:
        raise FaultError(f"unknown properties: {', '.join(unknown)}")
    if rule.get("kind") not in get_args(Kind):
        raise FaultError(f"kind is one of {', '.join(get_args(Kind))}")
    method = _text(match, "method")
    return Fault(
        kind=rule["kind"],
        method=None if method is None else method.upper(),
        path=_text(match, "path"),
        tenant=_text(match, "tenant"),
        status=_whole(rule, "status", 503, least=200, most=599),
        body=rule.get("body"),
        headers=_headers(rule),
        seconds=_number(rule, "seconds", None, most=86_400),
        times=_times(rule),
        probability=_number(rule, "probability", 1.0, most=1.0) or 0.0,
        after_commit=rule.get("after_commit") is True,
    )


def _text(source: Mapping[str, Any], name: str) -> str | None:
    value = source.get(name)
    if value is not None and not isinstance(value, str):
        raise FaultError(f"{name} is a string")
    return value


def _headers(source: Mapping[str, Any]) -> Mapping[str, str]:
    value = source.get("headers") or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FaultError("headers is an object of strings")
    return MappingProxyType(value)


def _number(
    source: Mapping[str, Any], name: str, default: float | None, *, most: float
) -> float | None:
    value = source.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise FaultError(f"{name} is a number from 0 to {most:g}")
    return float(value)


def _whole(source: Mapping[str, Any], name: str, default: int, *, least: int, most: int) -> int:
    value = source.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise FaultError(f"{name} is a whole number from {least} to {most}")
    return value


def _times(rule: Mapping[str, Any]) -> int | None:
    if rule.get("times") is None:
        return None
    return _whole(rule, "times", 1, least=1, most=1_000_000)


def order(db: sqlite3.Connection, rule: object) -> int:
    """Keep a rule; answers its id. Raises FaultError."""
    fault = parsed(rule)
    cursor = db.execute(
        "INSERT INTO faults (rule, remaining) VALUES (?, ?)", (json.dumps(rule), fault.times)
    )
    return int(cursor.lastrowid or 0)


def ordered(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """The rules that still stand, oldest first, with `id` and `remaining`."""
    return [
        {**json.loads(row["rule"]), "id": row["id"], "remaining": row["remaining"]}
        for row in db.execute("SELECT * FROM faults ORDER BY id")
    ]


def clear(db: sqlite3.Connection) -> None:
    """Drop all rules."""
    db.execute("DELETE FROM faults")


def met(
    db: sqlite3.Connection,
    random: Random,
    *,
    tenant: str,
    method: str,
    paths: tuple[str, ...],
    is_call: bool,
) -> Fault | None:
    """The first rule that meets this request, one of its `times` spent."""
    for row in db.execute("SELECT * FROM faults ORDER BY id").fetchall():
        fault = parsed(json.loads(row["rule"]))
        if not fault.matches(tenant=tenant, method=method, paths=paths, is_call=is_call):
            continue
        if fault.probability < 1.0 and random.random() >= fault.probability:
            continue
        if row["remaining"] is not None:
            if row["remaining"] <= 1:
                db.execute("DELETE FROM faults WHERE id = ?", (row["id"],))
            else:
                db.execute("UPDATE faults SET remaining = remaining - 1 WHERE id = ?", (row["id"],))
        return fault
    return None
