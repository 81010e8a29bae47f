"""What is recorded of one tenant's imports, some accounts at a time. Makes no call, decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from service.clock import Clock
from service.directory import imports
from service.directory.database import Database
from service.directory.imports import Held, Import
from service.provisioning import importing
from service.provisioning.first_load_settings import FirstLoadSettings
from service.provisioning.import_rows import Verdict
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

PORTION: Final = 50
"""Accounts in one transaction: on SQLite all writers wait for it."""


class Landing:
    """Lets accounts go from imports, in portions, under the owner's lease."""

    def __init__(
        self,
        tenant: str,
        *,
        database: Database,
        clock: Clock,
        settings: FirstLoadSettings,
        on_rows: Callable[[str, int], None],
    ) -> None:
        """``on_rows`` is told what so many rows came to."""
        self._tenant = tenant
        self._database = database
        self._clock = clock
        self._settings = settings
        self._on_rows = on_rows

    async def land(
        self,
        one: Import,
        tenure: Tenure,
        found: Mapping[str, Verdict],
        why: Mapping[str, str] | None = None,
    ) -> None:
        now = self._clock.now()
        counts = await self._database.transact(
            lambda tx: importing.land(
                tx, tenure.owner, one.id, found, since=one.since, now=now, why=why
            )
        )
        for verdict, count in counts.items():
            self._on_rows(verdict, count)

    async def give_back(self, one: Import, tenure: Tenure, why: str) -> None:
        """Nothing was sent: the lanes create them, but for those who have a hash and wait on."""
        held = await self._database.read(lambda tx: imports.held(tx, one.id))
        for portion in portions(held):
            now, ids = self._clock.now(), [each.id for each in portion]
            count = await self._database.transact(
                lambda tx, ids=ids, now=now: importing.give_back(
                    tx, tenure.owner, one.id, ids, since=one.since, now=now, why=why
                )
            )
            self._on_rows("returned", count)
        await self.end(one, tenure)

    async def end(self, one: Import, tenure: Tenure) -> None:
        now = self._clock.now()
        ended = await self._database.transact(
            lambda tx: importing.end(
                tx, tenure.owner, one.id, now, forget=now - self._settings.keep
            )
        )
        if ended:
            log.info("imports.ended", tenant=self._tenant, connection=one.connection, job=one.job)

    async def close_room(self, tenure: Tenure, room: Import) -> None:
        """Ends a waiting room, if nobody is in it."""
        now = self._clock.now()
        await self._database.transact(
            lambda tx: importing.close_room(tx, tenure.owner, room.id, now)
        )

    async def note(self, tenure: Tenure, import_id: str, **values: object) -> None:
        await self._database.transact(
            lambda tx: importing.note(tx, tenure.owner, import_id, **values)
        )

    async def seen(self, one: Import, tenure: Tenure, *, at_least: float | None = None) -> None:
        """Nothing new: the next look comes the later the longer it lasts."""
        least, most = self._settings.look_first, self._settings.look_most
        wait = max(least, min(self.age(one) / 5, most), at_least or 0.0)
        now = self._clock.now()
        await self.note(tenure, one.id, looked_at=now, due_at=self.after(wait))

    def age(self, one: Import) -> float:
        """Seconds since it was uploaded first."""
        if one.uploaded_at is None:
            return 0.0
        return (self._clock.now() - one.uploaded_at).total_seconds()

    def after(self, seconds: float) -> datetime:
        return self._clock.now() + timedelta(seconds=seconds)


def portions(held: Sequence[Held]) -> list[Sequence[Held]]:
    return [held[at : at + PORTION] for at in range(0, len(held), PORTION)]
