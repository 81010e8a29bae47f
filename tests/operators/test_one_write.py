"""How answers leave the server: head and body together, and neither waits for what is not there yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from operators.process import Server, listen


@asynccontextmanager
async def served(application: ASGIApp) -> AsyncGenerator[int]:
    """The port of an application, until the block ends."""
    listening = listen("127.0.0.1", 0)
    server = Server(application, grace=1)
    serving = asyncio.create_task(server.serve([listening]))
    await server.until_started(serving)
    yield listening.getsockname()[1]
    server.should_exit = True
    await serving


def head(status: int, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """The path, as a body; nothing for ``/nothing``."""
    body = scope["path"].encode()
    if body == b"/nothing":
        await send(head(204))
        await send({"type": "http.response.body"})
        return
    await send(head(200, (b"content-length", str(len(body)).encode())))
    await send({"type": "http.response.body", "body": body})


def asking(path: str, *lines: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *lines, "", "")).encode()


async def test_an_answer_comes_in_one_piece_each_time() -> None:
    async with served(answers) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for path in ("/first", "/second"):
            writer.write(asking(path))
            piece = await reader.read(65_536)
            assert piece.startswith(b"HTTP/1.1 200")
            assert piece.endswith(b"\r\n\r\n" + path.encode())
        writer.close()


async def test_an_answer_without_body_waits_for_none() -> None:
    async with served(answers) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for asked in (asking("/nothing"), asking("/first", method="HEAD")):
            writer.write(asked)
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 20")
        writer.close()


async def test_of_requests_sent_at_once_every_answer_comes_in_order() -> None:
    async with served(answers) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        paths = [f"/{number}" for number in range(20)]
        writer.write(b"".join(asking(path) for path in paths))
        writer.write(asking("/last", "Connection: close"))
        async with asyncio.timeout(5):
            whole = await reader.read()
        bodies = [part.partition(b"\r\n\r\n")[2].decode() for part in whole.split(b"HTTP/1.1 ")[1:]]
        assert bodies == [*paths, "/last"]
        writer.close()


async def test_a_head_is_sent_where_its_body_is_not_there_yet() -> None:
    seen = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send(head(200, (b"content-length", b"4")))
        await seen.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async with served(slow) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asking("/", "Connection: close"))
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            seen.set()
            assert await reader.read() == b"late"
        writer.close()


async def test_a_long_body_comes_whole_to_who_reads_slowly() -> None:
    body = bytes(range(256)) * 20_000

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await send(head(200, (b"content-length", str(len(body)).encode())))
        for at in range(0, len(body), 70_000):
            more = at + 70_000 < len(body)
            part = body[at : at + 70_000]
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async with served(long) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(asking("/", "Connection: close"))
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.1)
        assert await reader.read() == body
        writer.close()
