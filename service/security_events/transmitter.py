"""From the directory to the receivers: every stream in order, each token at least once.

One slow or silent receiver holds up its own stream only. Knows no Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx
import structlog

from service.clock import Clock, pause
from service.directory import organizations, streams
from service.directory.database import Database, Transaction
from service.directory.streams import Waiting
from service.security_events import receiver
from service.security_events.declaration import SecurityEvents
from service.security_events.keys import SigningKeys
from service.security_events.receiver import Judgement, Verdict
from service.security_events.tokens import claims

_log = structlog.stdlib.get_logger(__name__)
_LONGEST_BACKOFF: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmitterSettings:
    """Times in seconds. ``at_once``: streams pushed at a time. ``turn`` and ``turn_of``: after so long
    or so many tokens a stream lets others go first. ``within``: one push, its answer included.
    ``first_wait``: after the first failure of a token; each further one doubles it.
    """

    poll_every: float = 0.25
    lease: float = 30.0
    within: float = 10.0
    at_once: int = 64
    turn: float = 5.0
    turn_of: int = 500
    stop_within: float = 5.0
    first_wait: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The next events of a stream as it is declared now. ``attempts``: of the first one, in vain."""

    stream: SecurityEvents
    auth0_issuer: str
    waiting: list[Waiting]
    attempts: int


class Transmitter:
    """Pushes what waits in the streams, until told to stop."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        keys: SigningKeys,
        issuer: str,
        owner: str,
        settings: TransmitterSettings | None = None,
        on_push: Callable[[Verdict], None] = lambda _: None,
    ) -> None:
        """``issuer``: our public URL. ``owner`` names one run of one process, as
        ``streams.claim`` has it."""
        self._database = database
        self._clock = clock
        self._keys = keys
        self._issuer = issuer
        self._owner = owner
        self._settings = settings or TransmitterSettings()
        self._on_push = on_push
        self._turns: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Returns within 10 s of ``stop``. The database being away does not end it."""
        settings, delay = self._settings, 0.5
        async with receiver.http_client(settings.within, settings.at_once) as http:
            try:
                while not stop.is_set():
                    rest = settings.poll_every
                    try:
                        await self._take_turns(http, stop)
                        delay = 0.5
                    except Exception as error:  # its words may repeat what we store
                        _log.warning("security_events.failed", error=type(error).__name__)
                        rest, delay = delay, min(delay * 2, _LONGEST_BACKOFF)
                    await pause(stop, rest)
            finally:
                await self._end_turns(self._settings.stop_within if stop.is_set() else 0.0)

    async def _take_turns(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        """Begins a turn of each due stream, as far as there is room."""
        room = self._settings.at_once - len(self._turns)
        now = self._clock.now()
        if room <= 0 or not await self._database.read(lambda tx: streams.due(tx, self._owner, now)):
            return
        held_at, lease = self._clock.monotonic(), self._lease
        claimed = await self._database.transact(
            lambda tx: streams.claim(tx, owner=self._owner, now=now, lease=lease, limit=room)
        )
        for organization in claimed:
            # One whose lease ran out under us is claimed again, and its turn still ends by itself.
            if organization in self._turns:
                continue
            turn = asyncio.create_task(self._turn(http, organization, held_at, stop))
            self._turns[organization] = turn
            turn.add_done_callback(lambda _, name=organization: self._turns.pop(name, None))

    async def _end_turns(self, within: float) -> None:
        """A push that is under way may arrive; whatever is not noted is pushed again by another."""
        turns = [*self._turns.values()]
        if turns and within:
            await asyncio.wait(turns, timeout=within)
        for turn in turns:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        try:
            async with asyncio.timeout(self._settings.stop_within):
                await self._database.transact(lambda tx: streams.release(tx, self._owner))
        except Exception as error:  # the leases end by themselves
            _log.warning("security_events.not_released", error=type(error).__name__)

    # One stream

    async def _turn(
        self, http: httpx.AsyncClient, organization: str, held_at: float, stop: asyncio.Event
    ) -> None:
        """Pushes the stream's events in order, until there are none, one fails or time is up."""
        try:
            await self._push_some(http, organization, held_at, stop)
        except Exception as error:  # its lease ends by itself, and the stream is due again
            _log.warning(
                "security_events.turn_failed", organization=organization, error=type(error).__name__
            )

    async def _push_some(
        self, http: httpx.AsyncClient, organization: str, held_at: float, stop: asyncio.Event
    ) -> None:
        settings, began, pushed = self._settings, self._clock.monotonic(), 0
        while True:
            batch = await self._database.read(lambda tx: _next(tx, organization))
            if batch is None:
                break
            for position, waiting in enumerate(batch.waiting):
                now = self._clock.monotonic()
                if stop.is_set() or pushed >= settings.turn_of or now - began > settings.turn:
                    return await self._give_back(organization)
                # Nothing is pushed with less lease left than a push may take.
                if now - held_at > settings.lease - settings.within:
                    return None
                attempts = batch.attempts if position == 0 else 0
                judged = await self._push(http, organization, batch, waiting, attempts)
                held_at, kept = now, await self._note(organization, batch.stream, waiting, judged)
                if not kept:
                    return None
                pushed += 1
        return await self._give_back(organization)

    async def _push(
        self,
        http: httpx.AsyncClient,
        organization: str,
        batch: Batch,
        waiting: Waiting,
        attempts: int,
    ) -> Judgement:
        token = self._keys.sign(
            claims(
                waiting.event,
                batch.stream,
                organization=organization,
                issuer=self._issuer,
                auth0_issuer=batch.auth0_issuer,
            )
        )
        answer = await receiver.push(http, batch.stream, token, within=self._settings.within)
        judged = receiver.judge(
            answer,
            attempts=attempts,
            now=self._clock.now(),
            first_wait=self._settings.first_wait,
        )
        self._on_push(judged.verdict)
        return judged

    async def _note(
        self, organization: str, stream: SecurityEvents, waiting: Waiting, judged: Judgement
    ) -> bool:
        """What became of a push; whether the turn goes on."""
        now, error = self._clock.now(), judged.as_document()
        told = {"organization": organization, "jti": waiting.event.jti, **error}
        if judged.verdict == "again":
            _log.warning("security_events.put_off", again_in=judged.after, **told)
        elif judged.verdict == "refused":
            _log.error("security_events.stopped", **told)
        return await self._database.transact(
            lambda tx: _noted(
                tx,
                organization,
                stream,
                waiting.number,
                judged,
                owner=self._owner,
                now=now,
                lease=self._lease,
            )
        )

    async def _give_back(self, organization: str) -> None:
        now = self._clock.now()
        await self._database.transact(
            lambda tx: streams.give_back(tx, organization, owner=self._owner, now=now)
        )

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._settings.lease)


