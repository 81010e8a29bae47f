"""First loads: where many accounts are to be created in one connection, import jobs do it.

Decides when to gather, to upload, to look and to give up; what is recorded is importing's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Final

import structlog

from service.auth0.client import Auth0Client
from service.auth0.jobs import MOST_ACTIVE
from service.clock import Clock
from service.directory import imports
from service.directory.database import Database
from service.directory.imports import Import
from service.provisioning import gathering
from service.provisioning.first_load_settings import FirstLoadSettings
from service.provisioning.gathering import Portion
from service.provisioning.import_jobs import ImportJobs
from service.provisioning.landing import PORTION, Landing
from service.provisioning.tenancy import Tenure
from service.sealing import Sealer

log = structlog.get_logger(__name__)

_MOST_SCANNED: Final = 20


class FirstLoads:
    """Imports the backlogs of one tenant, for as long as this process owns the tenant."""

    name: ClassVar[str] = "first-loads"

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        client: Auth0Client,
        clock: Clock,
        settings: FirstLoadSettings | None = None,
        sealer: Sealer | None = None,
        on_call: Callable[[str, str], None] | None = None,
        on_rows: Callable[[str, int], None] | None = None,
    ) -> None:
        """``sealer`` opens password hashes; without one those who bring them wait.

        ``on_call`` is told an operation and its answer's verdict, ``on_rows`` what so many rows
        came to."""
        self._tenant = tenant
        self._database = database
        self._clock = clock
        self._settings = settings or FirstLoadSettings()
        self._landing = Landing(
            tenant,
            database=database,
            clock=clock,
            settings=self._settings,
            on_rows=on_rows or (lambda _verdict, _count: None),
        )
        self._jobs = ImportJobs(
            tenant,
            database=database,
            client=client,
            clock=clock,
            settings=self._settings,
            landing=self._landing,
            sealer=sealer,
            on_call=on_call or (lambda _operation, _verdict: None),
        )
        self._sealer = sealer
        self._counted_at: float | None = None
        self._not_before: dict[str, float] = {}
        """Connections where nobody could be imported, until then, on the monotonic clock."""

    async def work(self, tenure: Tenure, *, stop: object) -> None:
        del stop  # a call under way ends within its timeout, and its answer is recorded
        while not tenure.ended.is_set():
            if tenure.may_call() and not await tenure.paused():
                await self._look(tenure)
            await tenure.rest("imports", self._settings.poll)

    async def _look(self, tenure: Tenure) -> None:
        known = await self._database.read(lambda tx: imports.open_ones(tx, self._tenant))
        hurried = (
            await self._database.read(lambda tx: imports.with_leavers(tx, self._tenant))
            if known
            else frozenset[str]()
        )
        files = [one for one in known if one.state != "waiting"]
        for one in files:
            if tenure.ended.is_set():
                return
            if self._is_due(one, hurried=one.id in hurried):
                await self._carry_on(one, files, tenure, hurried=one.id in hurried)
        if len(files) <= MOST_ACTIVE and not tenure.ended.is_set():
            rooms = [one for one in known if one.state == "waiting"]
            if not await self._gather_waiting(rooms, tenure):
                await self._gather_next(tenure)

    def _is_due(self, one: Import, *, hurried: bool) -> bool:
        now = self._clock.now()
        if hurried and one.looked_at is not None and one.state != "gathered":
            return now >= one.looked_at + timedelta(seconds=self._settings.look_leaver)
        return one.due_at is not None and one.due_at <= now

    async def _carry_on(
        self, one: Import, known: Sequence[Import], tenure: Tenure, *, hurried: bool
    ) -> None:
        match one.state:
            case "gathered":
                active = [each for each in known if each.state != "gathered"]
                age = (self._clock.now() - one.created_at).total_seconds()
                if len(active) < MOST_ACTIVE:
                    await self._jobs.upload(one, tenure)
                elif age > self._settings.queue_most:
                    await self._landing.give_back(one, tenure, "no import job came free")
            case "uploading":
                await self._jobs.look_for(one, tenure)
            case "running":
                await self._jobs.read_job(one, tenure, hurried=hurried)
            case "waiting" | "ended":
                pass

    # Gathering

    async def _gather_waiting(self, rooms: Sequence[Import], tenure: Tenure) -> bool:
        """Fills one file with people who wait with their hashes, however few they are."""
        if self._sealer is None:
            return False
        for room in rooms:
            if self._jobs.rests(room.connection) or not await self._is_ready(room):
                continue
            if await self._fill_from(room, self._sealer, tenure):
                return True
            await self._landing.close_room(tenure, room)
        return False

    async def _is_ready(self, room: Import) -> bool:
        """Whether a file can be filled, or nobody more is about to come."""
        still = self._clock.now() - timedelta(seconds=self._settings.still)
        most = self._settings.most_accounts
        return await self._database.read(
            lambda tx: imports.is_ready(tx, room.id, still=still, most=most)
        )

    async def _fill_from(self, waiting: Import, sealer: Sealer, tenure: Tenure) -> bool:
        import_id: str | None = None
        after, taken, size = "", 0, self._settings.most_bytes
        while taken < self._settings.most_accounts and not tenure.ended.is_set():
            found = await self._database.read(
                lambda tx, after=after: imports.waiting_in(
                    tx, waiting.id, after=after, limit=PORTION
                )
            )
            if not found:
                break
            portion, import_id = await self._take_waiting(
                tenure, waiting, sealer, import_id, found, size
            )
            after, taken, size = found[-1][0], taken + portion.taken, size - portion.size
            if portion.full:
                break
        if import_id is not None:
            await self._landing.note(tenure, import_id, due_at=self._clock.now())
            log.info(
                "imports.gathered",
                tenant=self._tenant,
                connection=waiting.connection,
                accounts=taken,
                with_hashes=True,
            )
        return import_id is not None

    async def _take_waiting(
        self,
        tenure: Tenure,
        waiting: Import,
        sealer: Sealer,
        import_id: str | None,
        found: Sequence[tuple[str, datetime]],
        room: int,
    ) -> tuple[Portion, str | None]:
        now = self._clock.now()

        def work(tx: imports.Transaction) -> tuple[Portion, str | None]:
            since = min(each for _, each in found)
            into = import_id or imports.begin(tx, self._tenant, waiting.connection, since, now)
            ids = [account_id for account_id, _ in found]
            portion = gathering.gather_waiting(
                tx, tenure.owner, into, ids, sealer, room=room, now=now
            )
            if import_id is None and not portion.taken:
                imports.drop(tx, into)
                return portion, None
            imports.store(tx, into, due_at=now + timedelta(seconds=30))
            return portion, into

        return await self._database.transact(work)

    async def _gather_next(self, tenure: Tenure) -> None:
        """Starts an import where a backlog is large enough."""
        settings, monotonic = self._settings, self._clock.monotonic()
        counted = self._counted_at
        if not settings.threshold or (
            counted is not None and monotonic - counted < settings.count_every
        ):
            return
        self._counted_at = monotonic
        now, most = self._clock.now(), 10 * settings.threshold
        backlogs = await self._database.read(
            lambda tx: imports.backlogs(tx, self._tenant, now=now, most=most)
        )
        for connection, count in backlogs:
            resting = self._not_before.get(connection, 0.0) > monotonic
            if count < settings.threshold or resting or self._jobs.rests(connection):
                continue
            if await self._gather(connection, tenure):
                self._counted_at = None  # there may be enough for another one
                return
            self._not_before[connection] = monotonic + 60.0

    async def _gather(self, connection: str, tenure: Tenure) -> bool:
        """Fills one import; False where none of those who have waited longest may be imported."""
        import_id: str | None = None
        after: tuple[datetime, str] | None = None
        taken, room, scanned = 0, self._settings.most_bytes, 0
        while taken < self._settings.most_accounts and (taken or scanned < _MOST_SCANNED):
            scanned += 1
            now = self._clock.now()
            found = await self._database.read(
                lambda tx, after=after, now=now: imports.new_accounts(
                    tx, self._tenant, connection, now=now, after=after, limit=PORTION
                )
            )
            if not found or tenure.ended.is_set():
                break
            after = found[-1]
            portion, import_id = await self._take(tenure, connection, import_id, found, room, now)
            taken, room = taken + portion.taken, room - portion.size
            if portion.full:
                break
        if import_id is not None:
            await self._landing.note(tenure, import_id, due_at=self._clock.now())
            log.info("imports.gathered", tenant=self._tenant, connection=connection, accounts=taken)
        return import_id is not None

    async def _take(
        self,
        tenure: Tenure,
        connection: str,
        import_id: str | None,
        found: Sequence[tuple[datetime, str]],
        room: int,
        now: datetime,
    ) -> tuple[Portion, str | None]:
        """Takes what fits of some accounts, into a new import where there is none yet."""

        def work(tx: imports.Transaction) -> tuple[Portion, str | None]:
            into = import_id or imports.begin(tx, self._tenant, connection, found[0][0], now)
            ids = [account_id for _, account_id in found]
            portion = gathering.gather(tx, tenure.owner, into, ids, room=room, now=now)
            if import_id is None and not portion.taken:
                imports.drop(tx, into)
                return portion, None
            # Until it is full nothing is uploaded; should we end here, the next owner does it.
            imports.store(tx, into, due_at=now + timedelta(seconds=30))
            return portion, into

        return await self._database.transact(work)
