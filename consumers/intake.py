"""Intake of HR events from Kafka: keeps a consumer alive, replaces one that stands still, tells how it is.

Knows nothing of records; ``consumers.session`` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from consumers.ageing import retention_used
from consumers.faults import place_of
from consumers.kafka import IntakeSettings, Progress
from consumers.lookout import Stalled
from consumers.mappings.canonical import MAPPINGS, Mapper
from consumers.session import Session
from service.clock import Clock, pause
from service.directory.database import Database
from service.directory.fuses import Fuse
from service.intake_metrics import IntakeFigures, IntakeMetrics

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFacts:
    """How intake is now. Partitions are written ``topic[partition]``."""

    is_ready: bool
    polled_at: datetime | None
    taken_at: datetime | None
    committed_at: datetime | None
    assigned: tuple[str, ...]
    lag: Mapping[str, int]
    seconds_behind: Mapping[str, float]
    """Age of the oldest record not yet read, where it can be told."""
    taken: int
    restarts: int
    problems: tuple[str, ...]
    """Sentences for people; empty where all is well."""


class Intake:
    """Consumes every topic that a source names, until told to stop."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        settings: IntakeSettings,
        mappings: Mapping[str, Mapper] = MAPPINGS,
        metrics: IntakeMetrics | None = None,
    ) -> None:
        self._database = database
        self._metrics = metrics or IntakeMetrics(CollectorRegistry())
        self._clock = clock
        self._settings = settings
        self._mappings = mappings
        self._progress = Progress(moved_at=clock.monotonic())
        self._restarts = 0
        self._failure: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a consumer polls, and is in the group or has nothing to read."""
        progress = self._progress
        fresh = self._clock.monotonic() - progress.moved_at <= self._settings.stall_after
        reaches = self._failure is None and progress.brokers_away_since is None
        return fresh and reaches and (progress.joined or progress.idle)

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences for people; empty where all is well."""
        return tuple(self._problems())

    @property
    def facts(self) -> IntakeFacts:
        progress = self._progress
        return IntakeFacts(
            is_ready=self.is_ready,
            polled_at=progress.polled_at,
            taken_at=progress.taken_at,
            committed_at=progress.committed_at,
            assigned=tuple(_name(each) for each in progress.assigned),
            lag={_name(each): lag for each, lag in progress.lag.items()},
            seconds_behind={_name(each): age for each, age in progress.seconds_behind.items()},
            taken=progress.taken,
            restarts=self._restarts,
            problems=self.problems,
        )

    def tell_metrics(self) -> None:
        """Brings what Prometheus reads up to date."""
        progress = self._progress
        self._metrics.tell(
            IntakeFigures(
                lag=progress.lag.items(),
                seconds_behind=progress.seconds_behind.items(),
                retention_used=retention_used(progress).items(),
                resting=progress.resting.keys(),
                polled_ago=self._ago(progress.polled_at),
                committed_ago=self._ago(progress.committed_at),
            )
        )

    def _ago(self, instant: datetime | None) -> float | None:
        return (self._clock.now() - instant).total_seconds() if instant else None

    async def run(self, stop: asyncio.Event) -> None:
        """Returns within 10 s of ``stop``. Neither Kafka nor the database being away ends it."""
        delay = 0.5
        while not stop.is_set():
            began, because = self._clock.monotonic(), "ended"
            try:
                await self._one_consumer(stop)
            except Exception as error:
                because = "stalled" if isinstance(error, Stalled | TimeoutError) else "failed"
                self._failure = place_of(error)
                _log.warning("intake.consumer_failed", error=self._failure)
            if stop.is_set():
                return
            self._restarts += 1
            self._metrics.restarts.labels(because).inc()
            lived = self._clock.monotonic() - began
            delay = 0.5 if lived > self._settings.longest_backoff else delay * 2
            delay = min(delay, self._settings.longest_backoff)
            await pause(stop, delay)

    async def _one_consumer(self, stop: asyncio.Event) -> None:
        """Runs a consumer until ``stop``, its failure, or the watchdog's verdict."""
        self._progress = Progress(
            moved_at=self._clock.monotonic(),
            taken=self._progress.taken,
            expired=self._progress.expired,
        )
        session = Session(
            database=self._database,
            clock=self._clock,
            settings=self._settings,
            progress=self._progress,
            mappings=self._mappings,
            metrics=self._metrics,
        )
        consuming = asyncio.create_task(session.run(stop), name="kafka-consumer")
        stopping = asyncio.create_task(stop.wait())
        try:
            await self._watch(consuming, stopping)
            if not consuming.done():
                await asyncio.wait({consuming}, timeout=self._settings.drain_within)
        finally:
            stopping.cancel()
            await self._end(consuming)
        if consuming.done() and not consuming.cancelled():
            consuming.result()

    async def _watch(self, consuming: asyncio.Task[None], stopping: asyncio.Task[bool]) -> None:
        """Returns when there is nothing more to watch. Raises TimeoutError where nothing moves."""
        every = min(1.0, self._settings.stall_after / 4)
        while True:
            done, _ = await asyncio.wait(
                {consuming, stopping}, timeout=every, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            if self._progress.joined or self._progress.idle:
                self._failure = None
            stood = self._clock.monotonic() - self._progress.moved_at
            if stood > self._settings.stall_after:
                raise TimeoutError(f"the consumer has not moved for {stood:.0f} s")

    async def _end(self, consuming: asyncio.Task[None]) -> None:
        """Cancels what still runs. The consumer goes with it, so a cancelled fetch does no harm."""
        if not consuming.done():
            consuming.cancel()
            await asyncio.wait({consuming}, timeout=_longest_end(self._settings))

    def _problems(self) -> list[str]:
        progress = self._progress
        problems = list(progress.sources)
        if self._failure is not None:
            problems.append(f"The consumer failed and is started again ({self._failure}).")
        if progress.brokers_away_since is not None:
            problems.append(f"Kafka does not answer since {progress.brokers_away_since}.")
        if progress.database_away_since is not None:
            problems.append(f"The database is away since {progress.database_away_since}.")
        problems += [stopped_source(fuse, topic) for topic, fuse in progress.stopped.items()]
        problems += [_resting(topic, tenant) for topic, tenant in progress.resting.items()]
        for partition, (offset, why) in progress.blocked.items():
            problems.append(f"{_name(partition)} does not get past offset {offset}: {why}.")
        for partition, used in retention_used(progress).items():
            if used >= self._settings.warn_at_retention:
                problems.append(_nearly_expired(partition, used, progress))
        for partition, (first, after) in progress.expired.items():
            problems.append(
                f"{_name(partition)}: Kafka deleted offsets {first} to {after - 1} before we read"
                " them. Lengthen the topic's retention, and have HR send its current state."
            )
        return problems


def _resting(topic: str, tenant: str) -> str:
    return (
        f"Topic {topic} is not read until the Auth0 tenant {tenant} has caught up: too many events"
        " of it are open. See what holds its accounts up, or raise PROVISIONER_INTAKE_HIGH_WATER."
    )


def _nearly_expired(partition: TopicPartition, used: float, progress: Progress) -> str:
    hours = progress.seconds_behind[partition] / 3600
    return (
        f"{_name(partition)}: Kafka is about to delete events that we have not read. The oldest is"
        f" {hours:.1f} h old, {used:.0%} of the topic's retention.ms: lengthen that now, then mend"
        " what holds intake up."
    )


def stopped_source(fuse: Fuse, topic: str) -> str:
    """A sentence for people on a source whose fuse has blown."""
    code = (fuse.detail or {}).get("code")
    last = f", the last with {code}" if code else ""
    return (
        f"Source {fuse.source} (topic {topic}) is stopped since {fuse.blown_at}: {fuse.failures}"
        f" events failed one after the other{last}. Mend its mapping or what is sent, then:"
        f" provisioner events resume {fuse.source}; then replay what failed."
    )


def _longest_end(settings: IntakeSettings) -> float:
    return settings.last_commit_within + settings.stop_within + 0.5


def _name(partition: tuple[str, int]) -> str:
    return f"{partition[0]}[{partition[1]}]"
