"""The lanes of one Auth0 tenant: due accounts are worked side by side, each by one turn at a time.

Decides when to call, when to wait and when to stop, not what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final

import structlog
from tenacity import RetryCallState, wait_exponential_jitter

from service.auth0.calls import TIMEOUT
from service.clock import Clock, pause
from service.directory import accounts, leases
from service.directory.accounts import Due
from service.directory.database import Database, Transaction, is_unavailable
from service.errors import LostLease
from service.provisioning import turn
from service.provisioning.candidates import Claims, candidates, claims
from service.provisioning.effects import Effect, Later, TenantRefused
from service.provisioning.interpreting import interpret
from service.provisioning.perform import Performer
from service.provisioning.tenancy import Tenure
from service.provisioning.turn import Owner, Step

log = structlog.get_logger(__name__)

_backoff: Final = wait_exponential_jitter(initial=1, max=300, jitter=1)


def backoff(attempts: int) -> float:
    """Seconds until the next attempt after this many failed: doubling from one to 300, jittered."""
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # pyright: ignore[reportArgumentType]
    state.attempt_number = max(1, attempts)
    return _backoff(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """How a tenant's lanes are worked. Times in seconds."""

    poll: float = 0.1
    width: int = 128
    """Turns at once; as many again are kept for leavers. So many that requests of ten fill while
    the narrowest bucket has enough to do, and that a killed process leaves few calls in doubt."""
    at_once: int = 32
    """Turns that one look begins at most: their transactions stand before a leaver's."""
    most_steps: int = 60
    """Calls in one turn: more means that the plan does not come to an end."""
    most_crashes: int = 5
    drain: float = 6.0
    """How long calls under way may take once the process stops; longer ones are left in doubt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a look into the directory has shown. ``leaving``: those at work who leave since.

    ``crowded``: more joiners are due than there is room for.
    """

    leaving: Sequence[str]
    due: Sequence[Due] = ()
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class _MailRecord:
    """The ledger's line for the mail of one step, written under the lease."""

    database: Database
    clock: Clock
    step: Step
    owner: Owner

    async def intend(self) -> bool:
        now = self.clock.now()
        return await self.database.transact(
            lambda tx: turn.intend_mail(tx, self.step, self.owner, now)
        )

    async def withdraw(self) -> None:
        await self.database.transact(lambda tx: turn.withdraw_mail(tx, self.step, self.owner))


