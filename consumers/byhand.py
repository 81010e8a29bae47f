"""Reads records that aiokafka cannot: it decodes header names inside its fetch, and raises for the whole.

One fetch of one partition, decoded here, so that such a record ends as a dead letter with its bytes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, KafkaError, UnsupportedCodecError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import (
    _DefaultRecordBatchPy,  # pyright: ignore[reportPrivateUsage]
    _DefaultRecordPy,  # pyright: ignore[reportPrivateUsage]
)
from aiokafka.record.memory_records import _MemoryRecordsPy  # pyright: ignore[reportPrivateUsage]
from aiokafka.record.util import decode_varint
from cramjam import DecompressionError

from consumers.kafka import as_record
from consumers.records import Record
from service.kafka import KafkaConnection
from service.kafka_start import started

UNREADABLE: Final = (
    *(UnicodeDecodeError, CorruptRecordException),
    *(UnsupportedCodecError, DecompressionError),
)
"""What a fetch raises over what a partition holds, and would raise again for ever."""
_ENOUGH: Final = 1024 * 1024
"""Bytes of one fetch, as of aiokafka's own."""
_MAX_WAIT_MS: Final = 500
_ABORTED_SINCE: Final = 11
"""Version of the answer since which the aborted transactions are not next to the records."""


async def read_by_hand(
    connection: KafkaConnection, partition: TopicPartition, offset: int, *, enough: int = _ENOUGH
) -> list[Record]:
    """What the partition holds from ``offset`` on, as far as one fetch goes; aborted transactions
    left out. ``enough``: bytes; a batch always comes whole. What is not UTF-8 in a header's name is written ``\\xe9``.

    Raises KafkaError, OSError; CorruptRecordException, UnsupportedCodecError and DecompressionError
    say that the partition holds what nobody can read. Bounded by nothing but the brokers: give it a timeout.
    """
    client = AIOKafkaClient(**connection.arguments())
    try:
        await started(client.bootstrap())
        await client.set_topics([partition.topic])
        answer = await _fetch(client, partition, offset, enough)
    finally:
        await client.close()
    (_, ((_, code, _, *rest),)) = answer.topics[0]
    if code:
        raise for_code(code)(str(partition))
    aborted = rest[2] if answer.API_VERSION >= _ABORTED_SINCE else rest[-2]
    found = PartitionRecords(
        partition, _Batches(rest[-1]), aborted, offset, None, None, True, READ_COMMITTED
    )
    return [_record(each) for each in found]


def why_unreadable(error: BaseException) -> str:
    """What an operator must do about a partition that nobody can read."""
    if isinstance(error, UnsupportedCodecError):
        return (
            "its records are compressed in a way that nobody here can read: have the producer use"
            " gzip, snappy, lz4 or zstd"
        )
    return (
        "a batch of records is damaged: restore it on the broker, or move the group's offset behind"
        " it (kafka-consumer-groups --reset-offsets) and have its events sent anew"
    )


async def _fetch(
    client: AIOKafkaClient, partition: TopicPartition, offset: int, enough: int
) -> Any:
    leader = client.cluster.leader_for_partition(partition)
    if leader is None or leader < 0:
        raise KafkaError(f"{partition} has no leader")
    if not await client.ready(leader):
        raise KafkaError(f"the leader of {partition} does not answer")
    wanted = [(partition.topic, [(partition.partition, offset, enough)])]
    request = FetchRequest(_MAX_WAIT_MS, 1, enough, READ_COMMITTED, wanted)
    return await client.send(leader, request)


class _Name(str):
    """A header's name that is not UTF-8, written so that it can be kept."""

    __slots__ = ()


class _Batches(_MemoryRecordsPy):  # pyright: ignore[reportGeneralTypeIssues] - final for typing
    """A record set whose batches are read here; those of before 2017 have no headers."""

    def next_batch(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._next_slice
        if data is None or data[self.MAGIC_OFFSET] < 2:
            return super().next_batch()
        self._cache_next()
        return _Batch(data)


class _Batch(_DefaultRecordBatchPy):  # pyright: ignore[reportGeneralTypeIssues] - final for typing
    """KIP-82's record: attributes, timestamp, offset, key, value, headers, all by varints."""

    def _read_msg(self, decode_varint: Any = decode_varint) -> _DefaultRecordPy:
        buffer, at = self._buffer, self._pos

        def number() -> int:
            nonlocal at
            value, at = decode_varint(buffer, at)
            return value

        def text() -> bytes | None:
            nonlocal at
            length = number()
            if length < 0:
                return None
            at += length
            return bytes(buffer[at - length : at])

        end = number() + at
        at += 1  # attributes: one byte, none in use
        elapsed = number()
        offset = self.base_offset + number()
        key, value = text(), text()
        headers = [(_name(text()), text()) for _ in range(number())]
        if at != end:
            raise CorruptRecordException("a record is not as long as it says")
        self._pos = at
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if appended else self.first_timestamp + elapsed
        return _DefaultRecordPy(offset, timestamp, self.timestamp_type, key, value, headers)


def _name(name: bytes | None) -> str:
    if name is None:
        raise CorruptRecordException("a header has no name")
    try:
        return name.decode()
    except UnicodeDecodeError:
        return _Name(name.decode(errors="backslashreplace"))


def _record(consumed: Any) -> Record:
    return replace(
        as_record(consumed),
        headers=[(str(name), value) for name, value in consumed.headers],
        is_misnamed=any(isinstance(name, _Name) for name, _ in consumed.headers),
    )
