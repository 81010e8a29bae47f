"""Works the set-ups of one tenant's organizations, beside its lanes and out of the same budget.

Decides when to call and when to try again, not what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import ClassVar, Final

import structlog

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.setup import SetUpCalls
from service.clock import Clock, pause
from service.directory import setups
from service.directory.database import Database, is_unavailable
from service.errors import LostLease
from service.provisioning.lanes import backoff
from service.provisioning.setup import turn
from service.provisioning.setup.effects import (
    Done,
    Effect,
    Later,
    Refused,
    TenantRefused,
    interpret,
)
from service.provisioning.setup.observed import ObservedSetUp, after
from service.provisioning.setup.perform import observe, perform
from service.provisioning.setup.plan import Plan, plan
from service.provisioning.setup.turn import Job
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 4
_MOST_STEPS: Final = 100
"""Writes in one turn: more means that the plan does not come to an end."""


class SetUps:
    """Brings Auth0 to what organizations declare, for as long as this process owns the tenant."""

    name: ClassVar[str] = "set-ups"

    def __init__(
        self,
        *,
        database: Database,
        client: Auth0Client,
        clock: Clock,
        poll: float = 0.5,
        wait: Callable[[int], float] = backoff,
        on_call: Callable[[str, object], None] | None = None,
    ) -> None:
        self._database = database
        self._client = client
        self._tenant = client.tenant
        self._calls = SetUpCalls(client=client)
        self._clock = clock
        self._poll = poll
        self._wait = wait
        self._on_call = on_call or (lambda _kind, _effect: None)

    async def work(self, tenure: Tenure, *, stop: asyncio.Event) -> None:
        while not tenure.ended.is_set():
            due = await self._due(tenure)
            await asyncio.gather(*(self._turn(name, tenure) for name in due))
            if not due:
                await tenure.rest("set-ups", self._poll)

    async def _due(self, tenure: Tenure) -> list[str]:
        if not tenure.may_call() or await tenure.paused():
            return []
        now = self._clock.now()
        return await self._database.read(
            lambda tx: setups.due(tx, self._tenant.name, now=now, limit=_AT_ONCE)
        )

    async def _turn(self, name: str, tenure: Tenure) -> None:
        """One organization that fails keeps no other from its turn."""
        try:
            now = self._clock.now()
            job = await self._database.transact(
                lambda tx: turn.begin(tx, name, self._tenant, tenure.owner, now)
            )
            if job is not None:
                await self._work(job, tenure)
        except LostLease:
            tenure.lose()
        except Exception as error:
            if not is_unavailable(error):
                log.exception("set_ups.turn_failed", organization=name, tenant=self._tenant.name)
            await pause(tenure.ended, 5.0)

    async def _work(self, job: Job, tenure: Tenure) -> None:
        seen = await observe(self._calls, job.desired)
        if isinstance(seen, Answer):
            effect = interpret(None, seen, attempts=job.attempts)
            self._on_call("read-set-up", effect)
            await self._end(job, effect, tenure)
            return
        left = plan(job.desired, seen)
        now = self._clock.now()
        await self._database.transact(
            lambda tx: turn.tell_found(tx, job, tenure.owner, now, left=left)
        )
        if not await self._record(job, tenure, seen, left):
            return
        for _ in range(_MOST_STEPS):
            if not left.operations:
                await self._finish(job, tenure, left)
                return
            operation = left.operations[0]
            answer = await perform(self._calls, operation, job.desired, seen)
            effect = interpret(operation, answer, attempts=job.attempts)
            self._on_call(operation.kind, effect)
            if not isinstance(effect, Done):
                await self._end(job, effect, tenure)
                return
            seen = after(seen, operation, id=effect.id, owner=job.desired.name)
            left = plan(job.desired, seen)
            if not await self._record(job, tenure, seen, left, (operation, effect)):
                return
        raise RuntimeError("the plan does not come to an end")

    async def _record(
        self,
        job: Job,
        tenure: Tenure,
        seen: ObservedSetUp,
        left: Plan,
        done: tuple[turn.Operation, Done] | None = None,
    ) -> bool:
        now = self._clock.now()
        return await self._database.transact(
            lambda tx: turn.record(tx, job, tenure.owner, now, observed=seen, plan=left, done=done)
        )

    async def _finish(
        self, job: Job, tenure: Tenure, left: Plan, refused: Refused | None = None
    ) -> None:
        self._client.note_made()  # before anybody is due because of it
        now = self._clock.now()
        await self._database.transact(
            lambda tx: turn.finish(
                tx, job, tenure.owner, now, problems=left.problems, refused=refused
            )
        )

    async def _end(self, job: Job, effect: Effect, tenure: Tenure) -> None:
        """The turn's end where a call did not succeed."""
        if isinstance(effect, TenantRefused) and effect.alone is not None:
            effect = effect.where(await self._client.accepted())
        match effect:
            case Refused():
                await self._finish(job, tenure, Plan(), effect)
            case TenantRefused():
                log.warning("set_ups.tenant_paused", tenant=self._tenant.name, reason=effect.reason)
                await tenure.pause(effect.reason, effect.status)
                await self._postpone(
                    job, Later(reason=effect.reason, after=0.0, counted=False), tenure
                )
            case Later():
                await self._postpone(job, effect, tenure)
            case Done():
                raise RuntimeError("a read is no end")

    async def _postpone(self, job: Job, later: Later, tenure: Tenure) -> None:
        wait = later.after if later.after is not None else self._wait(job.attempts + 1)
        now = self._clock.now()
        until = now + timedelta(seconds=wait)
        await self._database.transact(
            lambda tx: turn.postpone(tx, job, later, tenure.owner, now, until)
        )