class Lanes:
    """Works one tenant's due accounts, for as long as this process owns the tenant."""

    name: ClassVar[str] = "lanes"

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        performer: Performer,
        clock: Clock,
        settings: LaneSettings | None = None,
        on_call: Callable[[str, Effect], None] | None = None,
        wait: Callable[[int], float] | None = None,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._performer = performer
        self._clock = clock
        self._settings = settings or LaneSettings()
        self._wait = wait or backoff
        self._on_call = on_call or (lambda _kind, _effect: None)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._leavers: set[str] = set()
        self._stopping = False

    async def work(self, tenure: Tenure, *, stop: asyncio.Event) -> None:
        self._stopping = False
        try:
            while not tenure.ended.is_set():
                await self._start_due(tenure)
                if self._busy:
                    await pause(tenure.ended, self._settings.poll)
                else:
                    await tenure.rest("accounts", self._settings.poll)
        finally:
            self._stopping = True
            self._performer.crowd(False, at_work=0)
            await self._drain(stopping=stop.is_set())
            await self._performer.give_up()

    async def _drain(self, *, stopping: bool) -> None:
        """Waits for the calls under way; each ends within its own timeout. A process that stops
        has less time: what it gives up stays recorded as in doubt, and is read by the next owner.
        """
        if not self._busy:
            return
        if not stopping:  # who waits for a turn to call would have it in our next time as the owner
            for task in self._busy.values():
                self._performer.recall(task)
        within = self._settings.drain if stopping else TIMEOUT
        _, hanging = await asyncio.wait(self._busy.values(), timeout=within)
        if stopping and hanging:
            log.warning("lanes.calls_given_up", tenant=self._tenant, calls=len(hanging))
            for task in hanging:
                task.cancel()
            await asyncio.wait(hanging, timeout=1.0)

    async def _start_due(self, tenure: Tenure) -> None:
        if not tenure.may_call():
            return
        seen = await self._look()
        for account_id in seen.leaving:
            self._make_way(account_id)
        self._performer.crowd(seen.crowded, at_work=len(self._busy))
        for account in seen.due:
            if account.leaver:
                self._leavers.add(account.id)
            self._start(account.id, self._turn(account.id, tenure))

    async def _look(self) -> _Seen:
        """What there is to begin, and who leaves in the middle of their turn; in one read."""
        settings, now, busy = self._settings, self._clock.now(), list(self._busy)
        begun = [one for one in busy if one not in self._leavers]
        room = 2 * settings.width - len(busy)
        joiners = max(0, min(settings.width - len(begun), room, settings.at_once))

        def look(tx: Transaction) -> _Seen:
            leaving = accounts.leavers_among(tx, begun)
            if room <= 0 or leases.paused(tx, self._tenant) is not None:
                return _Seen(leaving=leaving)
            # One joiner more than there is room for tells whether others wait.
            due = accounts.due(
                tx, self._tenant, now=now, limit=room + 1, others=joiners + 1, busy=busy
            )
            leavers = [one for one in due if one.leaver][:room]
            others = [one for one in due if not one.leaver]
            free = max(0, min(joiners, room - len(leavers)))
            return _Seen(
                leaving=leaving, due=(*leavers, *others[:free]), crowded=len(others) > free
            )

        return await self._database.read(look)

    def _make_way(self, account_id: str) -> None:
        """Whoever leaves in the middle of their turn does not wait among the joiners any more.

        What was planned for somebody who stays is not called any more: the turn ends and begins
        anew as a leaver's.
        """
        if (task := self._busy.get(account_id)) is not None:
            self._leavers.add(account_id)
            self._performer.recall(task)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._busy:
            work.close()
            return
        task = asyncio.create_task(work)
        self._busy[name] = task
        task.add_done_callback(lambda _: self._leave(name))

    def _leave(self, account_id: str) -> None:
        self._busy.pop(account_id, None)
        self._leavers.discard(account_id)

    async def _turn(self, account_id: str, tenure: Tenure) -> None:
        step: Step | None = None
        try:
            now = self._clock.now()
            step = await self._database.transact(
                lambda tx: turn.begin(tx, account_id, tenure.owner, now)
            )
            for _ in range(self._settings.most_steps):
                if step is None:
                    return
                if self._stopping or not tenure.may_call():
                    await self._abandon(step, tenure)
                    return
                step = await self._step(step, tenure)
            raise RuntimeError("the plan does not come to an end")
        except LostLease:
            tenure.lose()
            if step is not None:
                await self._doubt_late(step)
        except Exception as error:
            if is_unavailable(error):
                log.warning("lanes.database_unavailable", error=type(error).__name__)
            else:
                log.exception("lanes.turn_failed", account=account_id, tenant=self._tenant)
                await self._crashed(account_id, tenure)

    async def _step(self, step: Step, tenure: Tenure) -> Step | None:
        """Makes one call and records what came of it; the next step, or None at the turn's end."""
        leaver = step.account.leaver or step.account.id in self._leavers
        answer = await self._performer.perform(
            step, _MailRecord(self._database, self._clock, step, tenure.owner), leaver=leaver
        )
        users = candidates(step, answer.data) if answer.verdict == "ok" else ()
        known = await self._database.read(lambda tx: claims(tx, step, users)) if users else Claims()
        setting = step.setting(known.live, of_others=known.of_others)
        effect = interpret(step.operation, answer, setting)
        if isinstance(effect, TenantRefused) and effect.alone is not None:
            effect = effect.where(await self._performer.client.accepted(leaver=leaver))
        self._on_call(step.operation.kind, effect)
        log.debug(
            "lanes.called",
            tenant=self._tenant,
            account=step.account.id,
            operation=step.operation.kind,
            verdict=answer.verdict,
            status=answer.status,
        )
        now = self._clock.now()
        match effect:
            case Later():
                await self._postpone(step, effect, tenure)
                return None
            case TenantRefused():
                log.warning("lanes.tenant_paused", tenant=self._tenant, reason=effect.reason)
                await tenure.pause(effect.reason, effect.status)
                later = Later(reason="the tenant is paused", after=0.0, counted=False)
                await self._postpone(step, later, tenure)
                return None
            case _:
                return await self._database.transact(
                    lambda tx: turn.advance(tx, step, effect, tenure.owner, now)
                )

    async def _postpone(self, step: Step, later: Later, tenure: Tenure) -> None:
        attempts = step.account.attempts + 1
        wait = later.after if later.after is not None else self._wait(attempts)
        now = self._clock.now()
        until = now + timedelta(seconds=wait)
        await self._database.transact(
            lambda tx: turn.postpone(tx, step, later, tenure.owner, now, until)
        )

    async def _abandon(self, step: Step, tenure: Tenure) -> None:
        now = self._clock.now()
        await self._database.transact(lambda tx: turn.abandon(tx, step, tenure.owner, now))

    async def _doubt_late(self, step: Step) -> None:
        now = self._clock.now()
        with contextlib.suppress(Exception):  # the doubt that was recorded before stands anyway
            await self._database.transact(lambda tx: turn.doubt_late(tx, step, now))

    async def _crashed(self, account_id: str, tenure: Tenure) -> None:
        now = self._clock.now()

        def note(transaction: Transaction) -> None:
            until = now + timedelta(seconds=5)
            attempts = turn.crashed(transaction, account_id, tenure.owner, now, until)
            if attempts >= self._settings.most_crashes:
                turn.give_up(transaction, account_id, tenure.owner, now)

        try:
            await self._database.transact(note)
        except Exception:
            log.exception("lanes.crash_not_recorded", account=account_id)
