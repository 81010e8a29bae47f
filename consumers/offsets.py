"""How far each partition is durable in our database, and how far that is committed to Kafka."""

from __future__ import annotations

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from consumers.kafka import Progress
from service.clock import Clock

_log = structlog.stdlib.get_logger(__name__)


class Offsets:
    """The offsets of one consumer, for as long as an assignment lasts."""

    def __init__(self, *, consumer: AIOKafkaConsumer, clock: Clock, progress: Progress) -> None:
        self._consumer = consumer
        self._clock = clock
        self._progress = progress
        self._done: dict[TopicPartition, int] = {}
        """Next offset of each partition: everything before it is durable."""
        self._committed: dict[TopicPartition, int] = {}

    def note(self, partition: TopicPartition, last: int) -> None:
        """Everything up to this offset is durable."""
        self._done[partition] = last + 1

    def forget(self) -> None:
        self._done.clear()
        self._committed.clear()

    def go_back_to(self, partition: TopicPartition, offset: int) -> None:
        if partition in self._consumer.assignment():
            self._consumer.seek(partition, offset)

    async def next_of(self, partition: TopicPartition) -> int:
        """Where reading goes on, whatever was fetched. Raises KafkaError."""
        if (durable := self._done.get(partition)) is not None:
            return durable
        committed = await self._consumer.committed(partition)
        first = (await self._consumer.beginning_offsets([partition]))[partition]
        return max(committed or 0, first)

    async def commit(self, within: float) -> None:
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
