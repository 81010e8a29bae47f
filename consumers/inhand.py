"""What a consumer has polled and is not durable yet: of each partition one batch at a time, several
partitions side by side, while the consumer polls others.

Knows neither when to poll nor when to commit; ``consumers.session`` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

from consumers.faults import place_of
from consumers.kafka import IntakeSettings, Progress
from consumers.offsets import Offsets
from consumers.pausing import Pauses
from consumers.records import Record, Route, inputs
from consumers.storing import Fuse, portions, store, whole_records
from service.clock import Clock
from service.directory import fuses
from service.directory.database import Database, is_unavailable
from service.directory.fuses import Blown
from service.intake_metrics import IntakeMetrics

AT_ONCE: Final = 4
"""Partitions whose transactions run side by side."""


@dataclass(slots=True, eq=False)
class _Hold:
    """A partition's records in hand. ``since``: when the transaction that is under way began."""

    since: float | None = None
    goes_on: bool = True
    """Whether it may begin another transaction."""
    is_ours: bool = True
    """Whether what becomes of it counts: not where another member may have the partition by now."""
    storing: asyncio.Task[None] = field(init=False)


class InHand:
    """The records in hand of one consumer."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        settings: IntakeSettings,
        progress: Progress,
        metrics: IntakeMetrics,
        offsets: Offsets,
        pauses: Pauses,
        source_stopped: Callable[[], None],
    ) -> None:
        """``source_stopped``: called where the fuse of a source blows."""
        self._database = database
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._metrics = metrics
        self._offsets = offsets
        self._pauses = pauses
        self._source_stopped = source_stopped
        self._holds: dict[TopicPartition, _Hold] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._failure: BaseException | None = None
        self.routes: Mapping[str, Route] = {}

    @property
    def partitions(self) -> Collection[TopicPartition]:
        """Those that are not to be polled: what follows would overtake what is in hand."""
        return self._holds.keys()

    @property
    def is_full(self) -> bool:
        return len(self._holds) >= AT_ONCE

    @property
    def since(self) -> float | None:
        """``monotonic`` of the start of the oldest transaction under way."""
        began = [hold.since for hold in self._holds.values() if hold.since is not None]
        return min(began, default=None)

    def take(self, polled: Mapping[TopicPartition, Sequence[Record]], stop: asyncio.Event) -> None:
        """Begins with these records, of partitions of which none are in hand. After ``stop`` no
        transaction begins.
        """
        for partition, records in polled.items():
            hold = self._holds[partition] = _Hold()
            hold.storing = asyncio.create_task(self._store(hold, partition, records, stop))
            hold.storing.add_done_callback(lambda done, it=partition: self._ended(it, done))

    def _ended(self, partition: TopicPartition, storing: asyncio.Task[None]) -> None:
        del self._holds[partition]
        if not storing.cancelled():
            self._failure = storing.exception() or self._failure

    async def one_ended(self, within: float) -> None:
        """Until a partition is free again, or the time is up; at once where something has failed.

        Raises a fault of ours; those of records and of the database are dealt with.
        """
        storing = [hold.storing for hold in self._holds.values()]
        if storing and self._failure is None:
            await asyncio.wait(storing, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if self._failure is not None:
            raise self._failure

    async def all_ended(self) -> None:
        """Raises as ``one_ended``."""
        while self._holds:
            await self.one_ended(self._settings.poll_timeout)
        await self.one_ended(0)

    async def let_go(self, within: float) -> bool:
        """Lets the transactions under way end and begins no other. Whether all have ended: what has
        not counts no more.
        """
        holds = list(self._holds.values())
        for hold in holds:
            hold.goes_on = False
        if holds:
            await asyncio.wait([hold.storing for hold in holds], timeout=within)
        self.disown()
        return not self._holds

    def disown(self) -> None:
        """What is in hand counts no more: its partitions may be those of another member."""
        for hold in self._holds.values():
            hold.goes_on = hold.is_ours = False

    async def abandon(self) -> None:
        """Waits for nothing more. A transaction that is under way may still be committed, without its
        offsets: whoever reads them again finds it done.
        """
        self.disown()
        storing = [hold.storing for hold in self._holds.values()]
        for each in storing:
            each.cancel()
        await asyncio.gather(*storing, return_exceptions=True)

    async def _store(
        self,
        hold: _Hold,
        partition: TopicPartition,
        records: Sequence[Record],
        stop: asyncio.Event,
    ) -> None:
        size = self._settings.max_poll_records
        for start in range(0, len(records), size):
            async with self._room:
                if not hold.goes_on or stop.is_set():
                    return  # whoever owns them next reads them again from the committed offset
                if self._pauses.is_database_away:
                    self._offsets.go_back_to(partition, records[start].offset)
                    return
                batch = records[start : start + size]
                if not await self._store_batch(hold, partition, batch, stop):
                    return

    async def _store_batch(
        self,
        hold: _Hold,
        partition: TopicPartition,
        records: Sequence[Record],
        stop: asyncio.Event,
    ) -> bool:
        """Whether all of them are durable; else the partition goes back to the first that is not."""
        route = self.routes.get(partition.topic)
        if route is None:
            self._offsets.go_back_to(partition, records[0].offset)
            self._pauses.hold(partition, records[0].offset, "its source is gone")
            return False
        now = self._clock.now()
        for portion in portions([inputs(record, route, now) for record in records]):
            if not hold.goes_on or stop.is_set():
                return False  # whoever owns it next reads the rest
            hold.since = self._clock.monotonic()
            with self._metrics.batches.labels(partition.topic).time():
                stored = await store(
                    self._database,
                    [each for of_record in portion for each in of_record],
                    Fuse(source=route.source, limit=route.fuse),
                )
            hold.since = None
            whole = whole_records(portion, stored.count)
            if whole:
                self._taken(hold, partition, records[whole - 1], whole)
            if stored.stopped_by is not None:
                self._stopped(hold, partition, route, records[whole].offset, stored.stopped_by)
                return False
            records = records[whole:]
        return True

    def _taken(self, hold: _Hold, partition: TopicPartition, last: Record, count: int) -> None:
        self._progress.taken += count
        self._metrics.events.labels(partition.topic).inc(count)
        self._progress.taken_at = self._clock.now()
        if hold.is_ours:
            self._offsets.note(partition, last.offset)
            self._progress.timestamps[partition] = last.timestamp
            self._pauses.release(partition)

    def _stopped(
        self,
        hold: _Hold,
        partition: TopicPartition,
        route: Route,
        stopped_at: int,
        why: Exception,
    ) -> None:
        """What is to be done about a record that could not be taken in, at this offset."""
        if hold.is_ours:
            self._offsets.go_back_to(partition, stopped_at)
        if isinstance(why, Blown):
            blown = fuses.Fuse(source=route.source, failures=route.fuse, blown_at=self._clock.now())
            self._pauses.stop_sources(self._progress.stopped | {partition.topic: blown})
            self._source_stopped()  # a look tells since when, and over what
        elif is_unavailable(why):
            self._pauses.database_is_away(why)
        elif hold.is_ours:
            self._pauses.hold(partition, stopped_at, place_of(why))
