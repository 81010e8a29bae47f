"""Liveness, readiness and metrics. Ready means: the database answers and intake makes progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from service.clock import Clock
from service.directory import depths
from service.directory.database import Database, check
from service.metrics import CONTENT_TYPE, Metrics


class Progress(Protocol):
    """A worker that knows whether it gets on."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def problems(self) -> Sequence[str]:
        """Sentences for people; it may be ready all the same."""
        ...

    def tell_metrics(self) -> None:
        """Brings what Prometheus reads up to date."""
        ...


class Health:
    """What the three pages need to know."""

    def __init__(
        self, *, database: Database, clock: Clock, metrics: Metrics, intake: Progress | None
    ) -> None:
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._intake = intake

    async def live(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        checks = {"database": await self._database_answers()}
        if self._intake is not None:
            checks["intake"] = self._intake.is_ready
        status = 200 if all(checks.values()) else 503
        problems = list(self._intake.problems) if self._intake is not None else []
        told = {"ready": status == 200, "checks": checks, "problems": problems}
        return JSONResponse(told, status_code=status)

    async def metrics(self, _: Request) -> Response:
        now = self._clock.now()
        if self._intake is not None:
            self._intake.tell_metrics()
        measured = await self._database.read(lambda tx: depths.measure(tx, now))
        return Response(self._metrics.render(measured), media_type=CONTENT_TYPE)

    async def _database_answers(self) -> bool:
        try:
            await self._database.read(check)
        except Exception:
            return False  # whatever the reason: nothing can be accepted now
        return True


def health_routes(health: Health) -> list[BaseRoute]:
    return [
        Route("/healthz", health.live),
        Route("/readyz", health.ready),
        Route("/metrics", health.metrics),
    ]