def _noted(
    transaction: Transaction,
    organization: str,
    stream: SecurityEvents,
    number: int,
    judged: Judgement,
    *,
    owner: str,
    now: datetime,
    lease: timedelta,
) -> bool:
    """Writes what became of a push to ``stream``; whether the turn goes on."""
    arrived = judged.verdict == "delivered"
    if not streams.stands(transaction, organization, stream):
        streams.let_go(transaction, organization, owner=owner, arrived=number if arrived else None)
    elif arrived:
        return streams.delivered(
            transaction, organization, number, owner=owner, now=now, lease=lease
        )
    elif judged.verdict == "again":
        due_at = now + timedelta(seconds=judged.after)
        streams.put_off(
            transaction, organization, owner=owner, due_at=due_at, error=judged.as_document()
        )
    else:
        streams.stop(transaction, organization, owner=owner, now=now, error=judged.as_document())
    return False


_BATCH: Final = 50


def _next(transaction: Transaction, organization: str) -> Batch | None:
    """None where nothing waits, or the stream is no longer declared."""
    registered = organizations.find(transaction, organization)
    declared = registered.organization.security_events if registered is not None else None
    waiting = streams.waiting(transaction, organization, _BATCH)
    if registered is None or declared is None or not waiting:
        return None
    named = registered.organization.tenant
    tenants = {each.name: each for each in organizations.tenants(transaction)}
    tenant = tenants.get(named)
    domain = tenant.domain if tenant is not None else ""
    url = tenant.url if tenant is not None else ""
    return Batch(
        stream=declared,
        auth0_issuer=f"https://{domain}/" if domain else f"{url}/",
        waiting=waiting,
        attempts=streams.attempts_of(transaction, organization),
    )
