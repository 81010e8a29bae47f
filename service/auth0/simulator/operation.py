"""What an operation of the Management API is here: a template, its scopes and a function.

A handler runs inside one transaction, without awaiting; it answers or raises `Refusal`.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import unquote

from service.auth0.simulator.errors import Refusal, bad_body
from service.auth0.simulator.lag import Lag, Range, drawn
from service.auth0.simulator.shapes import Query, Shape, checked


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where something happens: one tenant, in one transaction, at one moment."""

    db: sqlite3.Connection
    tenant: str
    now: float
    lag: Lag
    random: Random
    told: set[str] = field(default_factory=set[str])
    """Tenants of which something happens in this transaction that subscribers hear of."""

    def due(self, delay: Range) -> float:
        """The moment at which an effect with that delay shows."""
        return self.now + drawn(delay, self.random)

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query whose first parameter is the tenant."""
        return self.db.execute(sql, (self.tenant, *values)).fetchall()

    def row(self, sql: str, *values: object) -> sqlite3.Row | None:
        """The first row of such a query, or None."""
        found = self.db.execute(sql, (self.tenant, *values)).fetchone()
        return found if isinstance(found, sqlite3.Row) else None

    def run(self, sql: str, *values: object) -> int:
        """Execute such a statement; answers how many rows it touched."""
        return self.db.execute(sql, (self.tenant, *values)).rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated call of an operation. `json` is the parsed body, None where there is none.

    scopes: what the token allows; None allows everything.
    """

    world: World
    params: Mapping[str, str]
    query: Query
    json: object
    raw: bytes
    content_type: str
    scopes: frozenset[str] | None
    base_url: str
    custom_domain: str | None = None
    """What the header ``auth0-custom-domain`` names."""

    def body(self, shape: Shape) -> dict[str, Any]:
        """The body as an object that fits `shape`."""
        if self.json is None and not self.raw:
            raise bad_body("Missing body")
        return checked(self.json, shape)

    def needs(self, *any_of: str) -> None:
        """403 unless the token has one of these scopes."""
        if self.scopes is not None and self.scopes.isdisjoint(any_of):
            raise Refusal(
                status=403,
                message=f"Insufficient scope, expected any of: {','.join(any_of)}",
                error_code="insufficient_scope",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back: a status and a JSON body, or none."""

    status: int = 200
    body: Any = None
    empty: bool = False
    stream: Any = None
    """A subscription to the feed of events, which then takes the body's place."""


NO_CONTENT = Answer(status=204, empty=True)

Handler = Callable[[Call], Answer]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `template` is below `/api/v2`; `group` names its rate limit group.

    scopes: any of these suffices; a handler may ask for more.
    sessions_api: documented as part of the Enterprise plan.
    """

    method: str
    template: str
    group: str
    scopes: tuple[str, ...]
    handler: Handler
    sessions_api: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    segments: tuple[str, ...]
    operation: Operation

    def match(self, path: tuple[str, ...]) -> dict[str, str] | None:
        params: dict[str, str] = {}
        for template, segment in zip(self.segments, path, strict=True):
            if template.startswith("{"):
                params[template[1:-1]] = segment
            elif template != segment:
                return None
        return params


@dataclass(frozen=True, slots=True)
class Router:
    """Finds an operation by method and raw path, so that an encoded `/` stays inside its segment."""

    _by_shape: dict[tuple[str, int], list[_Candidate]] = field(default_factory=dict)

    @classmethod
    def of(cls, operations: tuple[Operation, ...]) -> "Router":
        """A router over all operations; literal segments win over parameters."""
        router = cls()
        for operation in operations:
            segments = tuple(operation.template.strip("/").split("/"))
            key = (operation.method, len(segments))
            router._by_shape.setdefault(key, []).append(_Candidate(segments, operation))
        for candidates in router._by_shape.values():
            candidates.sort(key=lambda c: [s.startswith("{") for s in c.segments])
        return router

    def find(self, method: str, raw_path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation and its path parameters. `raw_path` is percent-encoded, below `/api/v2`."""
        path = tuple(unquote(segment) for segment in raw_path.strip("/").split("/"))
        for candidate in self._by_shape.get((method, len(path)), []):
            params = candidate.match(path)
            if params is not None:
                return candidate.operation, params
        return None
