"""Records that aiokafka's producer refuses to send: made by hand, sent as they are."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaClient, TopicPartition
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import (
    _DefaultRecordBatchBuilderPy,  # pyright: ignore[reportPrivateUsage]
)
from aiokafka.record.util import calc_crc32c

_HEADER = 61
"""Bytes before the records of a batch; attributes and all that the checksum covers start at 21."""
_SNAPPY = 2
_NO_ERROR = 0
_NOT_READY = (3, 6)
"""UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER: a new topic is known before its leader knows."""


class Named(str):
    """A header's name that is sent as other bytes."""

    __slots__ = ("sent",)

    def __new__(cls, sent: bytes) -> Named:
        made = super().__new__(cls, sent.decode(errors="replace"))
        made.sent = sent  # pyright: ignore[reportAttributeAccessIssue]
        return made

    def encode(self, *_: Any, **__: Any) -> bytes:
        return self.sent  # pyright: ignore[reportAttributeAccessIssue]


def batch(
    *records: tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]],
    timestamp: int = 1_790_000_000_000,
) -> bytes:
    """A batch of records: key, value and headers of each. ``timestamp``: milliseconds since 1970."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1024 * 1024)
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, timestamp, key, value, list(headers))
    return bytes(builder.build())


def snappy(plain: bytes) -> bytes:
    """The same batch, said to be compressed by snappy: of one literal in the framing that Java uses."""
    records = plain[_HEADER:]
    literal = bytes([61 << 2]) + struct.pack("<H", len(records) - 1) + records
    block = _varint(len(records)) + literal
    framed = b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, len(block)) + block
    head = bytearray(plain[:_HEADER])
    struct.pack_into(">i", head, 8, _HEADER - 12 + len(framed))
    struct.pack_into(">h", head, 21, _SNAPPY)
    covered = bytes(head[21:]) + framed
    struct.pack_into(">I", head, 17, calc_crc32c(covered))
    return bytes(head) + framed


async def send_raw(bootstrap_servers: str, topic: str, partition: int, data: bytes) -> int:
    """Sends a batch as it is; the offset of its first record."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    try:
        await client.bootstrap()
        await client.set_topics([topic])
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        assert leader is not None
        assert await client.ready(leader)
        request = ProduceRequest(None, -1, 5000, [(topic, [(partition, data)])])
        answer, code, offset = None, _NOT_READY[0], -1
        for _ in range(500):
            answer = await client.send(leader, request)
            _, ((_, code, offset, *_),) = answer.topics[0]
            if code not in _NOT_READY:
                break
            await asyncio.sleep(0.02)
    finally:
        await client.close()
    assert code == _NO_ERROR, answer
    return offset


def _varint(number: int) -> bytes:
    told = bytearray()
    while number > 0x7F:
        told.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes([*told, number])
