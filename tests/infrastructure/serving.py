"""An application under uvicorn in a test's own event loop, which ends when it is asked to.

uvicorn itself looks ten times a second whether it should, and then waits for another tenth.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

_LOOK = 0.005
"""Seconds between two looks whether the last request has been answered."""
_TICK = 0.1


class Server(uvicorn.Server):
    """``grace``: seconds that requests under way may take once it is to end; None waits for them."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        lifespan: Literal["auto", "on", "off"] = "auto",
        grace: int | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                lifespan=lifespan,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=grace,
            )
        )
        self._asked = asyncio.Event()

    def end(self) -> None:
        self.should_exit = True
        self._asked.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def main_loop(self) -> None:
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel()
        await self.lifespan.shutdown()


@asynccontextmanager
async def served(
    application: ASGIApp,
    *,
    lifespan: Literal["auto", "on", "off"] = "auto",
    grace: int | None = None,
) -> AsyncGenerator[str]:
    """``http://127.0.0.1:port`` of the application, until it is left."""
    server = Server(application, lifespan=lifespan, grace=grace)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells no event
            await asyncio.sleep(_LOOK)
        if serving.done():
            await serving  # raises what went wrong
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.end()
            await serving
