"""One Auth0 tenant in the hands of one process: claimed, worked by everything that calls it, given
back. Knows leases and pauses; what the works do with the tenant is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Protocol

import structlog

from service.auth0.calls import TIMEOUT
from service.auth0.client import Auth0Client
from service.clock import Clock, pause
from service.directory import leases
from service.directory.database import Database, Transaction, is_unavailable
from service.directory.prospects import Aspect
from service.errors import LostLease
from service.provisioning.outlook import Outlook, rest
from service.provisioning.ownership import Lease, Ownership
from service.provisioning.turn import Owner

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenancySettings:
    """How a tenant is held. Times in seconds."""

    lease: float = 45.0
    look: float = 1.0
    """How often to look whether a pause of the tenant is over."""
    probe: float = 15.0
    """How long a paused tenant is left alone before it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """Our time as the owner of a tenant, as its works see it."""

    tenant: str
    database: Database
    clock: Clock
    lease: Lease
    probe: float
    outlook: Outlook | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process stops or the lease was lost: start nothing new, come to an end."""

    @property
    def owner(self) -> Owner:
        return self.lease.owner

    def may_call(self) -> bool:
        """No call starts with less lease left than it may take, or once somebody else has it."""
        if self.lease.lost.is_set():
            return False
        return self.lease.until - self.clock.monotonic() > TIMEOUT

    def lose(self) -> None:
        """Somebody else owns the tenant: a transaction said so."""
        self.lease.lost.set()
        self.ended.set()

    async def rest(self, aspect: Aspect, poll: float, at_most: float | None = None) -> bool:
        """Until there may be work of this kind in the tenant, or our time is over: as the outlook
        tells, ``poll`` seconds without one. False where nothing was told within ``at_most``.
        """
        return await rest(self.outlook, aspect, self.tenant, self.ended, poll=poll, at_most=at_most)

    async def paused(self) -> bool:
        """Whether nothing is to be sent to the tenant, as its credentials are refused."""
        return await self.database.read(lambda tx: leases.paused(tx, self.tenant)) is not None

    async def pause(self, reason: str, status: int | None) -> None:
        """Has the tenant left alone until a trial succeeds. Raises LostLease.

        ``reason``: for operators; ``status``: what Auth0 answered.
        """
        now = self.clock.now()
        again = now + timedelta(seconds=self.probe)

        def record(transaction: Transaction) -> None:
            leases.pause_tenant(transaction, self.tenant, reason, now, again, status=status)
            leases.require(transaction, self.tenant, self.owner.fence)

        await self.database.transact(record)


class Work(Protocol):
    """Something that calls the tenant for as long as this process owns it."""

    name: ClassVar[str]
    """For logs."""

    async def work(self, tenure: Tenure, *, stop: asyncio.Event) -> None:
        """Until ``tenure.ended``. ``stop``: set where the reason is that the process ends, which
        leaves less time to come to an end than a lost lease does.

        What it raises is logged, and it is called again a second later; LostLease ends the tenure.
        """
        ...


class Tenancy:
    """Holds one tenant whenever it is free, and has it worked by ``works`` side by side."""

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        client: Auth0Client,
        works: Sequence[Work],
        clock: Clock,
        owner: str,
        settings: TenancySettings | None = None,
        outlook: Outlook | None = None,
    ) -> None:
        """``outlook``: tells when there is work; without one, every work looks for itself."""
        self._tenant = tenant
        self._database = database
        self._client = client
        self._works = works
        self._clock = clock
        self._settings = settings or TenancySettings()
        self._outlook = outlook
        self._ownership = Ownership(
            tenant, database=database, clock=clock, owner=owner, seconds=self._settings.lease
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``: claim the tenant, work it, give it back. Outages are waited out."""
        try:
            while not stop.is_set():
                try:
                    lease = await self._ownership.claim()
                    if lease is None:
                        await rest(self._outlook, "free", self._tenant, stop, poll=1.0)
                        continue
                    log.info("tenancy.owned", tenant=self._tenant, fence=lease.owner.fence)
                    await self._own(lease, stop)
                    if lease.lost.is_set():
                        await pause(stop, 1.0)
                except Exception as error:
                    if not is_unavailable(error):
                        log.exception("tenancy.failed", tenant=self._tenant)
                    await pause(stop, 1.0)
        finally:
            await self._client.close()

    async def _own(self, lease: Lease, stop: asyncio.Event) -> None:
        tenure = Tenure(
            tenant=self._tenant,
            database=self._database,
            clock=self._clock,
            lease=lease,
            probe=self._settings.probe,
            outlook=self._outlook,
        )
        self._client.only_while(tenure.may_call)
        beside = [
            asyncio.create_task(self._ownership.keep(lease)),
            asyncio.create_task(self._end_when_lost(tenure)),
            asyncio.create_task(self._end_when_stopped(tenure, stop)),
            asyncio.create_task(self._try_while_paused(tenure)),
        ]
        try:
            await asyncio.gather(*(self._keep_working(work, tenure, stop) for work in self._works))
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._ownership.release(lease)

    async def _keep_working(self, work: Work, tenure: Tenure, stop: asyncio.Event) -> None:
        while not tenure.ended.is_set():
            try:
                await work.work(tenure, stop=stop)
            except LostLease:
                tenure.lose()
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("tenancy.work_failed", tenant=self._tenant, work=work.name)
                await pause(tenure.ended, 1.0)

    async def _end_when_lost(self, tenure: Tenure) -> None:
        await tenure.lease.lost.wait()
        log.warning("tenancy.lease_lost", tenant=self._tenant)
        tenure.ended.set()

    async def _end_when_stopped(self, tenure: Tenure, stop: asyncio.Event) -> None:
        await stop.wait()
        self._client.stop()
        tenure.ended.set()

    async def _try_while_paused(self, tenure: Tenure) -> None:
        while not tenure.ended.is_set():
            try:
                held = await self._database.read(lambda tx: leases.paused(tx, self._tenant))
                until = held.resume_at if held is not None else None
                if until is not None and until <= self._clock.now() and tenure.may_call():
                    await self._probe(tenure)
            except LostLease:
                tenure.lose()
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("tenancy.probe_failed", tenant=self._tenant)
            await tenure.rest("paused", self._settings.look)

    async def _probe(self, tenure: Tenure) -> None:
        """Tries a paused tenant again; resumes it where it accepts us."""
        answer = await self._client.probe()
        if answer.verdict == "withheld":
            return
        now = self._clock.now()
        if answer.verdict in ("ok", "rate-limited", "not-found") or answer.lacks_scope:
            await self._database.transact(lambda tx: leases.resume_tenant(tx, self._tenant, now))
        else:
            await tenure.pause(answer.message or f"Auth0 answered {answer.status}", answer.status)
