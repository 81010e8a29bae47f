"""A start that is cancelled, as every timeout does, leaves no connection to the brokers behind."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from service.kafka_start import started

_VERSIONS, _METADATA = 18, 3


class Silent:
    """A broker that says which requests it knows, and answers none of the others."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Whether somebody wants to know which brokers there are."""
        self.left = asyncio.Event()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(4):
            request = await reader.readexactly(*struct.unpack(">i", size))
            key, _, correlation = struct.unpack(">hhi", request[:8])
            if key == _METADATA:
                self.asked.set()
                continue
            known = struct.pack(">ihihhh", correlation, 0, 1, _METADATA, 0, 1)
            writer.write(struct.pack(">i", len(known)) + known)
        self.left.set()
        writer.close()


@pytest.fixture
async def silent() -> Silent:
    return Silent()


@pytest.fixture
async def address(silent: Silent) -> AsyncIterator[str]:
    server = await asyncio.start_server(silent.accept, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


CLIENTS: dict[str, tuple[Callable[..., Any], str]] = {
    "admin": (AIOKafkaAdminClient, "close"),
    "client": (AIOKafkaClient, "close"),
    "consumer": (AIOKafkaConsumer, "stop"),
    "producer": (AIOKafkaProducer, "stop"),
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_connection_is_closed_when_a_start_is_cancelled_before_its_brokers_are_known(
    silent: Silent, address: str, kind: str
) -> None:
    make, end = CLIENTS[kind]
    client = make(bootstrap_servers=address)
    start: Callable[[], Awaitable[Any]] = getattr(
        client, "start" if kind != "client" else "bootstrap"
    )
    starting = asyncio.create_task(started(start()))
    async with asyncio.timeout(30):
        await silent.asked.wait()
        starting.cancel()
        held = (await asyncio.gather(starting, return_exceptions=True))[0]
        await silent.left.wait()  # while its error is held, and with it all that it refers to
    assert isinstance(held, asyncio.CancelledError)
    await getattr(client, end)()


async def test_what_a_start_raises_is_raised() -> None:
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:9")
    with pytest.raises(KafkaConnectionError):
        await started(client.bootstrap())
    await client.close()
