"""One consumer's life: join, poll, take in, commit, leave.

Which consumer follows a dead one is the affair of ``consumers.intake``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from consumers.faults import place_of
from consumers.kafka import IntakeSettings, Progress, as_record, open_consumer
from consumers.lookout import Lookout, Reading
from consumers.mapping import MAPPINGS, Mapper
from consumers.records import Record, Route, read
from consumers.storing import store
from service.clock import Clock
from service.directory.database import Database, check, is_unavailable

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Hold:
    """Something that waits: until when, and how long it waits this time."""

    until: float
    delay: float


class Session(ConsumerRebalanceListener):
    """A consumer from its start to its stop."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        settings: IntakeSettings,
        progress: Progress,
        mappings: Mapping[str, Mapper] = MAPPINGS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._consumer = open_consumer(settings)
        self._lookout = Lookout(
            consumer=self._consumer,
            database=database,
            clock=clock,
            settings=settings,
            progress=progress,
            mappings=mappings,
        )
        self._routes: Mapping[str, Route] = {}
        self._done: dict[TopicPartition, int] = {}
        """Next offset of each partition: everything before it is durable in our database."""
        self._committed: dict[TopicPartition, int] = {}
        self._held: dict[TopicPartition, _Hold] = {}
        self._away: _Hold | None = None
        self._generation = 0
        self._between_batches = asyncio.Event()
        self._between_batches.set()
        self._next_look = self._next_commit = self._next_measure = 0.0
        self._looking: asyncio.Task[Reading | None] | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until ``stop``. Raises KafkaError, TimeoutError or Stalled: then start another."""
        try:
            await asyncio.wait_for(self._consumer.start(), self._settings.start_within)
            while not stop.is_set():
                await self._turn(stop)
        finally:
            await self._leave()

    async def _turn(self, stop: asyncio.Event) -> None:
        await self._look_now_and_then()
        self._measure_now_and_then()
        self._progress.moved_at = self._clock.monotonic()
        if not self._consumer.subscription():
            await _wait(stop, self._settings.poll_timeout)
            return
        await self._resume_what_may_go_on()
        # Never cancelled while the consumer lives: that would switch off its own liveness check.
        polled = await self._consumer.getmany(
            timeout_ms=int(self._settings.poll_timeout * 1000),
            max_records=self._settings.max_poll_records,
        )
        self._progress.moved_at = self._clock.monotonic()
        self._progress.polled_at = self._clock.now()
        await self._take_all(polled, stop)
        await self._commit_now_and_then()

    # What to read

    async def _look_now_and_then(self) -> None:
        now = self._clock.monotonic()
        if self._looking is None and now >= self._next_look:
            self._looking = asyncio.create_task(self._lookout.what_to_read())
        if self._looking is None or not self._looking.done():
            return
        reading = self._looking.result()
        self._looking = None
        known = bool(self._routes) or self._progress.idle
        self._next_look = now + (self._settings.refresh_sources_every if known else 1.0)
        if reading is not None:
            await self._follow(reading)

    async def _follow(self, reading: Reading) -> None:
        self._routes = reading.routes
        self._progress.idle = not reading.topics
        if reading.topics == frozenset[str](self._consumer.subscription()):
            return
        _log.info("intake.subscribing", topics=sorted(reading.topics))
        await self._commit(self._settings.request_within)
        if reading.topics:
            self._consumer.subscribe(topics=sorted(reading.topics), listener=self)
        else:
            self._consumer.unsubscribe()
            self._forget()

    # Taking in

    async def _take_all(
        self, polled: Mapping[TopicPartition, Sequence[Any]], stop: asyncio.Event
    ) -> None:
        generation = self._generation
        for partition, records in polled.items():
            if self._generation != generation or stop.is_set():
                return  # whoever owns them next reads them again from the committed offset
            if self._away is not None:
                self._go_back_to(partition, records[0].offset)
                continue
            self._between_batches.clear()
            try:
                await self._take(partition, [as_record(each) for each in records])
            finally:
                self._between_batches.set()

    async def _take(self, partition: TopicPartition, records: Sequence[Record]) -> None:
        route = self._routes.get(partition.topic)
        if route is None:
            self._go_back_to(partition, records[0].offset)
            self._hold(partition, records[0].offset, "its source is gone")
            return
        now = self._clock.now()
        stored = await store(self._database, [read(record, route, now) for record in records])
        if stored.count:
            self._taken(partition, records[stored.count - 1].offset, stored.count)
        if stored.stopped_by is None:
            return
        stopped_at = records[stored.count].offset
        self._go_back_to(partition, stopped_at)
        if is_unavailable(stored.stopped_by):
            self._database_is_away(stored.stopped_by)
        else:
            self._hold(partition, stopped_at, place_of(stored.stopped_by))

    def _taken(self, partition: TopicPartition, last: int, count: int) -> None:
        self._done[partition] = last + 1
        self._progress.taken += count
        self._progress.taken_at = self._clock.now()
        self._held.pop(partition, None)
        self._progress.blocked.pop(partition, None)

    # Waiting

    def _database_is_away(self, error: BaseException) -> None:
        """Stops fetching; polls go on, so that we stay in the group. Nothing is skipped."""
        self._away = self._longer(self._away, 0.5)
        if self._progress.database_away_since is None:
            _log.warning("intake.database_away", error=type(error).__name__)
            self._progress.database_away_since = self._clock.now()
        self._pause(self._consumer.assignment())

    def _hold(self, partition: TopicPartition, offset: int, why: str) -> None:
        """Stops one partition for a while. Perhaps the database is at fault: nothing is skipped."""
        self._held[partition] = self._longer(self._held.get(partition), 1.0)
        if self._progress.blocked.get(partition) != (offset, why):
            _log.error("intake.blocked", topic=partition.topic, offset=offset, error=why)
        self._progress.blocked[partition] = (offset, why)
        self._pause([partition])

    def _longer(self, earlier: _Hold | None, first: float) -> _Hold:
        delay = min(earlier.delay * 2 if earlier else first, self._settings.longest_backoff)
        return _Hold(self._clock.monotonic() + delay, delay)

    async def _resume_what_may_go_on(self) -> None:
        now = self._clock.monotonic()
        if self._away is not None:
            if now < self._away.until or not await self._database_answers():
                return
            _log.info("intake.database_back")
            self._away = None
            self._progress.database_away_since = None
            self._next_look = 0.0
        waiting = {partition for partition, hold in self._held.items() if now < hold.until}
        paused = self._consumer.paused()
        if going_on := (paused - waiting) & self._consumer.assignment():
            self._consumer.resume(*going_on)

    async def _database_answers(self) -> bool:
        try:
            await asyncio.wait_for(self._database.read(check), self._settings.request_within)
        except Exception as error:  # whatever it is, nothing can be stored now
            self._database_is_away(error)
            return False
        return True

    def _pause(self, partitions: Collection[TopicPartition]) -> None:
        if assigned := set(partitions) & self._consumer.assignment():
            self._consumer.pause(*assigned)

    def _go_back_to(self, partition: TopicPartition, offset: int) -> None:
        if partition in self._consumer.assignment():
            self._consumer.seek(partition, offset)

    # Rebalances. aiokafka swallows what these raise, so they raise nothing that matters.

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride] - awaited
        self, revoked: Collection[TopicPartition]
    ) -> None:
        """Lets the transaction in flight end, commits, forgets. Perhaps they are lost already."""
        self._generation += 1
        try:
            await asyncio.wait_for(self._between_batches.wait(), self._settings.drain_within)
        except TimeoutError:
            _log.warning("intake.revoked_in_transaction", partitions=len(revoked))
        await self._commit(self._settings.request_within)
        self._forget()

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride] - awaited
        self, assigned: Collection[TopicPartition]
    ) -> None:
        """A new assignment knows neither our positions nor what was paused."""
        self._generation += 1
        self._forget()
        self._progress.joined = True
        self._progress.assigned = tuple(sorted(assigned))
        self._progress.moved_at = self._clock.monotonic()
        _log.info("intake.assigned", partitions=len(assigned))
        if self._away is not None:
            self._pause(assigned)
        if self._checking is not None:
            self._checking.cancel()
        self._checking = asyncio.create_task(self._lookout.check_start(assigned))

    def _forget(self) -> None:
        self._done.clear()
        self._committed.clear()
        self._held.clear()
        self._progress.assigned = ()
        self._progress.lag = {}
        self._progress.blocked.clear()

    # Committing, measuring, leaving

    async def _commit_now_and_then(self) -> None:
        if self._clock.monotonic() >= self._next_commit:
            self._next_commit = self._clock.monotonic() + self._settings.commit_every
            await self._commit(self._settings.request_within)

    async def _commit(self, within: float) -> None:
        """Commits what is durable. A failure is no loss: redelivered offsets change nothing."""
        assigned = self._consumer.assignment()
        offsets = {
            partition: offset
            for partition, offset in self._done.items()
            if partition in assigned and self._committed.get(partition) != offset
        }
        if not offsets:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(offsets), within)
        except (KafkaError, TimeoutError) as error:
            _log.warning("intake.commit_failed", error=repr(error))
            return
        self._committed |= offsets
        self._progress.committed_at = self._clock.now()

    def _measure_now_and_then(self) -> None:
        """Raises Stalled where the last measurement found that nothing moves."""
        now = self._clock.monotonic()
        if self._measuring is not None and self._measuring.done():
            self._measuring.result()
            self._measuring = None
        if self._measuring is None and now >= self._next_measure and self._progress.assigned:
            self._next_measure = now + self._settings.measure_lag_every
            self._measuring = asyncio.create_task(self._lookout.measure())

    async def _leave(self) -> None:
        """Commit, then stop, each for so long only: both may hang while brokers are away."""
        asked = [each for each in (self._looking, self._measuring, self._checking) if each]
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._commit(self._settings.last_commit_within)
        try:
            await asyncio.wait_for(self._consumer.stop(), self._settings.stop_within)
        except (KafkaError, TimeoutError) as error:
            _log.warning("intake.stop_unfinished", error=repr(error))


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
