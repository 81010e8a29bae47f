"""A mail server for tests: as much of SMTP as one mail needs, with answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def mail_server(
    port: int,
    *,
    rcpt: str = "250 ok",
    after_data: str = "250 taken",
    drips: str | None = None,
    named: list[str] | None = None,
) -> AsyncGenerator[list[str]]:
    """Listens while it is open; gives the mails that it has read. An empty ``after_data`` drops the
    connection once the mail was read.

    ``drips``: after this command the answer never ends, byte by byte; empty: the greeting does not.
    ``named``: takes the addresses that mails are for. At the end every connection must be over.
    """
    taken: list[str] = []
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            serving.add(task)

        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        async def drip() -> None:
            while True:
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.02)

        try:
            if drips == "":
                await drip()
            await say("220 test")
            while line := (await reader.readline()).decode():
                if drips and drips != "DATA" and line.startswith(drips.lower()):
                    await drip()
                match line[:4].upper():
                    case "RCPT":
                        if named is not None:
                            named.append(line.partition("<")[2].rpartition(">")[0])
                        await say(rcpt)
                    case "DATA":
                        await say("354 go on")
                        taken.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                        if drips == "DATA":
                            await drip()
                        if not after_data:
                            return
                        await say(after_data)
                    case _:
                        await say("250 ok")
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        yield taken
    if serving:
        _, left = await asyncio.wait(serving, timeout=5)
        assert not left, "a connection was left open"
