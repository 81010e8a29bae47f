"""The simulator without HTTP: worlds of tenants, the log of calls, and one call's course."""

import math
import re
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import unquote

import orjson

from service.auth0.simulator import (
    blocks,
    clients,
    connections,
    event_feed,
    faults,
    identities,
    invitations,
    jobs,
    members,
    oauth,
    organizations,
    roles,
    seed,
    sessions,
    tickets,
    users,
)
from service.auth0.simulator.errors import Refusal, bad_body
from service.auth0.simulator.event_feed import FeedTraits, Subscribers
from service.auth0.simulator.faults import Fault
from service.auth0.simulator.lag import Lag
from service.auth0.simulator.limits import Clock, RateLimiter, Verdict
from service.auth0.simulator.operation import Answer, Call, Operation, Router, World
from service.auth0.simulator.shapes import Query
from service.auth0.simulator.store import TENANT_TABLES, Store, timestamp

OPERATIONS: tuple[Operation, ...] = (
    *users.OPERATIONS,
    *identities.OPERATIONS,
    *sessions.OPERATIONS,
    *blocks.OPERATIONS,
    *organizations.OPERATIONS,
    *members.OPERATIONS,
    *invitations.OPERATIONS,
    *roles.OPERATIONS,
    *clients.OPERATIONS,
    *connections.OPERATIONS,
    *tickets.OPERATIONS,
    *jobs.OPERATIONS,
    *event_feed.OPERATIONS,
)
MOST_CALLS_KEPT = 200_000
MOST_BYTES = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request to the Management API. `path` is percent-encoded and below `/api/v2`."""

    tenant: str
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    content_type: str
    authorization: str | None
    base_url: str
    custom_domain: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the request got, committed."""

    answer: Answer
    headers: Mapping[str, str]


