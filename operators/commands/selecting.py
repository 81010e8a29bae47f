"""Which events a command is about, and doing one thing to each with progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from operators import declaring
from service.directory import events, overview
from service.directory.database import Database, Transaction
from service.directory.events import Event, Filter
from service.directory.results import Result
from service.errors import NotFound

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The filters of a command line. ``user`` is any name of a person."""

    organization: str | None = None
    state: str | None = None
    error: str | None = None
    user: str | None = None
    since: datetime | None = None
    trouble: bool = False
    retrying: bool = False

    @property
    def narrows(self) -> bool:
        return any((self.organization, self.state, self.error, self.user, self.since))

    def filter(self, user_id: str | None, after: int = 0) -> Filter:
        return Filter(
            organization=self.organization,
            state=self.state,
            error=self.error,
            user=user_id,
            since=self.since,
            after=after,
        )


async def every(database: Database, chosen: Chosen) -> AsyncIterator[Event]:
    """All events of a choice, in order, page by page."""
    if chosen.trouble or chosen.retrying or chosen.user is not None:
        for event_id in await ids(database, chosen):
            event = await database.read(lambda tx, known=event_id: events.get(tx, known))
            if event is not None:
                yield event
        return
    await database.read(lambda tx: _people(tx, chosen))
    after = 0
    while True:
        wanted = chosen.filter(None, after)
        page = await database.read(lambda tx, wanted=wanted: events.listing(tx, wanted, _PAGE))
        for event in page:
            yield event
        if len(page) < _PAGE:
            return
        after = page[-1].number


async def newest(database: Database, chosen: Chosen, limit: int) -> list[Event]:
    """The newest events of a choice, oldest of them first."""

    def work(transaction: Transaction) -> list[Event]:
        found: dict[int, Event] = {}
        for user_id in _people(transaction, chosen):
            for event in overview.latest_events(
                transaction,
                chosen.filter(user_id),
                trouble=chosen.trouble,
                retrying=chosen.retrying,
                limit=limit,
            ):
                found[event.number] = event
        return [found[number] for number in sorted(found)][-limit:]

    return await database.read(work)


async def ids(database: Database, chosen: Chosen) -> list[str]:
    """The ids of all events of a choice, in order of acceptance."""

    def work(transaction: Transaction) -> list[str]:
        found: dict[str, int] = {}
        for user_id in _people(transaction, chosen):
            wanted = chosen.filter(user_id)
            found |= overview.event_ids(
                transaction, wanted, trouble=chosen.trouble, retrying=chosen.retrying
            )
        return sorted(found, key=lambda event_id: found[event_id])

    return await database.read(work)


async def each(
    database: Database,
    event_ids: Sequence[str],
    work: Callable[[Transaction, str], Result],
    *,
    reading: bool,
    doing: str,
) -> list[Result]:
    """One transaction an event, so that one that fails keeps no other from being done."""
    from rich.console import Console
    from rich.progress import track

    results: list[Result] = []
    run = database.read if reading else database.transact
    console = Console(stderr=True)
    hidden = len(event_ids) < 2 or not sys.stderr.isatty()
    for event_id in track(event_ids, description=doing, console=console, disable=hidden):
        try:
            results.append(await run(lambda tx, known=event_id: work(tx, known)))
        except NotFound as error:
            results.append(Result(event_id=event_id, verdict="failed", reason=str(error)))
    return results


def _people(transaction: Transaction, chosen: Chosen) -> list[str | None]:
    """Ids of the users that are meant; ``[None]`` where nobody is named. Raises NotFound.

    A misspelt organization is no empty answer: nobody would see the mistake.
    """
    if chosen.organization is not None:
        declaring.the_organization(transaction, chosen.organization)
    if chosen.user is None:
        return [None]
    found = overview.matching_people(transaction, chosen.user, chosen.organization)
    if not found:
        raise NotFound(
            f"Nobody has {chosen.user} as id, userName, externalId, worker id or address."
        )
    return [user.id for user in found]
