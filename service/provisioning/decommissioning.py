"""Takes organizations that end from stage to stage, whichever process comes first."""

from __future__ import annotations

import asyncio

import structlog

from service.clock import Clock, pause
from service.directory import decommissions
from service.directory.database import Database, is_unavailable
from service.provisioning.outlook import Outlook, rest

log = structlog.get_logger(__name__)


class Decommissions:
    """Looks at each once a second: a stage is over when the directory says so."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        look: float = 1.0,
        outlook: Outlook | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._look = look
        self._outlook = outlook

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            name = ""
            try:
                for name in await self._database.read(decommissions.under_way):
                    await self._advance(name)
            except Exception as error:
                if not is_unavailable(error):
                    log.exception("decommissions.failed", organization=name)
            await pause(stop, self._look)
            await rest(self._outlook, "decommissions", "", stop, poll=0.0)

    async def _advance(self, name: str) -> None:
        """Through all the stages that are over by now."""
        while True:
            now = self._clock.now()
            stage = await self._database.transact(
                lambda tx, now=now: decommissions.advance(tx, name, now)
            )
            if stage is None:
                return
            log.info("decommissions.advanced", organization=name, stage=stage)
