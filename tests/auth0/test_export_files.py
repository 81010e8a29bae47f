"""An export's file is read whole or not at all, however it comes."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from service.auth0.client import Auth0Client
from service.auth0.jobs import Jobs
from service.auth0.pacing import Pacer
from service.clock import SystemClock
from service.organizations import Tenant

ROWS = b'{"user_id":"auth0|1"}\n{"user_id":"auth0|2"}\n'
LINES = ROWS.splitlines()


class _Chunks(httpx.AsyncByteStream):
    def __init__(self, content: bytes, size: int) -> None:
        self._content, self._size = content, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._content), self._size):
            yield self._content[at : at + self._size]


async def _read(content: bytes, size: int = 4096) -> list[bytes]:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=_Chunks(content, size))

    clock = SystemClock()
    client = Auth0Client(
        Tenant(name="main", base_url="https://auth0.example", client_id="c"),
        "secret",
        clock=clock,
        pacer=Pacer("enterprise", clock),
        http=httpx.AsyncClient(transport=httpx.MockTransport(answer)),
    )
    try:
        return [line async for line in Jobs(client).lines("https://files.example/1")]
    finally:
        await client.close()


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.rstrip(),
        b"\xef\xbb\xbf" + ROWS,
        gzip.compress(ROWS),
        gzip.compress(b"\xef\xbb\xbf" + ROWS),
        gzip.compress(LINES[0] + b"\n") + gzip.compress(LINES[1] + b"\n"),
    ],
    ids=["plain", "no last line feed", "byte order mark", "gzip", "gzip with mark", "two members"],
)
async def test_each_row_is_read(content: bytes, size: int) -> None:
    assert await _read(content, size) == LINES


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["plain", "gzip"])
async def test_a_file_without_rows_has_none(content: bytes) -> None:
    assert await _read(content) == []


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(ROWS)[:-9],
        gzip.compress(ROWS) + gzip.compress(ROWS)[:-1],
        b"\x1f\x8b" + b"\0" * 40,
        gzip.compress(ROWS)[:30] + b"\xff" * 20,
    ],
    ids=["cut", "second member cut", "no gzip", "damaged"],
)
async def test_a_file_that_is_not_whole_is_refused(content: bytes) -> None:
    with pytest.raises(httpx.HTTPError):
        await _read(content)


async def test_rows_of_a_thousand_kilobytes_are_read() -> None:
    row = b'{"user_id":"' + b"x" * 1_000_000 + b'"}\n'
    assert await asyncio.wait_for(_read(gzip.compress(row * 3), 64), 5.0) == [row.rstrip()] * 3
