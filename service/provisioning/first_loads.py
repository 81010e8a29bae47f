"""First loads: where many accounts are to be created in one connection, import jobs do it.

Decides when to gather, to upload, to look and to give up; what is recorded is importing's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

import orjson
import structlog

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.jobs import MOST_ACTIVE, MOST_BYTES, TIMEOUT, Jobs
from service.clock import Clock, pause
from service.directory import imports
from service.directory.database import Database
from service.directory.imports import Held, Import
from service.provisioning import importing
from service.provisioning.importing import Verdict
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

_PORTION: Final = 50
"""Accounts in one transaction: on SQLite all writers wait for it."""
_SAMPLES: Final = 3
_MOST_SCANNED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLoadSettings:
    """When accounts are imported, and how long each thing is waited for. Times in seconds."""

    threshold: int = 500
    """New accounts of one connection from which on they are imported; 0: never."""
    most_bytes: int = MOST_BYTES
    most_accounts: int = 2_000
    poll: float = 0.5
    count_every: float = 5.0
    look_first: float = 1.0
    """How long after the upload a job is looked at first."""
    look_most: float = 10.0
    """The longest time between two looks at a job."""
    look_leaver: float = 2.0
    """The same while somebody in it leaves."""
    again: float = 10.0
    """How long an upload waits that Auth0 has no room for."""
    settle_doubt: float = 60.0
    """How long an upload without an answer is looked for before it is made again."""
    queue_most: float = 900.0
    """How long gathered accounts wait for Auth0 to take a further job."""
    give_up: float = TIMEOUT + 600.0
    keep: timedelta = timedelta(days=30)


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
        on_call: Callable[[str, str], None] | None = None,
        on_rows: Callable[[str, int], None] | None = None,
    ) -> None:
        """``on_call`` is told an operation and its answer's verdict, ``on_rows`` what so many rows
        came to."""
        self._tenant = tenant
        self._database = database
        self._client = client
        self._jobs = Jobs(client)
        self._clock = clock
        self._settings = settings or FirstLoadSettings()
        self._on_call = on_call or (lambda _operation, _verdict: None)
        self._on_rows = on_rows or (lambda _verdict, _count: None)
        self._counted_at: float | None = None
        self._not_before: dict[str, float] = {}
        """Connections that nothing is gathered for until then, on the monotonic clock."""
        self._scanned = 0
        """Up to where among those who leave was looked."""

    async def work(self, tenure: Tenure, *, stop: object) -> None:
        del stop  # a call under way ends within its timeout, and its answer is recorded
        while not tenure.ended.is_set():
            if tenure.may_call() and not await tenure.paused():
                await self._look(tenure)
            await pause(tenure.ended, self._settings.poll)

    async def _look(self, tenure: Tenure) -> None:
        known = await self._database.read(lambda tx: imports.open_ones(tx, self._tenant))
        hurried = (
            await self._database.read(lambda tx: imports.with_leavers(tx, self._tenant))
            if known
            else frozenset[str]()
        )
        for one in known:
            if tenure.ended.is_set():
                return
            if self._is_due(one, hurried=one.id in hurried):
                await self._carry_on(one, known, tenure, hurried=one.id in hurried)
        if len(known) <= MOST_ACTIVE and not tenure.ended.is_set():
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
                    await self._upload(one, tenure)
                elif age > self._settings.queue_most:
                    await self._give_back(one, tenure, "no import job came free")
            case "uploading":
                await self._look_for(one, tenure)
            case "running":
                await self._read_job(one, tenure, hurried=hurried)
            case "ended":
                pass

    # Gathering

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
            if count < settings.threshold or self._not_before.get(connection, 0.0) > monotonic:
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
                    tx, self._tenant, connection, now=now, after=after, limit=_PORTION
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
            await self._note(tenure, import_id, due_at=self._clock.now())
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
    ) -> tuple[importing.Portion, str | None]:
        """Takes what fits of some accounts, into a new import where there is none yet."""

        def work(tx: imports.Transaction) -> tuple[importing.Portion, str | None]:
            into = import_id or imports.begin(tx, self._tenant, connection, found[0][0], now)
            ids = [account_id for _, account_id in found]
            portion = importing.gather(tx, tenure.owner, into, ids, room=room, now=now)
            if import_id is None and not portion.taken:
                imports.drop(tx, into)
                return portion, None
            # Until it is full nothing is uploaded; should we end here, the next owner does it.
            imports.store(tx, into, due_at=now + timedelta(seconds=30))
            return portion, into

        return await self._database.transact(work)

    # Uploading

    async def _upload(self, one: Import, tenure: Tenure) -> None:
        """Sends the file. What it says was recorded with each account before."""
        connection = await self._jobs.connection(one.connection)
        if isinstance(connection, Answer):
            await self._not_taken(one, connection, tenure)
            return
        if not tenure.may_call():
            return
        now = self._clock.now()
        held = await self._database.transact(
            lambda tx: importing.start_upload(tx, tenure.owner, one.id, now)
        )
        if not held:
            return
        content = orjson.dumps([importing.row_of(each) for each in held])
        answer = await self._jobs.import_users(connection, content, label=one.id)
        self._on_call("import-users", answer.verdict)
        log.info(
            "imports.uploaded",
            tenant=self._tenant,
            accounts=len(held),
            bytes=len(content),
            verdict=answer.verdict,
            status=answer.status,
        )
        if answer.verdict == "ok":
            await self._note(
                tenure,
                one.id,
                state="running",
                job=answer.data["id"],
                due_at=self._after(self._settings.look_first),
            )
        elif answer.verdict == "doubtful":
            await self._note(tenure, one.id, due_at=self._after(self._settings.look_first))
        else:
            await self._not_taken(one, answer, tenure)

    async def _not_taken(self, one: Import, answer: Answer, tenure: Tenure) -> None:
        """The file was not sent, or not taken: again later, or never."""
        sent_before = one.uploaded_at is not None
        if answer.verdict == "unauthorized":
            await tenure.pause(answer.message or "Auth0 refused the token", answer.status)
        if answer.verdict in ("refused", "forbidden", "not-found", "conflict"):
            log.warning(
                "imports.refused",
                tenant=self._tenant,
                connection=one.connection,
                status=answer.status,
                code=answer.code,
            )
            # A connection may be made, or made anew, any moment; a missing scope stays missing.
            self._jobs.forget(one.connection)
            rest = 60.0 if answer.verdict == "not-found" else 3600.0
            self._not_before[one.connection] = self._clock.monotonic() + rest
            if not sent_before:
                await self._give_back(one, tenure, "Auth0 takes no import into this connection")
                return
        wait = self._after(answer.retry_after or self._settings.again)
        if sent_before:
            await self._note(tenure, one.id, due_at=wait)
        else:
            await self._note(
                tenure, one.id, state="gathered", uploads=0, uploaded_at=None, due_at=wait
            )

    # Looking

    async def _look_for(self, one: Import, tenure: Tenure) -> None:
        """An upload without an answer: its users tell whether it arrived.

        Those who stay go to the lanes, which read each, once it has; those who leave are waited for,
        as the job may create them as long as it lasts.
        """
        age = self._age(one)
        if age > self._settings.give_up or one.uploads > 3:
            stayers_only = age <= self._settings.give_up
            await self._land_all(one, tenure, "unknown", stayers=stayers_only)
            if not stayers_only:
                return
        held = await self._database.read(lambda tx: imports.held(tx, one.id))
        if not held:
            await self._end(one, tenure)
            return
        await self._land_leavers(one, held, tenure)
        staying = [each for each in held if not each.leaver]
        seen = [await self._exists(each) for each in _samples(staying)]
        if seen and all(seen):
            await self._land_all(one, tenure, "unknown", stayers=True)
        elif staying and not any(seen) and age > self._settings.settle_doubt * one.uploads:
            await self._upload(one, tenure)
            return
        elif age > 10 * self._settings.settle_doubt:
            await self._land_all(one, tenure, "unknown", stayers=True)
        await self._seen(one, tenure)

    async def _land_leavers(self, one: Import, held: Sequence[Held], tenure: Tenure) -> None:
        """Those who leave and are there by now need not wait for the job's end. Some at a time, in
        turn."""
        leaving = [each for each in held if each.leaver]
        start = self._scanned % max(1, len(leaving))
        some = (leaving[start:] + leaving[:start])[:_MOST_SCANNED]
        self._scanned = start + len(some)
        for each in some:
            if await self._exists(each, leaver=True):
                await self._land(one, tenure, {each.id: "unknown"})

    async def _exists(self, held: Held, *, leaver: bool = False) -> bool:
        answer = await self._client.get_user(held.user_id, leaver=leaver)
        self._on_call("read-user", answer.verdict)
        return answer.verdict == "ok"

    async def _read_job(self, one: Import, tenure: Tenure, *, hurried: bool) -> None:
        assert one.job is not None
        answer = await self._jobs.job(one.job)
        self._on_call("read-job", answer.verdict)
        status = answer.data.get("status") if answer.verdict == "ok" else None
        if status == "completed":
            await self._read_rows(one, answer, tenure)
        elif status == "failed" or self._age(one) > self._settings.give_up:
            log.warning("imports.job_failed", tenant=self._tenant, job=one.job, status=status)
            await self._land_all(one, tenure, "unknown")
        elif answer.verdict in ("not-found", "forbidden", "refused"):
            # Nobody tells us of the job any more: its users do.
            log.warning("imports.job_lost", tenant=self._tenant, job=one.job, code=answer.code)
            await self._note(tenure, one.id, state="uploading", job=None, due_at=self._clock.now())
        elif answer.verdict == "unauthorized":
            await tenure.pause(answer.message or "Auth0 refused the token", answer.status)
        else:
            if hurried:
                held = await self._database.read(lambda tx: imports.held(tx, one.id))
                await self._land_leavers(one, held, tenure)
            await self._seen(one, tenure, at_least=answer.retry_after)

    async def _read_rows(self, one: Import, answer: Answer, tenure: Tenure) -> None:
        """The job has ended: each row's account is told what it came to."""
        assert one.job is not None
        errors = await self._jobs.errors(one.job)
        self._on_call("read-job-errors", errors.verdict)
        patience = 10 * self._settings.settle_doubt
        if errors.verdict != "doubtful":
            patience = self._settings.give_up
        late = self._age(one) > patience
        if errors.verdict != "ok" and not late and errors.verdict != "not-found":
            await self._seen(one, tenure, at_least=errors.retry_after)
            return
        held = await self._database.read(lambda tx: imports.held(tx, one.id))
        rows = errors.data if errors.verdict == "ok" else ()
        summary = answer.data.get("summary") if errors.verdict == "ok" else None
        found = importing.verdicts(held, rows, summary, sent=one.accounts)
        # Whoever leaves goes first.
        order = sorted(held, key=lambda each: not each.leaver)
        for portion in _portions(order):
            await self._land(one, tenure, {each.id: found[each.id] for each in portion})
        await self._end(one, tenure)

    async def _seen(self, one: Import, tenure: Tenure, *, at_least: float | None = None) -> None:
        """Nothing new: the next look comes the later the longer it lasts."""
        least, most = self._settings.look_first, self._settings.look_most
        wait = max(least, min(self._age(one) / 5, most), at_least or 0.0)
        now = self._clock.now()
        await self._note(tenure, one.id, looked_at=now, due_at=self._after(wait))

    # Ending

    async def _land(self, one: Import, tenure: Tenure, found: Mapping[str, Verdict]) -> None:
        now = self._clock.now()
        counts = await self._database.transact(
            lambda tx: importing.land(tx, tenure.owner, one.id, found, since=one.since, now=now)
        )
        for verdict, count in counts.items():
            self._on_rows(verdict, count)

    async def _land_all(
        self, one: Import, tenure: Tenure, verdict: Verdict, *, stayers: bool = False
    ) -> None:
        held = await self._database.read(lambda tx: imports.held(tx, one.id, stayers=stayers))
        for portion in _portions(held):
            await self._land(one, tenure, {each.id: verdict for each in portion})
        await self._end(one, tenure)

    async def _give_back(self, one: Import, tenure: Tenure, why: str) -> None:
        """Nothing was sent: the lanes create them."""
        held = await self._database.read(lambda tx: imports.held(tx, one.id))
        for portion in _portions(held):
            now, ids = self._clock.now(), [each.id for each in portion]
            count = await self._database.transact(
                lambda tx, ids=ids, now=now: importing.give_back(
                    tx, tenure.owner, one.id, ids, since=one.since, now=now, why=why
                )
            )
            self._on_rows("returned", count)
        await self._end(one, tenure)

    async def _end(self, one: Import, tenure: Tenure) -> None:
        now = self._clock.now()
        ended = await self._database.transact(
            lambda tx: importing.end(
                tx, tenure.owner, one.id, now, forget=now - self._settings.keep
            )
        )
        if ended:
            log.info("imports.ended", tenant=self._tenant, connection=one.connection, job=one.job)

    async def _note(self, tenure: Tenure, import_id: str, **values: object) -> None:
        await self._database.transact(
            lambda tx: importing.note(tx, tenure.owner, import_id, **values)
        )

    def _age(self, one: Import) -> float:
        """Seconds since it was uploaded first."""
        if one.uploaded_at is None:
            return 0.0
        return (self._clock.now() - one.uploaded_at).total_seconds()

    def _after(self, seconds: float) -> datetime:
        return self._clock.now() + timedelta(seconds=seconds)


def _samples(held: Sequence[Held]) -> list[Held]:
    """The first, the last and some between: a job goes through them in order."""
    if len(held) <= _SAMPLES:
        return list(held)
    step = (len(held) - 1) / (_SAMPLES - 1)
    return [held[round(at * step)] for at in range(_SAMPLES)]


def _portions(held: Sequence[Held]) -> list[Sequence[Held]]:
    return [held[at : at + _PORTION] for at in range(0, len(held), _PORTION)]
