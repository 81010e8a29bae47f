"""What our server is measured beside: a Starlette handler that only parses and answers, and one
that also writes the body durably to SQLite, one commit a request."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import uuid
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def application(file: Path) -> Starlette:
    database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        database.execute(f"PRAGMA {pragma}")
    database.execute("CREATE TABLE IF NOT EXISTS bodies (id TEXT PRIMARY KEY, body BLOB)")
    one_at_a_time = asyncio.Lock()

    def write(body: bytes) -> None:
        database.execute("INSERT INTO bodies VALUES (?, ?)", (str(uuid.uuid4()), body))

    async def echo(request: Request) -> Response:
        return _json(orjson.loads(await request.body()))

    async def store(request: Request) -> Response:
        body = await request.body()
        async with one_at_a_time:
            await asyncio.to_thread(write, body)
        return _json(orjson.loads(body))

    return Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/store", store, methods=["POST"]),
            Route("/get", lambda _: _json({"id": "x", "userName": "a@x.example"})),
        ]
    )


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(application(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="error")
