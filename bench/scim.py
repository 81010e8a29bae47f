"""SCIM on SQLite, durable, beside bare Starlette: create, get, ``userName eq``, PATCH."""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.load import Measured, Request, load
from tests.infrastructure.processes import RunningProcess, free_ports, provisioner, start

CONNECTIONS, SECONDS = 32, 4.0
JSON: Mapping[str, str] = {"Content-Type": "application/scim+json"}


def user(name: str) -> dict[str, Any]:
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": f"{name}@hoekstra.example",
        "externalId": name,
        "name": {"givenName": "Ada", "familyName": "Byron", "formatted": "Ada Byron"},
        "displayName": "Ada Byron",
        "emails": [{"value": f"{name}@hoekstra.example", "type": "work", "primary": True}],
        "title": "Analyst",
        "active": False,  # nothing to do in Auth0: the door is measured, not the lanes
    }


async def run() -> list[Measured]:
    """All measurements, one after the other; processes are started and ended here."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        dev = start(
            provisioner(
                "dev",
                "--port",
                "0",
                "--simulator-port",
                "0",
                "--no-sample",
                "--data-dir",
                where / "data",
            ),
            name="dev",
            directory=where,
        )
        port = free_ports(1)[0]
        bare = start(
            [sys.executable, "-m", "bench.bare", str(port), where / "bare.db"],
            name="bare",
            directory=where,
        )
        try:
            return [*await _ours(dev), *await _bare(f"http://127.0.0.1:{port}")]
        finally:
            dev.stop()
            bare.stop()


async def _ours(dev: RunningProcess) -> list[Measured]:
    there = dev.ready_line()["organizations"]["hoekstra"]
    base, headers = there["scim"], {"Authorization": f"Bearer {there['token']}", **JSON}
    run_id = secrets.token_hex(3)
    ids: list[str] = []

    async def create(session: aiohttp.ClientSession, number: int) -> int:
        body = orjson.dumps(user(f"{run_id}-{number}"))
        async with session.post(f"{base}/Users", data=body, headers=headers) as answer:
            ids.append((await answer.json(content_type=None))["id"])
            return answer.status

    async def get(session: aiohttp.ClientSession, number: int) -> int:
        async with session.get(f"{base}/Users/{ids[number % len(ids)]}", headers=headers) as answer:
            await answer.read()
            return answer.status

    async def find(session: aiohttp.ClientSession, number: int) -> int:
        name = f"{run_id}-{1 + number % len(ids)}@hoekstra.example"
        query = {"filter": f'userName eq "{name}"'}
        async with session.get(f"{base}/Users", params=query, headers=headers) as answer:
            await answer.read()
            return answer.status

    async def patch(session: aiohttp.ClientSession, number: int) -> int:
        operation = {"op": "replace", "path": "title", "value": f"Analyst {number}"}
        body = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [operation],
        }
        url = f"{base}/Users/{ids[number % len(ids)]}"
        async with session.patch(url, data=orjson.dumps(body), headers=headers) as answer:
            await answer.read()
            return answer.status

    asked = (("create", create), ("get", get), ("userName eq", find), ("PATCH", patch))
    return [
        await load(f"scim {name}", request, connections=CONNECTIONS, seconds=SECONDS)
        for name, request in asked
    ]


async def _bare(base: str) -> list[Measured]:
    body = orjson.dumps(user("bare"))

    def post(path: str) -> Request:
        async def request(session: aiohttp.ClientSession, _: int) -> int:
            async with session.post(f"{base}{path}", data=body, headers=JSON) as answer:
                await answer.read()
                return answer.status

        return request

    async def get(session: aiohttp.ClientSession, _: int) -> int:
        async with session.get(f"{base}/get") as answer:
            await answer.read()
            return answer.status

    await _answers(f"{base}/get")
    asked = (("parse and answer", post("/echo")), ("durable write", post("/store")), ("get", get))
    return [
        await load(f"bare Starlette, {name}", request, connections=CONNECTIONS, seconds=SECONDS)
        for name, request in asked
    ]


async def _answers(url: str) -> None:
    deadline = time.monotonic() + 20
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
    raise TimeoutError(f"{url} does not answer")
