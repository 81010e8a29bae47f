"""How old the oldest record is that is not taken in yet, and for how long its topic keeps records.

What Kafka deletes before it is read is lost for good, so this is told while there is time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from consumers.byhand import UNREADABLE, read_by_hand
from consumers.kafka import IntakeSettings, Progress
from service.clock import Clock
from service.kafka_start import started

_log = structlog.stdlib.get_logger(__name__)
_UNLIMITED: Final = -1
_AT_ONCE: Final = 4
"""Partitions whose first unread record is looked at in one measurement."""


class Ageing:
    """Asks the brokers now and then, each time within ``request_within``; notes it in ``progress``."""

    def __init__(self, *, clock: Clock, settings: IntakeSettings, progress: Progress) -> None:
        self._clock = clock
        self._settings = settings
        self._progress = progress
        self._next_retention = 0.0

    async def measure(
        self, positions: Mapping[TopicPartition, int], lag: Mapping[TopicPartition, int]
    ) -> None:
        """``positions``: offsets to be read next. What cannot be told now is left as it was."""
        behind = [each for each in sorted(positions) if lag[each] > 0]
        await self._ask_retention({each.topic for each in positions})
        known = self._progress.timestamps
        untold = [each for each in behind if each not in known]
        for each in untold[:_AT_ONCE]:
            timestamp = await self._timestamp_at(each, positions[each])
            if timestamp is not None:
                known.setdefault(each, timestamp)
        now = self._clock.now().timestamp()
        self._progress.seconds_behind = {each: 0.0 for each in positions if lag[each] == 0} | {
            each: max(0.0, now - known[each] / 1000) for each in behind if each in known
        }

    async def _ask_retention(self, topics: Set[str]) -> None:
        now = self._clock.monotonic()
        if now < self._next_retention and topics <= self._progress.retention.keys():
            return
        self._next_retention = now + self._settings.ask_retention_every
        try:
            async with asyncio.timeout(self._settings.request_within):
                self._progress.retention = await self._retention(topics)
        except (KafkaError, OSError, TimeoutError) as error:
            _log.warning("intake.retention_unknown", error=repr(error))

    async def _retention(self, topics: Set[str]) -> dict[str, float | None]:
        """Seconds by topic; None where records are kept for ever, or we may not know."""
        admin = AIOKafkaAdminClient(**self._settings.connection.arguments())
        try:
            await started(admin.start())
            asked = [ConfigResource(ConfigResourceType.TOPIC, each) for each in sorted(topics)]
            answers: list[Any] = await admin.describe_configs(asked)
        finally:
            await admin.close()
        found: dict[str, float | None] = dict.fromkeys(topics)
        for answer in answers:
            for code, _, _, topic, entries in answer.resources:
                configured = {} if code else {entry[0]: entry[1] for entry in entries}
                found[topic] = _seconds(configured)
        return found

    async def _timestamp_at(self, partition: TopicPartition, offset: int) -> int | None:
        try:
            async with asyncio.timeout(self._settings.request_within):
                records = await read_by_hand(self._settings.connection, partition, offset, enough=1)
        except (*UNREADABLE, KafkaError, OSError, TimeoutError) as error:
            _log.warning("intake.age_unknown", topic=partition.topic, error=repr(error))
            return None
        return records[0].timestamp if records else None


def _seconds(configured: Mapping[str, str | None]) -> float | None:
    milliseconds = int(configured.get("retention.ms") or _UNLIMITED)
    if "delete" not in (configured.get("cleanup.policy") or "") or milliseconds == _UNLIMITED:
        return None
    return milliseconds / 1000


def retention_used(progress: Progress) -> dict[TopicPartition, float]:
    """Of each partition the age of its oldest unread record, as a share of what its topic allows."""
    return {
        each: seconds / allowed
        for each, seconds in progress.seconds_behind.items()
        if (allowed := progress.retention.get(each.topic))
    }
