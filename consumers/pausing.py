"""Which partitions are not read for now, and why: the database is away, one of them is held, its
source is stopped, or Auth0 is to catch up first.

Polls go on meanwhile, so that we stay in the group, and nothing is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from consumers.kafka import IntakeSettings, Progress
from service.clock import Clock
from service.directory.database import Database, check
from service.directory.fuses import Fuse

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Hold:
    """Something that waits: until when, and how long it waits this time."""

    until: float
    delay: float


class Pauses:
    """The pauses of one consumer. Notes in ``progress`` what waits."""

    def __init__(
        self,
        *,
        consumer: AIOKafkaConsumer,
        database: Database,
        clock: Clock,
        settings: IntakeSettings,
        progress: Progress,
    ) -> None:
        self._consumer = consumer
        self._database = database
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._held: dict[TopicPartition, _Hold] = {}
        self._away: _Hold | None = None

    @property
    def is_database_away(self) -> bool:
        return self._away is not None

    def database_is_away(self, error: BaseException) -> None:
        """It is tried again after a while, longer each time; of transactions that failed together
        only the first counts.
        """
        if self._away is None or self._clock.monotonic() >= self._away.until:
            self._away = self._longer(self._away, 0.5)
        if self._progress.database_away_since is None:
            _log.warning("intake.database_away", error=type(error).__name__)
            self._progress.database_away_since = self._clock.now()
        self._pause(self._consumer.assignment())

    def hold(self, partition: TopicPartition, offset: int, why: str) -> None:
        """Stops one partition for a while. Perhaps the database is at fault: it is tried again."""
        self._held[partition] = self._longer(self._held.get(partition), 1.0)
        if self._progress.blocked.get(partition) != (offset, why):
            _log.error("intake.blocked", topic=partition.topic, offset=offset, error=why)
        self._progress.blocked[partition] = (offset, why)
        self._pause([partition])

    def release(self, partition: TopicPartition) -> None:
        """It got on."""
        self._held.pop(partition, None)
        self._progress.blocked.pop(partition, None)

    def stop_sources(self, stopped: Mapping[str, Fuse]) -> None:
        """Stops the topics of sources whose fuse has blown, and of no other any more."""
        for topic, fuse in stopped.items():
            if topic not in self._progress.stopped:
                _log.error("intake.source_stopped", topic=topic, source=fuse.source)
        for topic in self._progress.stopped.keys() - stopped.keys():
            _log.info("intake.source_goes_on", topic=topic)
        self._progress.stopped = dict(stopped)
        self._pause(self._stopped())

    def rest(self, topics: Mapping[str, str]) -> None:
        """Lets these topics wait until their Auth0 tenant has caught up, and no other any more."""
        for topic, tenant in topics.items():
            if topic not in self._progress.resting:
                _log.warning("intake.resting", topic=topic, tenant=tenant)
        for topic in self._progress.resting.keys() - topics.keys():
            _log.info("intake.rested", topic=topic)
        self._progress.resting = dict(topics)
        self._pause(self._stopped())

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """A new assignment does not know what was paused."""
        self._pause(partitions if self.is_database_away else self._stopped())

    def forget(self) -> None:
        """What was held belongs to an assignment that is gone."""
        self._held.clear()
        self._progress.blocked.clear()

    async def resume_what_may_go_on(self) -> bool:
        """Whether the database was found to be back just now."""
        now = self._clock.monotonic()
        back = False
        if self._away is not None:
            if now < self._away.until or not await self._database_answers():
                return False
            _log.info("intake.database_back")
            self._away = None
            self._progress.database_away_since = None
            back = True
        waiting = {partition for partition, hold in self._held.items() if now < hold.until}
        resting = self._consumer.paused() - waiting - self._stopped()
        if going_on := resting & self._consumer.assignment():
            self._consumer.resume(*going_on)
        return back

    async def _database_answers(self) -> bool:
        try:
            await asyncio.wait_for(self._database.read(check), self._settings.request_within)
        except Exception as error:  # whatever it is, nothing can be stored now
            self.database_is_away(error)
            return False
        return True

    def _stopped(self) -> set[TopicPartition]:
        assigned = self._consumer.assignment()
        topics = self._progress.stopped.keys() | self._progress.resting.keys()
        return {each for each in assigned if each.topic in topics}

    def _longer(self, earlier: _Hold | None, first: float) -> _Hold:
        delay = min(earlier.delay * 2 if earlier else first, self._settings.longest_backoff)
        return _Hold(self._clock.monotonic() + delay, delay)

    def _pause(self, partitions: Collection[TopicPartition]) -> None:
        if assigned := set(partitions) & self._consumer.assignment():
            self._consumer.pause(*assigned)
