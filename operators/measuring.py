"""Times every request for Prometheus: a thin ASGI layer around the whole application."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics

_DOORS: Final = frozenset({"scim", "events", "console"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """Observes requests by door, method and status class; every label is one of a few words."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

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
            self._metrics.http_requests.labels(door, method, f"{status // 100}xx").observe(took)
