"""Looks for those who are awaited: each by name in turn, and without a feed of events all who are new
in a connection at once. Spends a small share of the tenant's budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
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
from service.provisioning.attending import attend
from service.provisioning.feed import Listening
from service.provisioning.hearing import Heard, moment, of_user
from service.provisioning.tenancy import Tenure

log = structlog.get_logger(__name__)

LOOKS: Final[Mapping[Plan, float]] = {
    "free": 0.1,
    "professional": 0.4,
    "enterprise-nonproduction": 0.1,
    "enterprise": 0.8,
}
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
    sweep_beside: float = 900.0
    """The same while there is one, which may be silent for reasons of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _New:
    """New users of a connection, the newest first. ``cut``: there are more than search shows."""

    users: Sequence[Heard]
    cut: bool


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
        looked = swept
        while not tenure.ended.is_set():
            await pause(tenure.ended, settings.look)
            left = swept + self._sweeps_every() - tenure.clock.monotonic()
            told = left <= 0 or await tenure.rest("looks", 0.0, min(left, settings.sweep))
            now = tenure.clock.monotonic()
            owed = min(owed + self._rate * (now - looked), max(1.0, self._rate * 10))
            looked = now
            if tenure.ended.is_set() or not told or not tenure.may_call() or await tenure.paused():
                continue
            if owed >= 1.0:
                owed -= await self._look(tenure, int(owed))
            if tenure.clock.monotonic() - swept >= self._sweeps_every():
                await self._sweep(tenure)
                swept = tenure.clock.monotonic()

    def _sweeps_every(self) -> float:
        """Seconds; the feed may come and go meanwhile."""
        settings = self._settings
        return settings.sweep_beside if self._listening.open else settings.sweep

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
            await attend(tenure, news.users)
            if news.cut:
                log.warning("rounds.too_many_new", tenant=self._tenant, connection=connection)
                await self._look_soon(tenure)
            now = tenure.clock.now()
            moments = [min(each.at, now) for each in news.users if each.at is not None]
            if known is not None:
                moments.append(known)
            if moments:
                marks[connection] = max(moments).isoformat()
        if marks != feed.marks:
            await tenure.database.transact(
                lambda tx: appearances.store_feed(tx, self._tenant, marks=marks)
            )

    async def _look_soon(self, tenure: Tenure) -> None:
        """Has everyone who is awaited looked for by name: some may have come unseen."""
        now = tenure.clock.now()

        def look(tx: Transaction) -> None:
            leases.require(tx, self._tenant, tenure.owner.fence)
            appearances.look_soon(tx, self._tenant, now)

        await tenure.database.transact(look)

    async def _new_in(self, connection: str, since: datetime | None) -> _New | None:
        """Who was created in it since; None where Auth0 does not say."""
        found: list[Heard] = []
        cut = True
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
                cut = False
                break
        new = [each for each in found if since is None or each.at is None or each.at >= since]
        return _New(users=new, cut=cut)
