"""How far a consumer group is behind, asked from outside it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from service.kafka import KafkaConnection

_WITHIN: Final = 10.0
"""Seconds for asking the brokers."""


async def lags_of(
    connection: KafkaConnection, group_id: str, topics: Collection[str]
) -> dict[str, int]:
    """Records behind the committed offsets of a group, by topic; without those that cannot be told."""
    make = cast("type[Any]", AIOKafkaConsumer)
    try:
        async with asyncio.timeout(_WITHIN):
            async with make(
                **connection.arguments(), group_id=group_id, enable_auto_commit=False
            ) as consumer:
                existing = await consumer.topics()
                return {
                    topic: await _lag(consumer, topic) for topic in sorted(set(topics) & existing)
                }
    except (KafkaError, OSError, TimeoutError):
        return {}


async def _lag(consumer: Any, topic: str) -> int:
    partitions = [TopicPartition(topic, each) for each in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    first = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    behind = 0
    for each in partitions:
        committed = await consumer.committed(each)
        behind += ends[each] - (first[each] if committed is None else max(committed, first[each]))
    return behind
