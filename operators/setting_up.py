"""What is left to do in Auth0 for organizations: asked for, followed until it rests, and compared.

Following reads the directory: the tenant's owner does the work. Comparing reads Auth0, and changes
nothing there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from service.auth0.answers import Answer
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.auth0.setup import SetUpCalls
from service.clock import Clock
from service.configuration import Settings
from service.directory import leases, setups
from service.directory.database import Database, Transaction
from service.directory.setups import SetUpState
from service.errors import ConfigurationError
from service.organizations import Tenant
from service.provisioning.setup.desired import DesiredSetUp
from service.provisioning.setup.perform import observe
from service.provisioning.setup.plan import Plan, Problem, plan

Verdict = Literal["done", "refused", "retrying", "pending", "paused", "unread"]
_LOOK: Final = 0.2
_MOST_TRIES: Final = 5
"""So many failed tries, some 30 s, and whoever waits is told instead."""
_GRACE: Final = 5.0
"""Seconds within which somebody is at it, if anybody is: a tenant that is new has to be claimed."""
_PATIENCE: Final = 60.0
"""Seconds without any progress of what somebody is at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far an organization's set-up is. ``left``: operations, as text."""

    name: str
    verdict: Verdict
    left: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    message: str = ""

    @property
    def rests(self) -> bool:
        """Whether waiting any longer brings nothing."""
        return self.verdict != "pending"

    @property
    def failed(self) -> bool:
        return self.verdict in ("refused", "retrying", "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one look at the directory shows."""

    states: Mapping[str, SetUpState]
    paused: Mapping[str, str] = field(default_factory=dict[str, str])
    worked: frozenset[str] = frozenset()

    @property
    def is_taken_up(self) -> bool:
        return any(each.doubt is not None for each in self.states.values())


def standing(state: SetUpState, pause: str | None = None) -> Standing:
    """``pause``: why nothing is sent to the tenant, where that is so."""
    verdict: Verdict
    match state.verdict:
        case "done":
            verdict = "done"
        case "refused":
            verdict = "refused"
        case _ if pause is not None:
            verdict = "paused"
        case "retrying" if state.attempts >= _MOST_TRIES:
            verdict = "retrying"
        case _:
            verdict = "pending"
    error = state.error or {}
    return Standing(
        name=state.organization,
        verdict=verdict,
        left=tuple(state.plan or ()) if verdict != "done" else (),
        problems=tuple(Problem(**each) for each in error.get("problems", ())),
        message=pause if verdict == "paused" and pause else str(error.get("message", "")),
    )


async def follow(
    database: Database, names: Collection[str], *, clock: Clock, within: float = 600.0
) -> AsyncIterator[Standing]:
    """Each change of how far these organizations are, until all of them rest, or nobody works on
    their tenant, or the time is over.
    """
    told: dict[str, Standing] = {}
    began = moved = clock.monotonic()
    before: _Look | None = None
    while True:
        now = clock.now()
        look = await database.read(lambda tx, now=now: _look(tx, names, now))
        if look != before:
            before, moved = look, clock.monotonic()
        waiting = False
        for name, state in look.states.items():
            here = standing(state, look.paused.get(state.tenant))
            if told.get(name) != here:
                told[name] = here
                yield here
            waiting = waiting or not here.rests
        still = clock.monotonic() - moved
        patience = _PATIENCE if look.is_taken_up else _GRACE
        if not waiting or not look.worked or still > patience or clock.monotonic() - began > within:
            return
        await asyncio.sleep(_LOOK)


def _look(transaction: Transaction, names: Collection[str], now: datetime) -> _Look:
    states = {name: setups.find(transaction, name) for name in names}
    known = {name: state for name, state in states.items() if state is not None}
    pauses = {
        tenant: leases.paused(transaction, tenant)
        for tenant in {state.tenant for state in known.values()}
    }
    return _Look(
        states=known,
        paused={tenant: pause.reason for tenant, pause in pauses.items() if pause is not None},
        worked=leases.worked(transaction, now),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What differs in Auth0 from what is declared. ``unread``: why that could not be seen."""

    name: str
    operations: Sequence[str] = ()
    problems: Sequence[Problem] = ()
    unread: str = ""

    def as_document(self) -> dict[str, Any]:
        return {
            "operations": list(self.operations),
            "problems": [
                {"code": each.code, "message": each.message, "advice": each.advice}
                for each in self.problems
            ],
            **({"unread": self.unread} if self.unread else {}),
        }


async def compare(
    settings: Settings,
    tenant: Tenant,
    wanted: Sequence[DesiredSetUp],
    *,
    clock: Clock,
    within: float = 10.0,
) -> list[Drift]:
    """Reads each of these set-ups of a tenant. ``within``: seconds for one of them."""
    try:
        secret = settings.client_secret(tenant)
    except ConfigurationError as error:
        return [Drift(name=each.name, unread=str(error)) for each in wanted]
    client = Auth0Client(
        tenant, secret, clock=clock, pacer=Pacer(tenant.plan, clock), http=http_client()
    )
    try:
        return [await _compare(SetUpCalls(client=client), each, within) for each in wanted]
    finally:
        await client.close()


async def _compare(calls: SetUpCalls, desired: DesiredSetUp, within: float) -> Drift:
    try:
        async with asyncio.timeout(within):
            seen = await observe(calls, desired)
    except TimeoutError:
        return Drift(name=desired.name, unread=f"Auth0 did not answer within {within:.0f} s")
    if isinstance(seen, Answer):
        said = seen.message or f"Auth0 answered {seen.status}"
        return Drift(name=desired.name, unread=f"{seen.verdict}: {said}")
    left: Plan = plan(desired, seen)
    return Drift(
        name=desired.name,
        operations=tuple(str(each) for each in left.operations),
        problems=left.problems,
    )
