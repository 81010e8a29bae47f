"""The idempotent producer of outcomes: started, asked, and stopped within bounds.

Knows aiokafka's ways; not what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from service.kafka import KafkaConnection

_log = structlog.stdlib.get_logger(__name__)
LARGEST: Final = 4 * 1024 * 1024
"""Bytes of the largest record that is sent: an input of 1 MiB, its headers, and room."""


def open_producer(connection: KafkaConnection, *, request_within: float) -> AIOKafkaProducer:
    """A producer that is not started yet. Per partition it keeps the order of what it is given."""
    make: Callable[..., AIOKafkaProducer] = AIOKafkaProducer
    return make(
        **connection.arguments(),
        enable_idempotence=True,
        acks="all",
        linger_ms=5,
        max_batch_size=256 * 1024,
        max_request_size=LARGEST,
        request_timeout_ms=int(request_within * 1000),
    )


async def missing_topics(producer: AIOKafkaProducer, topics: Sequence[str]) -> list[str]:
    """Those that do not exist. Asks for all topics, since asking for one by name may create it."""
    cluster: Any = await producer.client.fetch_all_metadata()
    return sorted(set(topics) - set(cluster.topics()))


async def stop_producer(producer: AIOKafkaProducer, within: float) -> None:
    """Stops it for good, sent or not. Whatever is unsent is still in our database.

    An idempotent producer repeats its requests for ever, and its own ``stop`` waits for them: so
    they are failed first. aiokafka has no public name for that.
    """
    unsent = KafkaTimeoutError("the producer is stopped")
    producer._message_accumulator.fail_all(unsent)  # pyright: ignore[reportPrivateUsage]
    try:
        await asyncio.wait_for(producer.stop(), within)
    except (KafkaError, TimeoutError) as error:
        _log.warning("publisher.stop_unfinished", error=repr(error))
        await producer.client.close()