class Simulation:
    """The stateful part. Every method is one transaction, committed when it returns."""

    def __init__(
        self,
        *,
        store: Store,
        limiter: RateLimiter,
        clock: Clock,
        random: Random,
        lag: Lag,
        sessions_api: bool,
        feed: FeedTraits | None = None,
    ) -> None:
        self.store = store
        self.limiter = limiter
        self._clock = clock
        self._random = random
        self._lag = lag
        self._sessions_api = sessions_api
        self.feed = feed or FeedTraits()
        self.subscribers = Subscribers()
        self._router = Router.of(OPERATIONS)

    def template_of(self, method: str, path: str) -> str | None:
        """The operation's path with names for what varies; None where there is no such operation."""
        found = self._router.find(method, path)
        return found[0].template if found is not None else None

    @contextmanager
    def world(self, tenant: str) -> Generator[World]:
        """A transaction in a tenant, after the jobs that have become due."""
        with self.store.transaction() as db:
            world = self._world(db, tenant)
            jobs.settle(world)
            yield world
        for each in world.told:
            self.subscribers.wake(each)

    def _world(self, db: sqlite3.Connection, tenant: str) -> World:
        return World(db=db, tenant=tenant, now=self._clock(), lag=self._lag, random=self._random)

    def plant(self) -> None:
        """Create the sample tenants that do not exist yet; others stay as they are."""
        with self.store.transaction() as db:
            for name, sample in seed.SAMPLES.items():
                world = self._world(db, name)
                if oauth.open_tenant(world):
                    seed.plant(world, sample)

    def tenants(self) -> list[str]:
        """Names of all tenants."""
        with self.store.transaction() as db:
            return [row["name"] for row in db.execute("SELECT name FROM tenants ORDER BY name")]

    def reset(self, tenant: str | None, *, replant: bool) -> None:
        """Empty one tenant or all, drop faults and calls, fill the rate limit buckets.

        Clients and tokens stay. With `replant` the samples are stored again.
        """
        names = self.tenants() if tenant is None else [tenant]
        with self.store.transaction() as db:
            faults.clear(db)
            for name in names:
                world = self._world(db, name)
                for table in (*TENANT_TABLES, "calls"):
                    world.run(f"DELETE FROM {table} WHERE tenant = ?")  # noqa: S608
                if replant and name in seed.SAMPLES:
                    oauth.open_tenant(world)
                    seed.plant(world, seed.SAMPLES[name])
        self.limiter.fill()

    def token(self, tenant: str, body: Mapping[str, Any]) -> Answer:
        """`/oauth/token`. A tenant that nobody has named before comes into being here."""
        with self.world(tenant) as world:
            oauth.open_tenant(world)
            return oauth.token(world, body)

    def fault(
        self, tenant: str, method: str, paths: tuple[str, ...], *, is_call: bool
    ) -> Fault | None:
        """The fault that this request meets, if any."""
        with self.store.transaction() as db:
            if db.execute("SELECT 1 FROM faults LIMIT 1").fetchone() is None:
                return None
            return faults.met(
                db, self._random, tenant=tenant, method=method, paths=paths, is_call=is_call
            )

    def call(self, received: Received, fault: Fault | None) -> Reply:
        """Execute a call and log it, in one transaction where it succeeds."""
        found = self._router.find(received.method, received.path)
        group = found[0].group if found is not None else "unknown"
        verdict = self.limiter.take(received.tenant, group)
        try:
            with self.world(received.tenant) as world:
                answer = self._execute(world, received, found, verdict)
                if fault is not None and fault.kind in faults.OF_JOBS:
                    jobs.spoil(world, answer.body, fault.kind)
                _log(world, received, answer.status, group, fault)
        except Refusal as refusal:
            answer = Answer(status=refusal.status, body=refusal.body())
            with self.world(received.tenant) as world:
                _log(world, received, answer.status, group, fault)
        return Reply(answer=answer, headers=verdict.headers())

    def exhausted(self) -> dict[str, str]:
        """Rate headers of a 429 that a test ordered: the bucket is full again in a second."""
        reset = math.ceil(self._clock()) + 1
        return Verdict(limit=1, remaining=0, reset=reset, refusal=None).headers()

    def log_unanswered(self, received: Received, fault: Fault, status: int | None) -> None:
        """Log a call that a fault kept from being executed."""
        found = self._router.find(received.method, received.path)
        group = found[0].group if found is not None else "unknown"
        with self.world(received.tenant) as world:
            _log(world, received, status, group, fault)

    def _execute(
        self,
        world: World,
        received: Received,
        found: tuple[Operation, dict[str, str]] | None,
        verdict: Verdict,
    ) -> Answer:
        if verdict.refusal is not None:
            raise Refusal(status=429, message=verdict.refusal, error_code="too_many_requests")
        scopes = oauth.allowed(world, received.authorization)
        if found is None:
            raise Refusal(status=404, message="There is no such operation")
        operation, params = found
        if len(received.body) > MOST_BYTES:
            raise Refusal(
                status=413,
                message=f"Payload content length greater than maximum allowed: {MOST_BYTES}",
            )
        call = Call(
            world=world,
            params=params,
            query=Query(values=received.query),
            json=_json(received),
            raw=received.body,
            content_type=received.content_type,
            scopes=scopes,
            base_url=received.base_url,
            custom_domain=received.custom_domain,
        )
        call.needs(*operation.scopes)
        full = self.subscribers.count(world.tenant) >= self.feed.connections
        if operation.handler is event_feed.subscribe and full:
            raise event_feed.refuse_too_many()
        if operation.sessions_api and not self._sessions_api:
            raise sessions.refuse_without_entitlement()
        return operation.handler(call)

    def calls(self, after: int) -> list[dict[str, Any]]:
        """Logged calls with a higher number."""
        with self.store.transaction() as db:
            found = db.execute("SELECT * FROM calls WHERE number > ? ORDER BY number", (after,))
            return [_shown_call(row) for row in found]


def _json(received: Received) -> object:
    if not received.body or not re.match(r"application/(\w+\+)?json", received.content_type):
        return None
    try:
        return orjson.loads(received.body)
    except orjson.JSONDecodeError:
        raise bad_body("The body is not JSON") from None


def _log(
    world: World, received: Received, status: int | None, group: str, fault: Fault | None
) -> None:
    number = world.db.execute(
        "INSERT INTO calls (at, tenant, method, path, status, endpoint_group, fault)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            world.now,
            received.tenant,
            received.method,
            f"/api/v2{unquote(received.path)}",
            status,
            group,
            None if fault is None else fault.kind,
        ),
    ).lastrowid
    if number is not None and number % 1000 == 0:
        world.db.execute("DELETE FROM calls WHERE number <= ?", (number - MOST_CALLS_KEPT,))


def _shown_call(row: sqlite3.Row) -> dict[str, Any]:
    return {
        "number": row["number"],
        "at": timestamp(row["at"]),
        "tenant": row["tenant"],
        "method": row["method"],
        "path": row["path"],
        "status": row["status"],
        "group": row["endpoint_group"],
        "fault": row["fault"],
    }
