"""Owning a tenant for a while: claimed, kept by renewal, given back. Knows no accounts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from service.clock import Clock
from service.directory import leases
from service.directory.database import Alike, Database, is_unavailable
from service.directory.leases import Renewal
from service.provisioning.turn import Owner

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Lease:
    """Our ownership of the tenant. ``until``: monotonic seconds, moved on by each renewal."""

    owner: Owner
    until: float
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class Ownership:
    """Claims and keeps one tenant for one run of a process. ``seconds``: how long a lease is."""

    def __init__(
        self, tenant: str, *, database: Database, clock: Clock, owner: str, seconds: float
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._clock = clock
        self._owner = owner
        self._seconds = seconds

    async def claim(self) -> Lease | None:
        """The lease, None while another owner has it."""
        started, now = self._clock.monotonic(), self._clock.now()
        length = timedelta(seconds=self._seconds)
        fence = await self._database.transact(
            lambda tx: leases.claim_tenant(tx, self._tenant, self._owner, now, length)
        )
        if fence is None:
            return None
        return Lease(Owner(tenant=self._tenant, fence=fence), started + self._seconds)

    async def keep(self, lease: Lease) -> None:
        """Renews until cancelled, or until the lease is another's; then sets ``lease.lost``."""
        every = self._seconds / 5
        while not lease.lost.is_set():
            # At the same moments for all tenants of a process: their renewals are one transaction.
            await self._clock.sleep(every - self._clock.monotonic() % every)
            started = self._clock.monotonic()
            try:
                kept = await self._renew(lease.owner.fence)
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("lanes.renewal_failed", tenant=self._tenant)
                continue  # the lease runs out by itself if this goes on
            if kept:
                lease.until = started + self._seconds
            else:
                lease.lost.set()

    async def _renew(self, fence: int) -> bool:
        now, length = self._clock.now(), timedelta(seconds=self._seconds)
        renewal = Renewal(tenant=self._tenant, owner=self._owner, fence=fence, until=now + length)
        return await self._database.transact(
            Alike(
                lambda tx: leases.renew(tx, self._tenant, self._owner, fence, now, length),
                renewal,
                leases.renew_together,
            )
        )

    async def release(self, lease: Lease) -> None:
        """Lets the next owner in at once; what fails here runs out by itself."""
        if lease.lost.is_set():
            return
        with contextlib.suppress(Exception):
            await self._database.transact(
                lambda tx: leases.release(tx, self._tenant, self._owner, lease.owner.fence)
            )
