"""What several tests of the doors need: a clock that is set, and a look at what was stored."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.directory import events, outbox
from service.directory.database import Database
from service.directory.events import Event, Filter
from service.directory.outbox import Outcome

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


@dataclass
class SetClock:
    """A clock that stands still until it is moved; sleeping moves it."""

    instant: datetime = START

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return self.instant.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.instant += timedelta(seconds=seconds)


async def events_of(database: Database) -> list[Event]:
    return await database.read(lambda tx: events.listing(tx, Filter(), limit=10_000))


async def outcomes_of(database: Database) -> list[Outcome]:
    return await database.read(lambda tx: outbox.listing(tx, limit=10_000))
