"""One consumer's life: join, poll, take in, commit, leave.

Which consumer follows a dead one is the affair of ``consumers.intake``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from consumers.byhand import UNREADABLE, read_by_hand, why_unreadable
from consumers.inhand import InHand
from consumers.kafka import (
    IntakeSettings,
    Progress,
    as_record,
    open_consumer,
    stop_consumer,
)
from consumers.lookout import Lookout, Reading
from consumers.mappings.canonical import MAPPINGS, Mapper
from consumers.offsets import Offsets
from consumers.pausing import Pauses
from consumers.records import Record
from service.clock import Clock, pause
from service.directory.database import Database
from service.intake_metrics import IntakeMetrics
from service.kafka_start import started

_log = structlog.stdlib.get_logger(__name__)

_BATCHES_OF_A_POLL: Final = 4
_LOOK_AGAIN: Final = 0.02
"""Seconds after which free partitions are polled again while others are being stored."""


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
        self._offsets = Offsets(consumer=self._consumer, clock=clock, progress=progress)
        self._in_hand = InHand(
            database=database,
            clock=clock,
            settings=settings,
            progress=progress,
            metrics=metrics,
            offsets=self._offsets,
            pauses=self._pauses,
            source_stopped=self._look_anew,
        )
        self._next_look = self._next_commit = self._next_measure = 0.0
        self._looking: asyncio.Task[Reading | None] | None = None
        self._measuring: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Consumes until ``stop``. Raises KafkaError, TimeoutError or Stalled: then start another."""
        try:
            starting = started(self._consumer.start())
            await asyncio.wait_for(starting, self._settings.start_within)
            while not stop.is_set():
                await self._turn(stop)
            await self._in_hand.all_ended()
        finally:
            await self._leave()

    async def _turn(self, stop: asyncio.Event) -> None:
        await self._look_now_and_then()
        self._measure_now_and_then()
        self._moves()
        if not self._consumer.subscription():
            await pause(stop, self._settings.poll_timeout)
            return
        if await self._pauses.resume_what_may_go_on():
            self._look_anew()
        polled = {} if self._in_hand.is_full else await self._poll()
        self._in_hand.take(polled, stop)
        # Where something was polled there may be more; what is in hand has a turn in between.
        await self._in_hand.one_ended(0 if polled else self._rest())
        await self._commit_now_and_then()

    def _moves(self) -> None:
        """Notes that the loop turns, and since when the oldest transaction is under way."""
        now, since = self._clock.monotonic(), self._in_hand.since
        self._progress.moved_at = now if since is None else min(now, since)

    def _rest(self) -> float:
        return self._settings.poll_timeout if self._in_hand.is_full else _LOOK_AGAIN

    async def _poll(self) -> Mapping[TopicPartition, Sequence[Record]]:
        """A few batches, of partitions that are not in hand."""
        busy = set(self._in_hand.partitions)
        free = self._consumer.assignment() - busy
        if busy and not free:
            return {}
        try:
            # Never cancelled while the consumer lives: that would switch off its liveness check.
            # Those in hand are left out rather than paused, which drops what was fetched of them.
            fetched = await self._consumer.getmany(
                *(free if busy else ()),
                timeout_ms=0 if busy else int(self._settings.poll_timeout * 1000),
                max_records=self._settings.max_poll_records * _BATCHES_OF_A_POLL,
            )
            polled = {each: [as_record(one) for one in found] for each, found in fetched.items()}
        except UNREADABLE as error:
            polled = await self._read_by_hand(error, busy)
        self._moves()
        self._progress.polled_at = self._clock.now()
        return polled

    # What to read

    async def _look_now_and_then(self) -> None:
        now = self._clock.monotonic()
        if self._looking is None and now >= self._next_look:
            self._looking = asyncio.create_task(self._lookout.what_to_read())
        if self._looking is None or not self._looking.done():
            return
        reading = self._looking.result()
        self._looking = None
        known = bool(self._in_hand.routes) or self._progress.idle
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
        self._in_hand.routes = reading.routes
        self._progress.idle = not reading.topics
        self._pauses.stop_sources(reading.stopped)
        self._pauses.rest(reading.resting)
        if reading.topics == frozenset[str](self._consumer.subscription()):
            return
        _log.info("intake.subscribing", topics=sorted(reading.topics))
        await self._let_go()
        if reading.topics:
            self._consumer.subscribe(topics=sorted(reading.topics), listener=self)
        else:
            self._consumer.unsubscribe()

    async def _read_by_hand(
        self, error: BaseException, busy: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, Sequence[Record]]:
        """What the fetch raised over. What it had read of other partitions is lost with it, so all
        of them go back to where they were, save for those in hand (``busy``), which it was not asked
        for. Raises ``error`` where it cannot be found.
        """
        polled: dict[TopicPartition, Sequence[Record]] = {}
        found = False
        asked = self._consumer.assignment() - self._consumer.paused()
        for partition in sorted(asked.difference(busy)):
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

    # Rebalances. aiokafka swallows what these raise, so they raise nothing that matters.

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride] - awaited
        self, revoked: Collection[TopicPartition]
    ) -> None:
        """Lets the transactions under way end, commits, forgets. Perhaps they are lost already."""
        if not await self._let_go():
            _log.warning("intake.revoked_in_transaction", partitions=len(revoked))

    async def _let_go(self) -> bool:
        """Of all partitions, as a rebalance takes them all. Whether all transactions have ended."""
        ended = await self._in_hand.let_go(self._settings.drain_within)
        await self._offsets.commit(self._settings.request_within)
        self._forget()
        return ended

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride] - awaited
        self, assigned: Collection[TopicPartition]
    ) -> None:
        """A new assignment knows neither our positions nor what was paused."""
        self._in_hand.disown()
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
        await self._in_hand.abandon()
        await self._offsets.commit(self._settings.last_commit_within)
        await stop_consumer(self._consumer, self._settings.stop_within)
