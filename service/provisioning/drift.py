"""Compares Auth0 with what we know, tells what differs once, and has the lanes mend it by policy.

One check at a time in a tenant, within the background share of its budget. A check that was broken
off begins again; what it had found is not told twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final

import structlog

from service.auth0.client import Auth0Client
from service.auth0.jobs import Jobs
from service.clock import Clock, pause
from service.directory import drift, organizations
from service.directory.database import Database, Transaction, is_unavailable
from service.directory.drift import Check
from service.directory.organizations import Registered
from service.errors import LostLease
from service.provisioning.drift_members import compare_members
from service.provisioning.drift_run import CheckFailed, Run, tell_corrected
from service.provisioning.drift_users import compare_users
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

_MOST_TOLD: Final = 5
_NIGHT_WATCH: Final = 60.0
"""Seconds between two looks at the clock."""
NIGHTLY: Final = "nightly"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """When a tenant is compared by itself. Times in seconds. ``hour``: of the day in UTC; -1: never."""

    hour: int = -1
    poll: float = 2.0
    look: float = 5.0
    """How often an export is asked whether it is ready."""


class DriftChecks:
    """Carries out the checks of one tenant, for as long as this process owns the tenant."""

    name: ClassVar[str] = "drift"

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        client: Auth0Client,
        clock: Clock,
        settings: DriftSettings | None = None,
        on_found: Callable[[str], None] | None = None,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._client = client.background()
        self._jobs = Jobs(self._client)
        self._clock = clock
        self._settings = settings or DriftSettings()
        self._on_found = on_found or (lambda _aspect: None)

    async def work(self, tenure: Tenure, *, stop: object) -> None:
        del stop
        told = True
        while not tenure.ended.is_set():
            if tenure.may_call() and (told or self._is_the_hour()) and not await tenure.paused():
                await self._plan_nightly()
                await tell_corrected(tenure)
                check = await self._database.read(lambda tx: drift.next_open(tx, self._tenant))
                if check is not None:
                    await self._carry_out(check, tenure)
            await pause(tenure.ended, self._settings.poll)
            told = await tenure.rest("drift", 0.0, _NIGHT_WATCH)

    def _is_the_hour(self) -> bool:
        return self._clock.now().hour == self._settings.hour

    async def _plan_nightly(self) -> None:
        if not self._is_the_hour():
            return
        now = self._clock.now()
        since = now - timedelta(hours=20)

        def plan(tx: Transaction) -> None:
            if not drift.was_asked_since(tx, self._tenant, NIGHTLY, since):
                drift.ask(tx, self._tenant, None, correct=False, asked_by=NIGHTLY, now=now)

        await self._database.transact(plan)

    async def _carry_out(self, check: Check, tenure: Tenure) -> None:
        run = self._run(check, tenure)
        error: str | None = None
        log.info("drift.began", tenant=self._tenant, organization=check.organization)
        try:
            await self._compare(run)
        except CheckFailed as failure:
            error = str(failure)
            log.warning("drift.failed", tenant=self._tenant, reason=error)
        except LostLease:
            raise
        except Exception as failure:
            if is_unavailable(failure) or tenure.ended.is_set():
                raise
            log.exception("drift.crashed", tenant=self._tenant)
            error = f"internal error ({type(failure).__name__}): see the log"
        if tenure.ended.is_set():
            return  # it begins again
        await run.store(result=dict(run.counts), error=error, ended_at=self._clock.now())
        log.info("drift.ended", tenant=self._tenant, **run.counts)

    def _run(self, check: Check, tenure: Tenure) -> Run:
        return Run(
            tenant=self._tenant,
            check=check,
            tenure=tenure,
            counts=Counter(),
            database=self._database,
            client=self._client,
            jobs=self._jobs,
            clock=self._clock,
            look=self._settings.look,
            on_found=self._on_found,
        )

    async def _compare(self, run: Run) -> None:
        """Everything that is asked for. Raises CheckFailed at its end, for what could not be read."""
        every = await self._database.read(lambda tx: organizations.of_tenant(tx, self._tenant))
        ours = [each for each in every if run.check.organization in (None, each.organization.name)]
        connections: dict[str, list[Registered]] = {}
        for registered in ours:
            for connection in registered.organization.connections:
                connections.setdefault(connection.name, []).append(registered)
        failures: list[str] = []
        for name, owners in connections.items():
            if run.tenure.ended.is_set():
                return
            try:
                await compare_users(run, name, owners)
            except CheckFailed as failure:
                failures.append(str(failure))
        for registered in ours:
            if run.tenure.ended.is_set():
                return
            try:
                await compare_members(run, registered.organization)
            except CheckFailed as failure:
                failures.append(str(failure))
        if failures:
            more = f" (and {len(failures) - _MOST_TOLD} more)" if len(failures) > _MOST_TOLD else ""
            raise CheckFailed("; ".join(failures[:_MOST_TOLD]) + more)
