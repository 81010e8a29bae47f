"""Times every request for Prometheus: a thin ASGI layer around the whole application."""

from __future__ import annotations

import time
from typing import Final

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics

_DOORS: Final = frozenset({"scim", "events", "console"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """Observes requests by door, method and status class; every label is one of a few words."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._known: dict[tuple[str, str, str], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500  # what the server answers where nobody else does

        async def notice(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        first = scope["path"].lstrip("/").partition("/")[0]
        door = first if first in _DOORS else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        try:
            await self._app(scope, receive, notice)
        finally:
            took = time.perf_counter() - began
            self._observe(door, method, f"{status // 100}xx", took)

    def _observe(self, door: str, method: str, status: str, took: float) -> None:
        labels = (door, method, status)
        known = self._known.get(labels)
        if known is None:  # finding a child by its labels costs more than observing
            known = self._known[labels] = self._metrics.http_requests.labels(*labels)
        known.observe(took)
