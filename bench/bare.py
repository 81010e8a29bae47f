"""What our server is measured beside: Starlette handlers that know no SCIM.

Without a file they parse and answer only: the ceiling. With one they also write what they got, as
durably as we do and no more, in a transaction that waiting requests share (WAL, ``synchronous=FULL``):
the body as the resource, and as the event that brought it; or, into a directory of ours, the rows that
we write (``same_rows``).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench import people, same_rows
from bench.same_rows import Statements
from service.ids import new_id

Store = Callable[[Statements], Awaitable[None]]

_MOST_TOGETHER: Final = 64
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS resources (id TEXT PRIMARY KEY, user_name TEXT UNIQUE, body BLOB);
CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, resource TEXT, body BLOB);
"""
_INSERT: Final = "INSERT INTO resources VALUES (?, ?, ?)"
_UPDATE: Final = "UPDATE resources SET body = ? WHERE id = ?"
_EVENT: Final = "INSERT INTO events (resource, body) VALUES (?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is written of a request: by the id, what was sent, and the answer. ``tables``: what makes
    those that are not there.
    """

    tables: str = ""
    created: Callable[[str, dict[str, Any], bytes, bytes], Statements]
    patched: Callable[[str, bytes, bytes], Statements]


def _created(made: str, document: dict[str, Any], body: bytes, answer: bytes) -> Statements:
    return [(_INSERT, (made, document["userName"], answer)), (_EVENT, (made, body))]


def _patched(made: str, body: bytes, answer: bytes) -> Statements:
    return [(_UPDATE, (answer, made)), (_EVENT, (made, body))]


TWO_ROWS: Final = Written(tables=_TABLES, created=_created, patched=_patched)
OUR_ROWS: Final = Written(created=same_rows.created, patched=same_rows.patched)


class Writer:
    """A thread that commits what waits, together; a statement's failure takes the batch with it."""

    def __init__(self, file: Path, tables: str) -> None:
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "cache_size=-65536",
            "foreign_keys=ON",
            "wal_autocheckpoint=16000",  # as ours has it
        ):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(tables)
        self._waiting: queue.SimpleQueue[tuple[Statements, Callable[[], object]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, daemon=True).start()

    async def store(self, statements: Statements) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._waiting.put((statements, lambda: loop.call_soon_threadsafe(done.set_result, None)))
        await done

    def _run(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _MOST_TOGETHER and not self._waiting.empty():
                batch.append(self._waiting.get())
            self._database.execute("BEGIN IMMEDIATE")
            for statements, _ in batch:
                for statement, values in statements:
                    self._database.execute(statement, values)
            self._database.execute("COMMIT")
            for _, done in batch:
                done()


async def _nothing(_: Statements) -> None:
    """Keeps nothing."""


def application(store: Store, written: Written) -> Starlette:
    """The paths and verbs of SCIM's users, with one and the same user behind all of them."""
    known = {**people.request_body(1), "id": people.user_id(1), "meta": {"resourceType": "User"}}

    async def create(request: Request) -> Response:
        body = await request.body()
        document = orjson.loads(body)
        made = new_id(datetime.now(UTC))
        answer = orjson.dumps({**document, "id": made, "meta": {"resourceType": "User"}})
        await store(written.created(made, document, body, answer))
        return _json(answer, 201)

    async def get(request: Request) -> Response:
        return _json(orjson.dumps({**known, "id": request.path_params["id"]}))

    async def find(request: Request) -> Response:
        name = request.query_params["filter"].split('"')[1]
        found = {"totalResults": 1, "Resources": [{**known, "userName": name}]}
        return _json(orjson.dumps(found))

    async def patch(request: Request) -> Response:
        body = await request.body()
        made = request.path_params["id"]
        title = orjson.loads(body)["Operations"][0]["value"]
        answer = orjson.dumps({**known, "id": made, "title": title})
        await store(written.patched(made, body, answer))
        return _json(answer)

    return Starlette(
        routes=[
            Route("/Users", create, methods=["POST"]),
            Route("/Users", find, methods=["GET"]),
            Route("/Users/{id}", get, methods=["GET"]),
            Route("/Users/{id}", patch, methods=["PATCH"]),
        ]
    )


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/scim+json")


def main(port: int, file: Path | None, written: Written) -> None:
    uvicorn.run(
        application(Writer(file, written.tables).store if file is not None else _nothing, written),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
    )


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
        OUR_ROWS if "--our-rows" in sys.argv else TWO_ROWS,
    )
