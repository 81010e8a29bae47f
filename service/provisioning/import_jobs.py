"""An import's job in Auth0: sent, looked for where the answer was lost, and its rows read.

What is recorded is landing's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.jobs import Jobs
from service.clock import Clock
from service.directory import imports
from service.directory.database import Database
from service.directory.imports import Held, Import
from service.provisioning import importing
from service.provisioning.first_load_settings import FirstLoadSettings
from service.provisioning.import_rows import Verdict, refusals, row_of, row_with_hash, verdicts
from service.provisioning.landing import Landing, portions
from service.provisioning.tenancy import Tenure
from service.sealing import Sealer

log = structlog.get_logger(__name__)

_SAMPLES: Final = 3
_MOST_SCANNED: Final = 20


class ImportJobs:
    """The jobs of one tenant, for as long as this process owns the tenant."""

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        client: Auth0Client,
        clock: Clock,
        settings: FirstLoadSettings,
        landing: Landing,
        sealer: Sealer | None,
        on_call: Callable[[str, str], None],
    ) -> None:
        """``sealer`` opens hashes; without one those who have them wait.

        ``on_call`` is told an operation and its answer's verdict."""
        self._tenant = tenant
        self._database = database
        self._client = client
        # Within the background's share, and so before all joiners: a call for a file is one for
        # thousands, while each second it waits the lanes make as many users one by one as they may.
        self._jobs = Jobs(client.background())
        self._clock = clock
        self._settings = settings
        self._landing = landing
        self._sealer = sealer
        self._on_call = on_call
        self._resting: dict[str, float] = {}
        """Connections that take no import until then, on the monotonic clock."""
        self._scanned = 0
        """Up to where among those who leave was looked."""

    def rests(self, connection: str) -> bool:
        """Whether Auth0 took no import into this connection a while ago."""
        return self._resting.get(connection, 0.0) > self._clock.monotonic()

    async def upload(self, one: Import, tenure: Tenure) -> None:
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
        content = self._file(held)
        if content is None:
            await self._landing.give_back(one, tenure, "the pepper of the hashes is not here")
            return
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
            await self._landing.note(
                tenure,
                one.id,
                state="running",
                job=answer.data["id"],
                due_at=self._landing.after(self._settings.look_first),
            )
        elif answer.verdict == "doubtful":
            await self._landing.note(
                tenure, one.id, due_at=self._landing.after(self._settings.look_first)
            )
        else:
            await self._not_taken(one, answer, tenure)

    def _file(self, held: Sequence[Held]) -> bytes | None:
        """None where a hash in it cannot be opened."""
        rows = [self._row(each) for each in held]
        return None if None in rows else orjson.dumps(rows)

    def _row(self, held: Held) -> dict[str, Any] | None:
        if held.sealed is None:
            return row_of(held)
        return row_with_hash(held, self._sealer) if self._sealer is not None else None

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
            self._resting[one.connection] = self._clock.monotonic() + rest
            if not sent_before:
                await self._landing.give_back(
                    one, tenure, "Auth0 takes no import into this connection"
                )
                return
        wait = self._landing.after(answer.retry_after or self._settings.again)
        if sent_before:
            await self._landing.note(tenure, one.id, due_at=wait)
        else:
            await self._landing.note(
                tenure, one.id, state="gathered", uploads=0, uploaded_at=None, due_at=wait
            )

    # Looking

    async def look_for(self, one: Import, tenure: Tenure) -> None:
        """An upload without an answer: its users tell whether it arrived.

        Those who stay go to the lanes, which read each, once it has; those who leave are waited for,
        as the job may create them as long as it lasts.
        """
        age = self._landing.age(one)
        if age > self._settings.give_up or one.uploads > 3:
            stayers_only = age <= self._settings.give_up
            await self._land_all(one, tenure, stayers=stayers_only)
            if not stayers_only:
                return
        held = await self._database.read(lambda tx: imports.held(tx, one.id))
        if not held:
            await self._landing.end(one, tenure)
            return
        await self._land_leavers(one, held, tenure)
        staying = [each for each in held if not each.leaver]
        seen = [await self._exists(each) for each in _samples(staying)]
        if seen and all(seen):
            await self._land_all(one, tenure, stayers=True, absent=False)
        elif staying and not any(seen) and age > self._settings.settle_doubt * one.uploads:
            await self.upload(one, tenure)
            return
        elif age > 10 * self._settings.settle_doubt:
            await self._land_all(one, tenure, stayers=True)
        await self._landing.seen(one, tenure)

    async def _land_leavers(self, one: Import, held: Sequence[Held], tenure: Tenure) -> None:
        """Those who leave and are there by now need not wait for the job's end. Some at a time, in
        turn."""
        leaving = [each for each in held if each.leaver]
        start = self._scanned % max(1, len(leaving))
        some = (leaving[start:] + leaving[:start])[:_MOST_SCANNED]
        self._scanned = start + len(some)
        for each in some:
            if await self._exists(each, leaver=True):
                await self._landing.land(one, tenure, {each.id: "unknown"})

    async def _exists(self, held: Held, *, leaver: bool = False) -> bool:
        answer = await self._client.get_user(held.user_id, leaver=leaver)
        self._on_call("read-user", answer.verdict)
        return answer.verdict == "ok"

    async def read_job(self, one: Import, tenure: Tenure, *, hurried: bool) -> None:
        assert one.job is not None
        answer = await self._jobs.job(one.job)
        self._on_call("read-job", answer.verdict)
        status = answer.data.get("status") if answer.verdict == "ok" else None
        if status == "completed":
            await self._read_rows(one, answer, tenure)
        elif status == "failed" or self._landing.age(one) > self._settings.give_up:
            log.warning("imports.job_failed", tenant=self._tenant, job=one.job, status=status)
            await self._land_all(one, tenure)
        elif answer.verdict in ("not-found", "forbidden", "refused"):
            # Nobody tells us of the job any more: its users do.
            log.warning("imports.job_lost", tenant=self._tenant, job=one.job, code=answer.code)
            await self._landing.note(
                tenure, one.id, state="uploading", job=None, due_at=self._clock.now()
            )
        elif answer.verdict == "unauthorized":
            await tenure.pause(answer.message or "Auth0 refused the token", answer.status)
        else:
            if hurried:
                held = await self._database.read(lambda tx: imports.held(tx, one.id))
                await self._land_leavers(one, held, tenure)
            await self._landing.seen(one, tenure, at_least=answer.retry_after)

    async def _read_rows(self, one: Import, answer: Answer, tenure: Tenure) -> None:
        """The job has ended: each row's account is told what it came to."""
        assert one.job is not None
        errors = await self._jobs.errors(one.job)
        self._on_call("read-job-errors", errors.verdict)
        patience = 10 * self._settings.settle_doubt
        if errors.verdict != "doubtful":
            patience = self._settings.give_up
        late = self._landing.age(one) > patience
        if errors.verdict != "ok" and not late and errors.verdict != "not-found":
            await self._landing.seen(one, tenure, at_least=errors.retry_after)
            return
        held = await self._database.read(lambda tx: imports.held(tx, one.id))
        rows = errors.data if errors.verdict == "ok" else ()
        summary = answer.data.get("summary") if errors.verdict == "ok" else None
        found = verdicts(held, rows, summary, sent=one.accounts)
        # Whoever leaves goes first.
        order = sorted(held, key=lambda each: not each.leaver)
        await self._land_found(one, tenure, order, found, refusals(held, rows))

    # Landing

    async def _land_all(
        self, one: Import, tenure: Tenure, *, stayers: bool = False, absent: bool = True
    ) -> None:
        """All are to be read. ``absent``: whether the job has had its time, so that who has a hash and
        is not there goes into another file."""
        held = await self._database.read(lambda tx: imports.held(tx, one.id, stayers=stayers))
        unknown: dict[str, Verdict] = {each.id: "unknown" for each in held}
        await self._land_found(one, tenure, held, unknown, absent=absent)

    async def _land_found(
        self,
        one: Import,
        tenure: Tenure,
        held: Sequence[Held],
        found: Mapping[str, Verdict],
        why: Mapping[str, str] | None = None,
        *,
        absent: bool = True,
    ) -> None:
        complete = True
        for portion in portions(held):
            told: dict[str, Verdict] = {}
            for each in portion:
                verdict = await self._certain(each, found[each.id])
                if verdict is not None and (verdict != "absent" or absent):
                    told[each.id] = verdict
            complete = complete and len(told) == len(portion)
            await self._landing.land(one, tenure, told, why)
        await self._landing.end(one, tenure)
        if not complete:
            await self._landing.seen(one, tenure)

    async def _certain(self, held: Held, verdict: Verdict) -> Verdict | None:
        """A lane reads who is in doubt, and creates who is not there: for somebody with a hash, who
        would lose it, we read. None where there was no answer.

        A duplicate may be one that an earlier job made, which nobody heard of."""
        if held.sealed is None or verdict not in ("unknown", "duplicate"):
            return verdict
        answer = await self._client.get_user(held.user_id, leaver=held.leaver)
        self._on_call("read-user", answer.verdict)
        if answer.verdict == "ok":
            return "unknown"
        if answer.verdict != "not-found":
            return None
        return "absent" if verdict == "unknown" else verdict


def _samples(held: Sequence[Held]) -> list[Held]:
    """The first, the last and some between: a job goes through them in order."""
    if len(held) <= _SAMPLES:
        return list(held)
    step = (len(held) - 1) / (_SAMPLES - 1)
    return [held[round(at * step)] for at in range(_SAMPLES)]
