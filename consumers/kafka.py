"""How intake consumes from Kafka, what it tells of itself, and the consumer it uses.

Written round the pitfalls of aiokafka 0.14.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from consumers.records import Record
from service.directory.fuses import Fuse
from service.kafka import KafkaConnection

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """How intake consumes. Times in seconds.

    ``group_instance_id``: static membership, for quick rolling restarts; unique to each process.
    ``stall_after`` must exceed ``rebalance_timeout``: while the group rebalances, no poll returns.
    """

    connection: KafkaConnection
    group_id: str = "auth0-provisioner"
    group_instance_id: str | None = None
    max_poll_records: int = 300
    """The most in one transaction: it holds a lock for each, and on SQLite the only writer."""
    poll_timeout: float = 0.25
    commit_every: float = 1.0
    refresh_sources_every: float = 10.0
    measure_lag_every: float = 10.0
    ask_retention_every: float = 600.0
    warn_at_retention: float = 0.8
    """From which share of a topic's retention on the age of an unread record is a problem."""
    high_water: int = 200_000
    """Open events of an Auth0 tenant from which on its topics rest; 0: never."""
    session_timeout: float = 45.0
    heartbeat_every: float = 5.0
    rebalance_timeout: float = 60.0
    stall_after: float = 90.0
    request_within: float = 5.0
    """For one commit, look-up or probe."""
    start_within: float = 15.0
    drain_within: float = 4.0
    last_commit_within: float = 2.0
    stop_within: float = 3.0
    """With the two before it: how long an end may take."""
    longest_backoff: float = 30.0


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a consumer tells of itself while it lives. Instants by the clock, ages by ``monotonic``."""

    moved_at: float
    """``monotonic`` of the last turn of the loop."""
    polled_at: datetime | None = None
    taken_at: datetime | None = None
    committed_at: datetime | None = None
    joined: bool = False
    idle: bool = False
    """Nothing to read: no source names a topic that exists."""
    assigned: tuple[TopicPartition, ...] = ()
    lag: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    timestamps: dict[TopicPartition, int] = field(default_factory=dict[TopicPartition, int])
    """Milliseconds since 1970 of the record taken last, else of the first that is to be read."""
    seconds_behind: dict[TopicPartition, float] = field(default_factory=dict[TopicPartition, float])
    """Age of the oldest unread record, where it can be told; at most, as the one before it tells."""
    retention: dict[str, float | None] = field(default_factory=dict[str, float | None])
    """Seconds for which a topic keeps records; None: for ever, or it cannot be told."""
    taken: int = 0
    brokers_away_since: datetime | None = None
    database_away_since: datetime | None = None
    sources: list[str] = field(default_factory=list[str])
    """What is wrong with the configured sources."""
    blocked: dict[TopicPartition, tuple[int, str]] = field(
        default_factory=dict[TopicPartition, tuple[int, str]]
    )
    """Partitions that do not get on: at which offset, and why."""
    stopped: dict[str, Fuse] = field(default_factory=dict[str, Fuse])
    """Fuses of stopped sources, by the topic that is therefore not read."""
    resting: dict[str, str] = field(default_factory=dict[str, str])
    """Auth0 tenants that are to catch up first, by the topic that waits for it."""
    expired: dict[TopicPartition, tuple[int, int]] = field(
        default_factory=dict[TopicPartition, tuple[int, int]]
    )
    """Offsets, from and up to, that Kafka deleted before we read them."""


def open_consumer(settings: IntakeSettings) -> AIOKafkaConsumer:
    """A consumer that is not started yet, and subscribes to nothing yet."""
    arguments: dict[str, Any] = settings.connection.arguments() | {
        "group_id": settings.group_id,
        "group_instance_id": settings.group_instance_id,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        # One only: with several, aiokafka joins with a partial list. This one keeps no state
        # (sticky shares some between consumers), and spreads topics of one partition each.
        "partition_assignment_strategy": (RoundRobinPartitionAssignor,),
        "max_partition_fetch_bytes": 256 * 1024,  # a poll is to reach several partitions
        "session_timeout_ms": int(settings.session_timeout * 1000),
        "heartbeat_interval_ms": int(settings.heartbeat_every * 1000),
        "rebalance_timeout_ms": int(settings.rebalance_timeout * 1000),
        "request_timeout_ms": 20_000,
    }
    make: Callable[..., AIOKafkaConsumer] = AIOKafkaConsumer
    return make(**arguments)


async def stop_consumer(consumer: AIOKafkaConsumer, within: float) -> None:
    """Leaves the group and stops, each as far as the brokers answer in time; closes its connections.

    A ``stop`` that is cut short has closed none, and its fetcher would open them anew. aiokafka has
    no public name for what is left to do.
    """
    try:
        await asyncio.wait_for(consumer.stop(), within)
    except (KafkaError, TimeoutError) as error:
        _log.warning("intake.stop_unfinished", error=repr(error))
        inner: Any = consumer
        try:
            if (coordinator := inner._coordinator) is not None:
                coordinator._coordination_task.cancel()
                await asyncio.wait({coordinator._coordination_task})
                await coordinator._stop_heartbeat_task()
                await coordinator._stop_commit_offsets_refresh_task()
            if (fetcher := inner._fetcher) is not None:
                await fetcher.close()
        finally:
            await inner._client.close()


def as_record(consumed: Any) -> Record:
    return Record(
        topic=consumed.topic,
        partition=consumed.partition,
        offset=consumed.offset,
        timestamp=consumed.timestamp,
        key=consumed.key,
        value=consumed.value,
        headers=consumed.headers,
    )
