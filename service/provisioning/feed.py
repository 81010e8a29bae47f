"""Follows what a tenant tells of its users, so that who appears or is changed is looked at at once.

An offset is stored after the work that its events have caused, so none is lost. Where there is no feed
it says so, once, and leaves the rest to Rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import httpx
import structlog

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.event_stream import (
    TOO_MANY_STREAMS,
    EventStream,
    Message,
    lost_its_place,
    subscribe,
    why_not_offered,
)
from service.clock import pause
from service.directory import appearances, drift, leases
from service.directory.appearances import Feed as Followed
from service.directory.database import Transaction
from service.provisioning.attending import attend
from service.provisioning.hearing import KINDS, heard
from service.provisioning.tenancy import Tenure
from service.retrying import delay_after

log = structlog.get_logger(__name__)

_MOST_AT_ONCE: Final = 200
_LOST: Final = frozenset({"cursor_expired", "invalid_cursor"})
_LASTING: Final = 5.0
"""Seconds that a stream is open at least where nothing is wrong with it."""
_COMPARED: Final = timedelta(hours=6)
"""How long a compare after a lost place is good for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """How the feed is followed. Times in seconds."""

    again: float = 0.5
    """After Auth0 has closed a stream, as it does every few minutes."""
    first: float = 1.0
    """After one that came to nothing, then twice as long each time: each try is a call of the budget."""
    no_room: float = 30.0
    """After all streams of the plan were taken."""
    no_feed: float = 300.0
    """After the plan or a scope has refused the feed."""
    longest: float = 60.0
    """Between two tries to reach the tenant."""
    note: timedelta = timedelta(minutes=1)
    """After which a place is stored, where nothing but signs of life came since the last one was."""


@dataclass(slots=True)
class Listening:
    """Whether a tenant's feed is open, for those who work without it where it is not."""

    open: bool = False


