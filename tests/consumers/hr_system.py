"""An HR system for the tests: answers on loopback what a test puts there, and notes who asked how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.enrichment import Enrichment


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in. Names of headers in lower case."""

    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What it answers to a path."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(kw_only=True)
class HrSystem:
    """``workers``: the documents it has, by path. ``failures``: answered first, one for each request.
    ``hangs``: paths that it never answers. ``denied``: paths that it shows to nobody.
    """

    url: str
    workers: dict[str, Any] = field(default_factory=dict[str, Any])
    failures: list[Answered] = field(default_factory=list[Answered])
    hangs: set[str] = field(default_factory=set[str])
    denied: set[str] = field(default_factory=set[str])
    asked: list[Asked] = field(default_factory=list[Asked])
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0

    def enrichment(self, **changes: Any) -> Enrichment:
        settings: dict[str, Any] = {"url": self.url + "/workers/{worker_id}", "rate": 1000}
        return Enrichment(**settings | changes)

    async def answer(self, path: str) -> Answered:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.answers.wait()
            if path in self.hangs:
                await asyncio.sleep(3600)
        finally:
            self.at_once -= 1
        if self.failures:
            return self.failures.pop(0)
        if path in self.denied:
            return Answered(status=403)
        document = self.workers.get(path)
        if document is None:
            return Answered(status=404)
        return Answered(body=document if isinstance(document, bytes) else orjson.dumps(document))


@asynccontextmanager
async def listening() -> AsyncGenerator[HrSystem]:
    """An HR system that answers until it is left."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            method, path, _ = request[0].split(" ")
            pairs = [line.split(": ", 1) for line in request[1:] if line]
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            system.asked.append(Asked(path, headers, method, body))
            answered = await system.answer(path)
            lines = [
                f"HTTP/1.1 {answered.status} X",
                f"Content-Length: {len(answered.body)}",
                "Connection: close",
                *(f"{name}: {value}" for name, value in answered.headers),
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode() + answered.body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # nobody waits for it any more
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    system = HrSystem(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    system.answers.set()
    try:
        yield system
    finally:
        system.answers.set()
        server.close()
        await server.wait_closed()
