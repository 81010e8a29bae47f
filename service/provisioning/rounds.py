"""Looks for those who are awaited: each by name in turn, and without a feed of events all who are new
in a connection at once. Spends a small share of the tenant's budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

import structlog

from service.auth0.client import Auth0Client
from service.auth0.pacing import Plan
from service.clock import pause
from service.directory import appearances, leases
from service.directory.database import Transaction
from service.provisioning import attention
from service.provisioning.feed import Listening
from service.provisioning.hearing import Heard, moment, of_user
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

LOOKS: Final[Mapping[Plan, float]] = {"free": 0.1, "professional": 0.4, "enterprise": 0.8}
"""How many a second are looked for by name: a twentieth of what a plan has for reading users."""

_LATE: Final = timedelta(seconds=60)
"""How much later than others a new user may show in Auth0's search."""
_MOST_PAGES: Final = 10
"""Search shows a thousand users at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSettings:
    """How often is looked. Times in seconds."""

    look: float = 1.0
    sweep: float = 15.0
    """Between two looks at who is new in a connection, while there is no feed."""


class Rounds:
    """Looks for who is awaited in one tenant, for as long as this process owns it."""

    name: ClassVar[str] = "rounds"

    def __init__(
        self,
        tenant: str,
        *,
        client: Auth0Client,
        plan: Plan,
        listening: Listening,
        settings: RoundSettings | None = None,
    ) -> None:
        self._tenant = tenant
        self._client = client.background()
        self._rate = LOOKS[plan]
        self._listening = listening
        self._settings = settings or RoundSettings()

    async def work(self, tenure: Tenure, *, stop: asyncio.Event) -> None:
        settings = self._settings
        owed, swept = 1.0, tenure.clock.monotonic()
        while not tenure.ended.is_set():
            await pause(tenure.ended, settings.look)
            if tenure.ended.is_set() or not tenure.may_call() or await tenure.paused():
                continue
            owed = min(owed + self._rate * settings.look, max(1.0, self._rate * 10))
            if owed >= 1.0:
                owed -= await self._look(tenure, int(owed))
            if tenure.clock.monotonic() - swept >= settings.sweep:
                if not self._listening.open:
                    await self._sweep(tenure)
                swept = tenure.clock.monotonic()

    async def _look(self, tenure: Tenure, most: int) -> int:
        now = tenure.clock.now()

        def take(tx: Transaction) -> int:
            leases.require(tx, self._tenant, tenure.owner.fence)
            return appearances.take_looks(tx, self._tenant, now, most)

        return await tenure.database.transact(take)

    async def _sweep(self, tenure: Tenure) -> None:
        """Who is new in each connection where profiles appear by themselves."""
        places = await tenure.database.read(lambda tx: attention.places_of(tx, self._tenant))
        feed = await tenure.database.read(lambda tx: appearances.feed(tx, self._tenant))
        marks = dict(feed.marks)
        for connection in sorted(places):
            known = moment(marks.get(connection))
            news = await self._new_in(connection, known - _LATE if known is not None else None)
            if news is None:
                continue
            await self._attend(tenure, news, places)
            moments = [each.at for each in news if each.at is not None]
            if known is not None:
                moments.append(known)
            if moments:
                marks[connection] = max(moments).isoformat()
        if marks != feed.marks:
            await tenure.database.transact(
                lambda tx: appearances.store_feed(tx, self._tenant, marks=marks)
            )

    async def _new_in(self, connection: str, since: datetime | None) -> list[Heard] | None:
        """Who was created in it since; None where Auth0 does not say."""
        found: list[Heard] = []
        for page in range(_MOST_PAGES):
            answer = await self._client.newest_users(connection, page)
            if answer.verdict != "ok":
                log.info("rounds.not_told", tenant=self._tenant, verdict=answer.verdict)
                return None
            users = [
                of_user("user.created", user, moment(user.get("created_at")))
                for user in answer.data
            ]
            found += [user for user in users if user is not None]
            oldest = found[-1].at if found else None
            if len(answer.data) < 100 or since is None or oldest is None or oldest < since:
                break
        return [each for each in found if since is None or each.at is None or each.at >= since]

    async def _attend(self, tenure: Tenure, news: list[Heard], places: attention.Places) -> None:
        marks = await tenure.database.read(
            lambda tx: attention.look_up(tx, self._tenant, news, places)
        )
        now = tenure.clock.now()
        for one in marks:
            await tenure.database.transact(
                lambda tx, it=one: attention.mark(tx, it, tenure.owner, now)
            )
