"""One consumer's life: join, poll, take in, commit, leave.

Which consumer follows a dead one is the affair of ``consumers.intake``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from consumers.byhand import UNREADABLE, read_by_hand, why_unreadable
from consumers.faults import place_of
from consumers.kafka import IntakeSettings, Progress, as_record, open_consumer
from consumers.lookout import Lookout, Reading
from consumers.mappings.canonical import MAPPINGS, Mapper
from consumers.offsets import Offsets
from consumers.pausing import Pauses
from consumers.records import Record, Route, inputs
from consumers.storing import Fuse, portions, store, whole_records
from service.clock import Clock, pause
from service.directory import fuses
from service.directory.database import Database, is_unavailable
from service.directory.fuses import Blown
from service.intake_metrics import IntakeMetrics

_log = structlog.stdlib.get_logger(__name__)

_AT_ONCE: Final = 4
"""Partitions whose transactions run side by side."""
_BATCHES_OF_A_POLL: Final = 16
"""A poll empties one partition before it turns to the next: so that it reaches several."""


class Session(ConsumerRebalanceListener):
    """A consumer from its start to its stop."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        settings: IntakeSettings,
        progress: Progress,
        metrics: IntakeMetrics,
        mappings: Mapping[str, Mapper] = MAPPINGS,
    ) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._metrics = metrics
        self._consumer = open_consumer(settings)
        self._lookout = Lookout(
            consumer=self._consumer,
            database=database,
            clock=clock,
            settings=settings,
            progress=progress,
            by_code=mappings,
        )
        self._pauses = Pauses(
            consumer=self._consumer,
            database=database,
            clock=clock,
            settings=settings,
            progress=progress,
        )
        self._routes: Mapping[str, Route] = {}
        self._offsets = Offsets(consumer=self._consumer, clock=clock, progress=progress)
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
            await pause(stop, self._settings.poll_timeout)
            return
        if await self._pauses.resume_what_may_go_on():
            self._look_anew()
        try:
            # Never cancelled while the consumer lives: that would switch off its liveness check.
            fetched = await self._consumer.getmany(
                timeout_ms=int(self._settings.poll_timeout * 1000),
                max_records=self._settings.max_poll_records * _BATCHES_OF_A_POLL,
            )
            polled = {each: [as_record(one) for one in found] for each, found in fetched.items()}
        except UNREADABLE as error:
            polled = await self._read_by_hand(error)
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

    def _look_anew(self) -> None:
        """An answer that is under way may be older than what has just happened."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = None
        self._next_look = 0.0

    async def _follow(self, reading: Reading) -> None:
        self._routes = reading.routes
        self._progress.idle = not reading.topics
        self._pauses.stop_sources(reading.stopped)
        self._pauses.rest(reading.resting)
        if reading.topics == frozenset[str](self._consumer.subscription()):
            return
        _log.info("intake.subscribing", topics=sorted(reading.topics))
        await self._offsets.commit(self._settings.request_within)
        if reading.topics:
            self._consumer.subscribe(topics=sorted(reading.topics), listener=self)
        else:
            self._consumer.unsubscribe()
            self._forget()

    async def _read_by_hand(
        self, error: BaseException
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """What the fetch raised over. What it had read of other partitions is lost with it, so all
        of them go back to where they were. Raises ``error`` where it cannot be found.
        """
        polled: dict[TopicPartition, Sequence[Record]] = {}
        found = False
        for partition in sorted(self._consumer.assignment() - self._consumer.paused()):
            async with asyncio.timeout(self._settings.request_within):
                offset = await self._offsets.next_of(partition)
                self._offsets.go_back_to(partition, offset)
                try:
                    records = await read_by_hand(self._settings.connection, partition, offset)
                except UNREADABLE as unreadable:
                    self._pauses.hold(partition, offset, why_unreadable(unreadable))
                    found = True
                    continue
            if any(each.is_misnamed for each in records):
                polled[partition] = records
                self._offsets.go_back_to(partition, records[-1].offset + 1)
            self._progress.moved_at = self._clock.monotonic()
        if not (found or polled):
            raise error
        return polled

    # Taking in

    async def _take_all(
        self, polled: Mapping[TopicPartition, Sequence[Record]], stop: asyncio.Event
    ) -> None:
        generation, room = self._generation, asyncio.Semaphore(_AT_ONCE)

        async def take(partition: TopicPartition, records: Sequence[Record]) -> None:
            async with room:
                await self._take_in_batches(partition, records, generation, stop)

        self._between_batches.clear()
        try:
            # What the next transaction brings is read while the database is about the one before.
            ended = await asyncio.gather(
                *(take(partition, records) for partition, records in polled.items()),
                return_exceptions=True,
            )
        finally:
            self._between_batches.set()
        for each in ended:
            if isinstance(each, BaseException):
                raise each

    async def _take_in_batches(
        self,
        partition: TopicPartition,
        records: Sequence[Record],
        generation: int,
        stop: asyncio.Event,
    ) -> None:
        size = self._settings.max_poll_records
        for start in range(0, len(records), size):
            if self._generation != generation or stop.is_set():
                return  # whoever owns them next reads them again from the committed offset
            if self._pauses.is_database_away:
                self._offsets.go_back_to(partition, records[start].offset)
                return
            if not await self._take(partition, records[start : start + size]):
                return

    async def _take(self, partition: TopicPartition, records: Sequence[Record]) -> bool:
        """Whether all of them are durable; else the partition goes back to the first that is not."""
        route = self._routes.get(partition.topic)
        if route is None:
            self._offsets.go_back_to(partition, records[0].offset)
            self._pauses.hold(partition, records[0].offset, "its source is gone")
            return False
        now, generation = self._clock.now(), self._generation
        for portion in portions([inputs(record, route, now) for record in records]):
            with self._metrics.batches.labels(partition.topic).time():
                stored = await store(
                    self._database,
                    [each for of_record in portion for each in of_record],
                    Fuse(source=route.source, limit=route.fuse),
                )
            whole = whole_records(portion, stored.count)
            if whole:
                self._taken(partition, records[whole - 1], whole)
            if stored.stopped_by is not None:
                self._stopped(partition, route, records[whole].offset, stored.stopped_by)
                return False
            records = records[whole:]
            if self._generation != generation:
                return False  # whoever owns it next reads the rest
        return True

    def _stopped(
        self, partition: TopicPartition, route: Route, stopped_at: int, why: Exception
    ) -> None:
        """What is to be done about a record that could not be taken in, at this offset."""
        self._offsets.go_back_to(partition, stopped_at)
        if isinstance(why, Blown):
            blown = fuses.Fuse(source=route.source, failures=route.fuse, blown_at=self._clock.now())
            self._pauses.stop_sources(self._progress.stopped | {partition.topic: blown})
            self._look_anew()  # which tells since when, and over what
        elif is_unavailable(why):
            self._pauses.database_is_away(why)
        else:
            self._pauses.hold(partition, stopped_at, place_of(why))

    def _taken(self, partition: TopicPartition, last: Record, count: int) -> None:
        self._offsets.note(partition, last.offset)
        self._progress.timestamps[partition] = last.timestamp
        self._progress.taken += count
        self._metrics.events.labels(partition.topic).inc(count)
        self._progress.taken_at = self._clock.now()
        self._progress.moved_at = self._clock.monotonic()
        self._pauses.release(partition)

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
        await self._offsets.commit(self._settings.request_within)
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
        self._pauses.assigned(assigned)
        if self._checking is not None:
            self._checking.cancel()
        self._checking = asyncio.create_task(self._lookout.check_start(assigned))

    def _forget(self) -> None:
        self._offsets.forget()
        self._pauses.forget()
        self._progress.assigned = ()
        self._progress.lag = {}
        self._progress.seconds_behind = {}
        self._progress.timestamps.clear()

    # Committing, measuring, leaving

    async def _commit_now_and_then(self) -> None:
        if self._clock.monotonic() >= self._next_commit:
            self._next_commit = self._clock.monotonic() + self._settings.commit_every
            await self._offsets.commit(self._settings.request_within)

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
        await self._offsets.commit(self._settings.last_commit_within)
        try:
            await asyncio.wait_for(self._consumer.stop(), self._settings.stop_within)
        except (KafkaError, TimeoutError) as error:
            _log.warning("intake.stop_unfinished", error=repr(error))
