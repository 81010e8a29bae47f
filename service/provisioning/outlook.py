"""Tells those who wait for work that there is some: one look at the directory for all of a process, instead
of one for each kind of work in each tenant. Knows not what the work is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from service.clock import Clock, pause
from service.directory import prospects
from service.directory.database import Database, Transaction, is_unavailable
from service.directory.prospects import SOON, Aspect, Prospect

log = structlog.get_logger(__name__)

_AGAIN: Final = 1.0
"""Seconds after which is looked again where it failed."""


class Outlook:
    """Looks as long as anybody waits. Times in seconds: ``soon`` between two looks for what people wait
    for, whoever leaves above all; ``later`` for the rest.
    """

    def __init__(
        self, *, database: Database, clock: Clock, soon: float = 0.15, later: float = 0.5
    ) -> None:
        self._database = database
        self._clock = clock
        self._soon = soon
        self._later = later
        self._waiting: dict[Prospect, set[asyncio.Future[None]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        looked = self._clock.monotonic() - self._later
        while not stop.is_set():
            rest = self._soon
            try:
                await self._look(prospects.soon, soon=True)
                if self._clock.monotonic() - looked >= self._later:
                    looked = self._clock.monotonic()
                    await self._look(prospects.later, soon=False)
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("outlook.failed")
                rest = _AGAIN
                self._tell(list(self._waiting), dict(self._waiting))  # let them look for themselves
            await pause(stop, rest)

    async def wait(
        self, aspect: Aspect, tenant: str, ended: asyncio.Event, at_most: float | None = None
    ) -> bool:
        """Until a look has shown that there is such work, ``ended`` is set or ``at_most`` seconds are
        over; whether it was shown. ``tenant``: empty for what belongs to none.
        """
        prospect = (aspect, tenant)
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(prospect, set()).add(told)
        ending = asyncio.create_task(ended.wait())
        try:
            await asyncio.wait({told, ending}, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            self._waiting[prospect].discard(told)
            if not self._waiting[prospect]:
                del self._waiting[prospect]
        return told.done()

    async def _look(
        self, look: Callable[[Transaction, datetime], Sequence[Prospect]], *, soon: bool
    ) -> None:
        # Who comes while it looks waits for the next look: this one may have been too early.
        waiting = {
            prospect: set(told)
            for prospect, told in self._waiting.items()
            if (prospect[0] in SOON) == soon
        }
        if waiting:
            now = self._clock.now()
            found = await self._database.look_up(lambda tx: look(tx, now))
            self._tell(found, waiting)

    @staticmethod
    def _tell(
        found: Sequence[Prospect], waiting: dict[Prospect, set[asyncio.Future[None]]]
    ) -> None:
        for prospect in found:
            for told in waiting.get(prospect, ()):
                if not told.done():
                    told.set_result(None)


async def rest(
    outlook: Outlook | None,
    aspect: Aspect,
    tenant: str,
    ended: asyncio.Event,
    *,
    poll: float,
    at_most: float | None = None,
) -> bool:
    """Until there may be such work: see ``Outlook.wait``. Without an outlook, ``poll`` seconds."""
    if outlook is None:
        await pause(ended, poll)
        return True
    return await outlook.wait(aspect, tenant, ended, at_most)
