"""Fills thin events up: asks the HR system what the worker is now, and goes on with the event then.

Intake never waits for it: the event is durable first. Knows the order in which to ask, and what to do
without an answer; how to ask is ``fetching``'s affair, what an answer means the mapping's.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx
import structlog

from consumers.admission import input_problem, must_wait, transact
from consumers.faults import place_of
from consumers.fetching import NoAnswer, ask, http_client
from service.clock import Clock, pause
from service.directory import (
    applying,
    ending,
    enrichments,
    events,
    organizations,
    windingup,
)
from service.directory.database import Database, Transaction, is_unavailable
from service.directory.enrichments import Wanted
from service.directory.events import Event, Problem, Tries
from service.directory.replays import Reading
from service.enrichment import Enrichment
from service.retrying import delay_after

_log = structlog.stdlib.get_logger(__name__)
_DENIED_FOR: Final = 60.0
"""Seconds that a source rests whose credential was refused: somebody must mend it."""
_BUSY_FOR: Final = 5.0
_LEASE: Final = 30.0
"""Seconds beyond what the requests of one portion may take."""

Found = TypeVar("Found")
Again = Callable[[Transaction, Event, Any], Reading]
"""Reads a stored event anew, beside what was fetched about its worker."""


class Enricher:
    """Works off what waits for answers: each source apart, at its own rate, one event of a worker at
    a time. Any number of processes may do so at once, under ``owner``s of their own.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        again: Again,
        owner: str,
        http: Callable[[], httpx.AsyncClient] = http_client,
        looks_every: float = 0.5,
    ) -> None:
        self._database = database
        self._clock = clock
        self._again = again
        self._owner = owner
        self._new_http = http
        self._looks_every = looks_every
        self._served: dict[str, asyncio.Task[None]] = {}
        self._resting: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._next_request: dict[str, float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until asked to stop; what is being asked then is asked again by whoever comes next."""
        async with self._new_http() as http:
            try:
                while not stop.is_set():
                    await self._look(http)
                    await pause(stop, self._looks_every)
            finally:
                await self._end()

    async def _look(self, http: httpx.AsyncClient) -> None:
        """Starts with each source that has something due and is left alone by nobody."""
        try:
            waiting = await self._database.look_up(self._waiting)
        except Exception as error:
            _tell(error)
            return
        now = self._clock.monotonic()
        for source, enrichment in waiting.items():
            served = self._served.get(source)
            if self._resting.get(source, now) <= now and (served is None or served.done()):
                self._served[source] = asyncio.create_task(self._serve(http, source, enrichment))

    def _waiting(self, transaction: Transaction) -> Mapping[str, Enrichment | None]:
        due = enrichments.sources_waiting(transaction, self._clock.now())
        if not due:
            return {}
        known = {each.name: each.enrichment for each in organizations.sources(transaction)}
        return {source: known.get(source) for source in due}

    async def _serve(
        self, http: httpx.AsyncClient, source: str, enrichment: Enrichment | None
    ) -> None:
        """Works a source off, until nothing of it is due or it has to rest. Raises nothing."""
        try:
            while claimed := await self._claim(source, enrichment):
                if enrichment is None:
                    await _all(self._end_unasked(wanted) for wanted in claimed)
                    continue
                asked = (self._one(http, enrichment, wanted) for wanted in claimed)
                if not all(await _all(asked)):
                    return
        except Exception as error:
            _tell(error)

    async def _claim(self, source: str, enrichment: Enrichment | None) -> list[Wanted]:
        at_once = enrichment.at_once if enrichment is not None else 100
        lease = _LEASE
        if enrichment is not None:
            lease += enrichment.timeout + at_once / enrichment.rate
        now = self._clock.now()
        return await self._database.transact(
            lambda tx: enrichments.claim(
                tx,
                source,
                owner=self._owner,
                now=now,
                lease=timedelta(seconds=lease),
                limit=at_once,
            )
        )

    async def _one(self, http: httpx.AsyncClient, enrichment: Enrichment, wanted: Wanted) -> bool:
        """Asks about one worker. False where the source is to be left alone for a while."""
        await self._pace(wanted.source, enrichment)
        answer = await ask(
            http,
            enrichment,
            worker_id=wanted.worker_id,
            organization=wanted.organization,
            clock=self._clock,
        )
        if not isinstance(answer, NoAnswer):
            self._failures.pop(wanted.source, None)
            await self._go_on(wanted, answer.document)
            return True
        if answer.is_final or self._is_too_old(wanted, enrichment):
            self._failures.pop(wanted.source, None)
            problem = input_problem(answer.code, answer.message)
            if answer.kind == "gone":
                await self._dead_letter(wanted, problem)
            else:
                await self._do_without(wanted, problem)
            return True
        await self._put_off(wanted, answer)
        return False

    async def _pace(self, source: str, enrichment: Enrichment) -> None:
        now = self._clock.monotonic()
        mine = max(now, self._next_request.get(source, now))
        self._next_request[source] = mine + 1.0 / enrichment.rate
        await self._clock.sleep(mine - now)

    def _is_too_old(self, wanted: Wanted, enrichment: Enrichment) -> bool:
        return self._clock.now() - wanted.since > timedelta(seconds=enrichment.give_up_after)

    async def _put_off(self, wanted: Wanted, answer: NoAnswer) -> None:
        """Another time, and meanwhile the others of the source need not be tried, either."""
        failures = self._failures.get(wanted.source, 0)
        self._failures[wanted.source] = failures + 1
        rest = _rest_after(answer, failures)
        until = self._clock.monotonic() + rest
        self._resting[wanted.source] = max(until, self._resting.get(wanted.source, until))
        _log.warning("enrichment.no_answer", source=wanted.source, code=answer.code, rests=rest)
        now = self._clock.now()
        error = {"code": answer.code, "message": answer.message, "httpStatus": answer.status}
        least = _DENIED_FOR if answer.kind == "denied" else rest
        delay = max(rest, least, delay_after(wanted.attempts))
        await self._database.transact(
            lambda tx: enrichments.put_off(
                tx, wanted, self._owner, due_at=now + timedelta(seconds=delay), error=error
            )
        )

    async def _end_unasked(self, wanted: Wanted) -> None:
        await self._do_without(
            wanted,
            input_problem(
                "enrichment_missing",
                "The event only names the worker: configure enrichment on its source, then replay it.",
            ),
        )

    async def _do_without(self, wanted: Wanted, problem: Problem) -> None:
        """Lets an event act alone that is enough by itself; any other ends."""
        await self._go_on(wanted, None, without=problem)

    async def _dead_letter(self, wanted: Wanted, problem: Problem) -> None:
        now = self._clock.now()

        def work(transaction: Transaction) -> None:
            if enrichments.take(transaction, wanted, self._owner):
                ending.finish(
                    transaction,
                    wanted.event_id,
                    "deadlettered",
                    now=now,
                    problem=problem,
                    tries=_tries(wanted),
                )

        await self._database.transact(work)

    async def _go_on(self, wanted: Wanted, fetched: Any, *, without: Problem | None = None) -> None:
        """Takes the event in with what was fetched; a mapping that fails on it is told as such."""
        carry_on = functools.partial(
            _carry_on,
            wanted=wanted,
            owner=self._owner,
            fetched=fetched,
            without=without,
            again=self._again,
            now=self._clock.now(),
        )
        try:
            await transact(self._database, carry_on)
        except Exception as error:
            if must_wait(error):
                raise  # the lease runs out, and it is asked again
            _log.error("enrichment.crash", source=wanted.source, error=place_of(error))
            problem = "Taking this answer in failed: mend that, then replay the event."
            await self._dead_letter(wanted, input_problem("intake_crash", problem))

    async def _end(self) -> None:
        for task in self._served.values():
            task.cancel()
        await asyncio.gather(*self._served.values(), return_exceptions=True)
        try:
            async with asyncio.timeout(2.0):
                await self._database.transact(lambda tx: enrichments.release(tx, self._owner))
        except Exception as error:
            _tell(error)


async def _all(work: Iterable[Coroutine[Any, Any, Found]]) -> list[Found]:
    """What each gives, once all have ended; then raises what one of them raised."""
    found = await asyncio.gather(*work, return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]


def _rest_after(answer: NoAnswer, failures: int) -> float:
    """Seconds that a source is left alone, where so many failures in a row went before."""
    wait, grows = answer.wait or 0.0, delay_after(failures)
    match answer.kind:
        case "denied" if answer.status == HTTPStatus.FORBIDDEN:
            # Perhaps this worker only: others who may be seen do not wait for it.
            return max(wait, min(_DENIED_FOR, grows))
        case "denied":
            return _DENIED_FOR
        case "busy":
            return wait or _BUSY_FOR
        case _:
            return max(wait, grows)


def _carry_on(
    transaction: Transaction,
    *,
    wanted: Wanted,
    owner: str,
    fetched: Any,
    without: Problem | None,
    again: Again,
    now: Any,
) -> None:
    """``without``: why nothing was fetched, for an event that says too little by itself."""
    if not enrichments.take(transaction, wanted, owner):
        return
    event = events.get(transaction, wanted.event_id)
    assert event is not None
    registered = organizations.find(transaction, wanted.organization)
    if registered is not None and registered.decommissioned:
        ending.finish_many(transaction, [windingup.ended_with_it(wanted.event_id, now)])
        return
    reading = again(transaction, event, fetched)
    problem, ended = reading.problem, reading.ended
    if without is not None and not reading.is_enough:
        problem = without
    if problem is None and (
        reading.event is None
        or registered is None
        or reading.organization != wanted.organization
        or reading.event.worker_id != wanted.worker_id
    ):
        problem = input_problem(
            "enrichment_mismatch",
            "The answer is about another worker or organization: check the URL and the mapping.",
        )
    if problem is not None or reading.event is None or registered is None:
        ending.finish(
            transaction, wanted.event_id, ended, now=now, problem=problem, tries=_tries(wanted)
        )
        return
    applying.carry_on(transaction, registered, reading.event, wanted.event_id, wanted.order, now)


def _tries(wanted: Wanted) -> Tries:
    """How often it was asked about the worker, this time included."""
    return Tries(count=wanted.attempts + 1)


def _tell(error: Exception) -> None:
    if not is_unavailable(error):
        _log.error("enrichment.failed", error=place_of(error))
