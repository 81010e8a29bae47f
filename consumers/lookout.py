"""What a consumer asks of the database and the brokers beside its loop: what to read, and how far it is.

Beside, since a broker answers such questions only after the fetch that waits on the same connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from consumers.admission import must_wait
from consumers.ageing import Ageing
from consumers.backlog import full_tenants, resting_topics
from consumers.kafka import IntakeSettings, Progress
from consumers.mappings.canonical import Mapper
from consumers.records import Route, routes
from service.clock import Clock
from service.directory import depths, fuses, mappings, organizations
from service.directory.database import Database, Transaction
from service.directory.depths import Backlog
from service.directory.fuses import Fuse
from service.directory.mappings import Declared
from service.organizations import EventSource

_log = structlog.stdlib.get_logger(__name__)


class Stalled(Exception):
    """There are records to read and none arrives: this consumer is to be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is to be read: the routes of all sources, those of their topics that exist, and of these
    the ones whose source is stopped.
    """

    routes: Mapping[str, Route]
    topics: frozenset[str]
    stopped: Mapping[str, Fuse]
    resting: Mapping[str, str]
    """Topics that wait until an Auth0 tenant has caught up, with its name."""


class Lookout:
    """Asks, each time within ``request_within``, and notes in ``progress`` what it finds."""

    def __init__(
        self,
        *,
        consumer: AIOKafkaConsumer,
        database: Database,
        clock: Clock,
        settings: IntakeSettings,
        progress: Progress,
        by_code: Mapping[str, Mapper],
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._mappings = by_code
        self._ageing = Ageing(clock=clock, settings=settings, progress=progress)
        self._moving: dict[TopicPartition, tuple[int, float]] = {}

    async def what_to_read(self) -> Reading | None:
        """None where database or brokers do not answer: then what was read before goes on.

        Only topics that exist are subscribed to: asking for one that is missing may create it.
        """
        try:
            async with asyncio.timeout(self._settings.request_within):
                sources, declared, blown, backlog = await self._database.read(
                    lambda tx: _sources(tx, self._settings.high_water)
                )
        except Exception as error:
            if not (must_wait(error) or isinstance(error, TimeoutError)):
                raise
            _log.warning("intake.sources_unknown", error=type(error).__name__)
            return None
        full = full_tenants(backlog, self._settings.high_water)
        wanted, problems = routes(sources, self._mappings, declared)
        try:
            async with asyncio.timeout(self._settings.request_within):
                existing: set[str] = await self._consumer.topics()
        except (KafkaError, TimeoutError) as error:
            _log.warning("intake.brokers_away", error=repr(error))
            if self._progress.brokers_away_since is None:
                self._progress.brokers_away_since = self._clock.now()
            return None  # the consumer finds its way back by itself
        self._progress.brokers_away_since = None
        missing = sorted(set(wanted) - existing)
        problems += [f"Topic {topic} does not exist, or we may not see it." for topic in missing]
        if problems != self._progress.sources:
            _log.warning("intake.sources", problems=problems)
        self._progress.sources = problems
        return Reading(
            routes=wanted,
            topics=frozenset(wanted) & existing,
            stopped={
                topic: blown[route.source]
                for topic, route in wanted.items()
                if route.source in blown
            },
            resting=resting_topics(wanted, backlog.tenant_of, full),
        )

    async def check_start(self, assigned: Collection[TopicPartition]) -> None:
        """Raises the alarm where Kafka has deleted records that we never read."""
        try:
            async with asyncio.timeout(self._settings.request_within):
                committed = {each: await self._consumer.committed(each) for each in assigned}
                earliest = await self._consumer.beginning_offsets(list(assigned))
        except (KafkaError, TimeoutError) as error:
            _log.warning("intake.start_unchecked", error=repr(error))
            return
        for partition, offset in committed.items():
            if offset is not None and offset < earliest[partition]:
                self._progress.expired[partition] = (offset, earliest[partition])
                _log.error(
                    "intake.data_expired",
                    topic=partition.topic,
                    partition=partition.partition,
                    from_offset=offset,
                    to_offset=earliest[partition],
                )

    async def measure(self) -> None:
        """Asks the brokers how far behind we are; our own fetches may be what is broken.

        Raises Stalled where a partition has records to read and has not moved for too long.
        """
        try:
            async with asyncio.timeout(self._settings.request_within):
                ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
                positions = {each: await self._consumer.position(each) for each in ends}
        except (KafkaError, TimeoutError) as error:
            _log.warning("intake.lag_unknown", error=repr(error))
            return
        now, paused = self._clock.monotonic(), self._consumer.paused()
        lag = {each: max(0, end - positions[each]) for each, end in ends.items()}
        self._progress.lag = lag
        for partition, position in positions.items():
            earlier = self._moving.get(partition)
            waits = earlier is not None and earlier[0] == position and lag[partition] > 0
            if earlier is None or not waits or partition in paused:
                self._moving[partition] = (position, now)
            elif now - earlier[1] > self._settings.stall_after:
                raise Stalled(f"{partition} stands at {position}")
        await self._ageing.measure(positions, lag)


def _sources(
    transaction: Transaction, high_water: int
) -> tuple[list[EventSource], dict[str, Declared], dict[str, Fuse], Backlog]:
    return (
        organizations.sources(transaction),
        mappings.every(transaction),
        fuses.blown(transaction),
        depths.backlog(transaction, high_water),
    )
