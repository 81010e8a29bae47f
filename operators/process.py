"""A process from its start to its end: the socket, the HTTP server and the workers beside it.

Knows nothing of what they do: operators.composition makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Literal

import structlog
import uvicorn
from starlette.types import ASGIApp

from consumers.faults import place_of
from operators.one_write import OneWriteProtocol
from service.directory.database import Database
from service.errors import ConfigurationError

log = structlog.get_logger(__name__)

Worker = Callable[[asyncio.Event], Awaitable[None]]
"""Works until the event is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a process is made of: an HTTP application, and workers that run beside it."""

    application: ASGIApp
    workers: dict[str, Worker]
    database: Database
    endings: tuple[Callable[[], Awaitable[None]], ...] = ()
    """What is left to do when requests and workers have ended; each is done within a second."""


async def run(
    parts: Parts,
    listening: socket.socket,
    *,
    ready: Callable[[], Awaitable[None] | None],
    beside: Worker | None = None,
) -> int:
    """Serves and works until a signal, or until ``beside`` returns; then ends within 15 s.

    A worker that dies ends the process with status 1: its supervisor starts it anew.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(parts.application)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    await server.until_started(serving)
    tasks = {
        name: asyncio.create_task(_call(worker, stop), name=name)
        for name, worker in parts.workers.items()
    }
    announced = ready()
    if announced is not None:
        await announced
    if beside is not None:
        tasks["beside"] = asyncio.create_task(_call(beside, stop), name="beside")
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait(
        {*tasks.values(), serving, stopping}, return_when=asyncio.FIRST_COMPLETED
    )
    status = 0 if stopping in done or tasks.get("beside") in done else 1
    stop.set()
    server.should_exit = True
    status = await _end({**tasks, "http": serving}) or status
    for ending in parts.endings:
        await ending()
    return status


async def _end(tasks: dict[str, asyncio.Task[None]]) -> int:
    """Waits for the workers to end; 1 where one has failed or does not end in time."""
    await asyncio.wait(tasks.values(), timeout=14.0)
    status = 0
    for name, task in tasks.items():
        if not task.done():
            log.error("process.worker_hangs", worker=name)
            task.cancel()
            status = 1
        elif (error := task.exception()) is not None:
            log.error("process.worker_failed", worker=name, error=place_of(error))
            status = 1
    return status


class Server(uvicorn.Server):
    """uvicorn without its own signal handling, since the process decides when it ends."""

    def __init__(
        self, application: ASGIApp, lifespan: Literal["on", "off"] = "off", *, grace: int = 5
    ) -> None:
        """``grace``: seconds that requests under way may take once the server stops."""
        super().__init__(
            uvicorn.Config(
                application,
                http=OneWriteProtocol,
                lifespan=lifespan,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=grace,
                timeout_keep_alive=65,  # Okta keeps sockets for 60 s
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also ends what began: uvicorn leaves the lifespan of an application open where it was asked
        to end while it started, and writes a traceback when the loop closes.
        """
        await super().startup(sockets=sockets)
        if self.started and self.should_exit:
            await self.shutdown(sockets=sockets)

    async def until_started(self, serving: asyncio.Task[None]) -> None:
        while not self.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells no event
            await asyncio.sleep(0.01)
        if serving.done():
            await serving  # raises what went wrong


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 picks a free one. Raises ConfigurationError where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    listening.set_inheritable(True)
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _call(worker: Worker, stop: asyncio.Event) -> None:
    await worker(stop)