class Feed:
    """Follows one tenant's events, for as long as this process owns the tenant."""

    name: ClassVar[str] = "feed"

    def __init__(
        self,
        tenant: str,
        *,
        client: Auth0Client,
        listening: Listening,
        settings: FeedSettings | None = None,
    ) -> None:
        self._tenant = tenant
        self._client = client
        self._listening = listening
        self._settings = settings or FeedSettings()
        self._failures = 0
        self._noted: datetime | None = None

    async def work(self, tenure: Tenure, *, stop: asyncio.Event) -> None:
        try:
            while not tenure.ended.is_set():
                wait = 1.0
                if tenure.may_call() and not await tenure.paused():
                    try:
                        wait = await self._follow(tenure)
                    except httpx.TransportError as error:
                        log.info("feed.broken", tenant=self._tenant, error=type(error).__name__)
                        wait = self._put_off()
                self._listening.open = False
                await pause(tenure.ended, wait)
        finally:
            self._listening.open = False

    def _put_off(self) -> float:
        self._failures += 1
        return min(delay_after(self._failures - 1, self._settings.first), self._settings.longest)

    async def _follow(self, tenure: Tenure) -> float:
        """Opens the feed and reads it to its end; seconds until it is to be opened again."""
        known = await tenure.database.read(lambda tx: appearances.feed(tx, self._tenant))
        since = None
        if known.cursor is None and known.newest_at is not None:
            since = known.newest_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        async with subscribe(self._client, KINDS, cursor=known.cursor, since=since) as opened:
            if isinstance(opened, Answer):
                return await self._refused(opened, known, tenure)
            await self._begin(known, tenure)
            self._listening.open = True
            began = tenure.clock.monotonic()
            try:
                heard = await self._read(opened, tenure)
            finally:
                if lasted := tenure.clock.monotonic() - began > _LASTING:
                    self._failures = 0
        return self._settings.again if lasted or heard else self._put_off()

    async def _begin(self, known: Followed, tenure: Tenure) -> None:
        now = tenure.clock.now()

        def begin(tx: Transaction) -> None:
            leases.require(tx, self._tenant, tenure.owner.fence)
            appearances.store_feed(tx, self._tenant, heard_at=now, refused=None)
            if known.cursor is None and known.newest_at is None:
                # What happened before nobody has told us.
                appearances.look_soon(tx, self._tenant, now)

        await tenure.database.transact(begin)
        self._noted = now
        if known.refused is not None or known.heard_at is None:
            log.info("feed.open", tenant=self._tenant)

    async def _read(self, stream: EventStream, tenure: Tenure) -> bool:
        """To its end; whether anything came that has moved our place."""
        moved = False
        async with aclosing(_batches(stream, tenure.ended)) as batches:
            async for batch in batches:
                values = await self._take_in(batch, tenure)
                moved = moved or values.get("cursor") is not None
        return moved

    async def _take_in(self, batch: Sequence[Message], tenure: Tenure) -> Mapping[str, object]:
        """Follows up what came; what is stored of it then."""
        events = [message.event for message in batch if message.event is not None]
        news = [each for event in events if (each := heard(event)) is not None]
        now = tenure.clock.now()
        await attend(tenure, news)
        # The tenant's clock may be ahead of ours, or wrong.
        moments = [min(each.at, now) for each in news if each.at is not None]
        offsets = [message.offset for message in batch if message.offset is not None]
        lost = next((message for message in batch if message.error in _LOST), None)
        values: dict[str, object] = {"heard_at": now}
        if moments:
            values["newest_at"] = max(moments)
        if lost is not None:
            log.warning("feed.place_lost", tenant=self._tenant, reason=lost.error)
            values |= {"cursor": None}
        elif offsets:
            values |= {"cursor": offsets[-1]}
        silent = not events and lost is None
        if not silent or self._noted is None or now - self._noted >= self._settings.note:
            await self._store(tenure, values)
            self._noted = now
        return values

    async def _store(self, tenure: Tenure, values: dict[str, object]) -> None:
        def store(tx: Transaction) -> None:
            leases.require(tx, self._tenant, tenure.owner.fence)
            appearances.store_feed(tx, self._tenant, **values)

        await tenure.database.transact(store)

    async def _refused(self, answer: Answer, known: Followed, tenure: Tenure) -> float:
        """What a refusal leaves to do; seconds until the next try."""
        placed = known.cursor is not None or known.newest_at is not None
        if lost_its_place(answer) or (answer.verdict == "refused" and placed):
            log.warning("feed.place_lost", tenant=self._tenant, reason=answer.status)
            return await self._start_anew(known, tenure)
        if (code := why_not_offered(answer)) is not None:
            if (known.refused or {}).get("code") != code:
                log.warning("feed.refused", tenant=self._tenant, code=code, message=answer.message)
                since = tenure.clock.now().isoformat()
                refused = {"code": code, "message": answer.message[:300], "since": since}
                await self._store(tenure, {"refused": refused})
            settings = self._settings
            return settings.no_room if code == TOO_MANY_STREAMS else settings.no_feed
        if answer.verdict == "unauthorized" and answer.code == "token":
            await tenure.pause(answer.message, answer.status)
        if answer.verdict == "rate-limited" and answer.retry_after is not None:
            return min(max(answer.retry_after, self._put_off()), self._settings.longest)
        return self._put_off()

    async def _start_anew(self, known: Followed, tenure: Tenure) -> float:
        """From the newest event that is known; where that is too old as well, from now on: then what
        happened meanwhile is compared for."""
        if known.cursor is not None:
            await self._store(tenure, {"cursor": None})
        elif known.newest_at is None:
            return self._put_off()
        if known.cursor is None or known.newest_at is None:
            await self._store(tenure, {"newest_at": None})
            await self._compare(tenure)
        return 0.0

    async def _compare(self, tenure: Tenure) -> None:
        now = tenure.clock.now()

        def ask(tx: Transaction) -> None:
            leases.require(tx, self._tenant, tenure.owner.fence)
            if not drift.was_asked_since(tx, self._tenant, self.name, now - _COMPARED):
                drift.ask(tx, self._tenant, None, correct=False, asked_by=self.name, now=now)

        await tenure.database.transact(ask)


async def _batches(stream: EventStream, ended: asyncio.Event) -> AsyncGenerator[list[Message]]:
    """What has come meanwhile, at once, until the stream or our time is over."""
    came: asyncio.Queue[Message | None] = asyncio.Queue(_MOST_AT_ONCE)

    async def read() -> None:
        try:
            async for message in stream.messages():
                await came.put(message)
        finally:
            with suppress(asyncio.QueueFull):
                came.put_nowait(None)

    reading = asyncio.create_task(read())
    ending = asyncio.create_task(ended.wait())
    try:
        while not ended.is_set():
            getting = asyncio.create_task(came.get())
            await asyncio.wait({getting, ending, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                break
            batch = [getting.result()]
            while not came.empty():
                batch.append(came.get_nowait())
            if messages := [message for message in batch if message is not None]:
                yield messages
            if reading.done() and came.empty():
                break
        if reading.done():
            reading.result()  # raises what broke the stream
    finally:
        reading.cancel()
        ending.cancel()
        await asyncio.gather(reading, ending, return_exceptions=True)
