"""When bearer tokens were last used: noted in memory by the doors, written now and then beside them.

Best effort: what a killed process had not written yet is lost, a minute's worth at most.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from service.clock import Clock, pause
from service.directory import credentials
from service.directory.database import Database

_LOG: Final = structlog.stdlib.get_logger(__name__)
_APART: Final = timedelta(minutes=1)
_LOOKS_EVERY: Final = 5.0
_WRITES_WITHIN: Final = 5.0
_LAST_WORD_WITHIN: Final = 1.0


class Uses:
    """Notes uses at no cost to a request, and writes each token's at most once a minute."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._noted: dict[str, datetime] = {}
        self._written: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """This token has opened its door just now."""
        self._noted[key_id] = self._clock.now()

    async def run(self, stop: asyncio.Event) -> None:
        """Writes what is due until asked to stop; ``finish`` writes the rest."""
        while not stop.is_set():
            await self.write()
            await pause(stop, _LOOKS_EVERY)

    async def write(self) -> None:
        """Writes the uses of tokens that were not written within the last minute."""
        now = self._clock.now()
        self._written = {id_: at for id_, at in self._written.items() if now - at < _APART}
        await self._write(
            {id_: at for id_, at in self._noted.items() if id_ not in self._written},
            apart=_APART,
            within=_WRITES_WITHIN,
        )

    async def finish(self) -> None:
        """Writes all that is noted, for the end of a process: within a second, or not at all."""
        await self._write(dict(self._noted), apart=timedelta(0), within=_LAST_WORD_WITHIN)

    async def _write(self, uses: dict[str, datetime], *, apart: timedelta, within: float) -> None:
        if not uses:
            return
        try:
            async with asyncio.timeout(within):
                await self._database.transact(
                    lambda tx: credentials.record_uses(tx, uses, apart=apart)
                )
        except Exception as error:  # nobody waits for this: it is tried again with the next
            _LOG.warning("the last use of tokens was not stored", error=type(error).__name__)
            return
        now = self._clock.now()
        for key_id, at in uses.items():
            self._written[key_id] = now
            if self._noted.get(key_id) == at:
                del self._noted[key_id]
