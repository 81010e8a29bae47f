"""A tenancy for every configured tenant: started, restarted when it changes, stopped together.

And what runs beside them, whichever process comes first: planned events, changes of many accounts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from service.clock import Clock, pause
from service.directory import (
    absences,
    coming_due,
    fanouts,
    leavers,
    organizations,
    snapshots,
)
from service.directory.database import Database, is_unavailable
from service.organizations import Tenant
from service.provisioning.outlook import Outlook, rest
from service.provisioning.tenancy import Tenancy

log = structlog.get_logger(__name__)

_PURGE_EVERY = 3600.0
"""Seconds between two times that departures are forgotten which no window reaches any more."""

_AT_LEAST: Final = 10
_AT_LEAST_EVERY: Final = 10.0
"""So many users of an event in the background, each so many seconds, whatever else there is to do."""


@dataclass(frozen=True, slots=True)
class _Running:
    tenant: Tenant
    stop: asyncio.Event
    task: asyncio.Task[None]


class Fleet:
    """Keeps one Tenancy for each tenant that is configured. ``tenancy_of`` builds one."""

    def __init__(self, *, database: Database, tenancy_of: Callable[[Tenant], Tenancy]) -> None:
        self._database = database
        self._tenancy_of = tenancy_of
        self._running: dict[str, _Running] = {}
        self._broken: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                tenants = await self._database.read(organizations.tenants)
                await self._follow({tenant.name: tenant for tenant in tenants})
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("fleet.failed")
            await pause(stop, 2.0)
        await asyncio.gather(*(self._end(name) for name in list(self._running)))

    async def _follow(self, tenants: dict[str, Tenant]) -> None:
        for name, running in list(self._running.items()):
            if tenants.get(name) != running.tenant or running.task.done():
                await self._end(name)
        for name, tenant in tenants.items():
            if name not in self._running and (tenant.domain or tenant.base_url):
                self._start(tenant)

    def _start(self, tenant: Tenant) -> None:
        """A tenant that is not set up rightly keeps no other from being worked."""
        try:
            tenancy = self._tenancy_of(tenant)
        except Exception as error:
            if self._broken.get(tenant.name) != (told := str(error)):
                self._broken[tenant.name] = told
                log.exception("fleet.tenant_not_started", tenant=tenant.name)
            return
        self._broken.pop(tenant.name, None)
        stop = asyncio.Event()
        task = asyncio.create_task(tenancy.run(stop), name=f"tenancy-{tenant.name}")
        self._running[tenant.name] = _Running(tenant, stop, task)

    async def _end(self, name: str) -> None:
        running = self._running.pop(name)
        running.stop.set()
        await asyncio.gather(running.task, return_exceptions=True)


class Calendar:
    """Applies scheduled worker events when their time has come, whichever process sees it first."""

    def __init__(self, *, database: Database, clock: Clock, outlook: Outlook | None = None) -> None:
        self._database = database
        self._clock = clock
        self._outlook = outlook

    async def run(self, stop: asyncio.Event) -> None:
        purged: float | None = None
        while not stop.is_set():
            try:
                now = self._clock.now()
                while await self._database.transact(
                    lambda tx, now=now: coming_due.run_due(tx, now)
                ):
                    now = self._clock.now()
                if purged is None or self._clock.monotonic() - purged > _PURGE_EVERY:
                    purged = self._clock.monotonic()
                    while await self._database.transact(
                        lambda tx, now=now: leavers.forget_old(tx, now)
                    ):
                        pass
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("calendar.failed")
                await pause(stop, 1.0)
            await rest(self._outlook, "calendar", "", stop, poll=1.0, at_most=_PURGE_EVERY)


class FanOuts:
    """Carries changes of many accounts on: of each in turn one portion, then a rest as long as that
    took, since on SQLite all writers wait for a portion.

    Any number of processes may do so at once, and one that dies leaves the rest to the others. What
    is in the background gets a few users even where its tenant is never idle.
    """

    def __init__(self, *, database: Database, clock: Clock, outlook: Outlook | None = None) -> None:
        self._database = database
        self._clock = clock
        self._outlook = outlook
        self._carried: dict[str, float] = {}
        """When an event had a portion last, of those whose tenant had no room since."""

    async def run(self, stop: asyncio.Event) -> None:
        last = ""
        while not stop.is_set():
            for_a_while = 0.2
            try:
                began = self._clock.monotonic()
                turn = await self._database.read(lambda tx, it=last: fanouts.next_event(tx, it))
                last = turn or ""
                if turn is not None:
                    touched = await self._carry_on(turn)
                    if touched:
                        for_a_while = self._clock.monotonic() - began
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("fan_outs.failed", event_id=last)
            await pause(stop, for_a_while)
            if not last:
                await rest(self._outlook, "fan-outs", "", stop, poll=0.0)

    async def _carry_on(self, event_id: str) -> int:
        now, at = self._clock.now(), self._clock.monotonic()
        portion = await self._database.read(lambda tx: fanouts.room(tx, event_id, now))
        if portion <= 0:
            if at - self._carried.setdefault(event_id, at) < _AT_LEAST_EVERY:
                return 0
            portion = _AT_LEAST
        self._carried.pop(event_id, None)
        return await self._database.transact(
            lambda tx: fanouts.carry_on(tx, event_id, now, portion=portion)
        )


class Snapshots:
    """Compares HR's full exports with whom we know, a step of each in turn, resting as FanOuts do."""

    def __init__(self, *, database: Database, clock: Clock, outlook: Outlook | None = None) -> None:
        self._database = database
        self._clock = clock
        self._outlook = outlook

    async def run(self, stop: asyncio.Event) -> None:
        last = ("", "")
        while not stop.is_set():
            for_a_while = 1.0
            try:
                began, now = self._clock.monotonic(), self._clock.now()
                turn = await self._database.read(
                    lambda tx, it=last, now=now: snapshots.next_open(tx, it, now)
                )
                last = turn or ("", "")
                if turn is not None and await self._database.transact(
                    lambda tx, it=turn, now=now: absences.carry_on(tx, *it, now)
                ):
                    for_a_while = self._clock.monotonic() - began
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("snapshots.failed", organization=last[0], snapshot=last[1])
            await pause(stop, for_a_while)
            if not last[0]:
                await rest(self._outlook, "snapshots", "", stop, poll=0.0)
