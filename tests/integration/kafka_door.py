"""A door in front of the broker that can be shut, for clients of this process."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal

import pytest
from aiokafka.structs import BrokerMetadata


class Door:
    """Lets through, refuses, or holds what comes; shutting it cuts what is open."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self.state: Literal["open", "shut", "silent"] = "open"
        self.refused = 0
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def shut(self) -> None:
        """Cuts every connection and refuses new ones."""
        self.state = "shut"
        for writer in list(self._open):
            writer.close()

    def fall_silent(self) -> None:
        """Keeps connections, and lets nothing through any more."""
        self.state = "silent"

    def open(self) -> None:
        """As before; what was held is lost, so connections from before are cut."""
        for writer in list(self._open):
            writer.close()
        self.state = "open"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.state == "shut":
            self.refused += 1
            writer.close()
            return
        host, _, port = self._target.partition(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        self._open |= {writer, inner_writer}
        try:
            await asyncio.gather(self._pipe(reader, inner_writer), self._pipe(inner_reader, writer))
        finally:
            self._open -= {writer, inner_writer}

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if self.state != "silent":
                    writer.write(chunk)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def door_to(bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Door]:
    """A door that clients of this process do not get round: brokers are known by its address."""
    door = Door(bootstrap_servers)
    server = await asyncio.start_server(door.accept, "127.0.0.1", 0)
    door.port = server.sockets[0].getsockname()[1]

    def behind_the_door(node: int, host: str, port: int, rack: Any) -> BrokerMetadata:
        return BrokerMetadata(node, "127.0.0.1", door.port, rack)

    with monkeypatch.context() as patched:
        patched.setattr("aiokafka.cluster.BrokerMetadata", behind_the_door)
        yield door
    server.close()
    door.shut()
