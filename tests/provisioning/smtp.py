"""A mail server for tests: as much of SMTP as one mail needs, with answers as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def mail_server(
    port: int, *, rcpt: str = "250 ok", after_data: str = "250 taken"
) -> AsyncGenerator[list[str]]:
    """Listens while it is open; gives the mails that it has read. An empty ``after_data`` drops the
    connection once the mail was read."""
    taken: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: str) -> None:
            writer.write(f"{line}\r\n".encode())
            await writer.drain()

        try:
            await say("220 test")
            while line := (await reader.readline()).decode():
                match line[:4].upper():
                    case "RCPT":
                        await say(rcpt)
                    case "DATA":
                        await say("354 go on")
                        taken.append((await reader.readuntil(b"\r\n.\r\n")).decode())
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
