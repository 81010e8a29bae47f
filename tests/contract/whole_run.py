"""Holds every call that a test run made to a simulator, and every answer, against Auth0's document
and auth0-python's models. The calls were written down by ``service.auth0.simulator.exchanges``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
import orjson

from service.auth0.simulator.exchanges import Exchange, ExchangeLog
from tests.contract.document import LOCATION, Document
from tests.contract.sdk_models import Models

FOLDER: Final = "SIMULATOR_EXCHANGES"
"""The variable that names the folder, to this process and to those that it starts."""


def exchange_log() -> ExchangeLog | None:
    """For a simulator in this process; None outside a test run."""
    folder = os.environ.get(FOLDER)
    return ExchangeLog(Path(folder)) if folder else None


def problems_in(folder: Path) -> tuple[int, list[str]]:
    """How many exchanges were looked at, and what is wrong with them, each once."""
    looked_at, found = 0, dict[str, None]()
    for exchange in _exchanges(folder):
        looked_at += 1
        found |= dict.fromkeys(_problems(exchange))
    return looked_at, list(found)


def _exchanges(folder: Path) -> Iterator[Exchange]:
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):  # a process that was killed may leave half a line
                yield Exchange(**orjson.loads(line))


def _problems(exchange: Exchange) -> list[str]:
    name = f"{exchange.method} {exchange.template} {exchange.status}"
    found: list[str] = []
    if exchange.status < 300 and exchange.response is not None:
        models = Models.of_sdk()
        found += models.problems(exchange.method, exchange.template, exchange.response)
    if LOCATION.exists():
        document = Document.load()
        found += document.problems(*_on_the_wire(exchange))
    return [f"{name}: {problem}" for problem in found]


def _on_the_wire(exchange: Exchange) -> tuple[httpx.Request, httpx.Response]:
    query = f"?{urlencode(exchange.query)}" if exchange.query else ""
    is_json = exchange.request is not None
    request = httpx.Request(
        exchange.method,
        f"http://auth0.invalid/api/v2{exchange.path}{query}",
        headers={"content-type": "application/json"} if is_json else {},
        content=orjson.dumps(exchange.request) if is_json else b"",
    )
    content = b"" if exchange.response is None else orjson.dumps(exchange.response)
    return request, httpx.Response(exchange.status, content=content)
