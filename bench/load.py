"""A bounded load in a process of its own: so many connections, each asking again when it has an answer.

``python -m bench.load`` reads a Job as JSON from standard input; its last line on standard output is
what it measured. It knows SCIM's requests and no server's ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeVar, cast

import httptools
import orjson
import uvloop

from bench import people, usage
from bench.measured import measured

Operation = Literal["create", "get", "userName eq", "PATCH"]
_SAID_EVERY: Final = 0.2
_MOST_FAILURES: Final = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One operation against one server.

    With ``count`` exactly so many requests are made and the ids in the answers are told: that is
    how a server is filled. Else the load lasts ``seconds`` after ``warm_up``; where a server is so
    slow that there are fewer answers than connections by then, ``grace`` seconds longer.
    """

    operation: Operation
    port: int
    path: str
    token: str
    connections: int = 32
    seconds: float = 4.0
    warm_up: float = 0.5
    grace: float = 15.0
    count: int | None = None
    first: int = 0
    """The number of the first user to create."""
    ids: list[str] = field(default_factory=list[str])
    """Whom get and PATCH ask for; a connection keeps to those of its own."""
    names: list[str] = field(default_factory=list[str])
    server: int | None = None
    """The server's process, whose processor time is measured."""
    database: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a job came to. Processor time in microseconds a request; None where it is not known.

    ``busy``: the share of one core that the load itself took; ``others``: that processes took that
    have no part in this. ``ids``: of those created by count.
    """

    requests: int
    per_second: float
    p50: float
    p99: float
    failures: int
    server_cpu: float | None
    database_cpu: float | None
    busy: float
    others: float | None
    ids: list[str]


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self.number = number
        self.began = 0.0
        self.asked = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)

    def on_body(self, body: bytes) -> None:
        if self._load.keeps_ids:
            self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        body, self._body = bytes(self._body), bytearray()
        if self._load.answered(self, status, body):
            self._ask()

    def _ask(self) -> None:
        request = self._load.request(self)
        if request is not None and self._transport is not None:
            self.began = time.perf_counter()
            self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Runs a job to its end."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._head = (
            f" HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nAuthorization: Bearer {job.token}\r\n"
            "Accept: application/scim+json\r\n"
        )
        self._requests = _requests(job)
        self._made = 0
        self._took: list[float] = []
        self._failures = 0
        self._ids: list[str] = []
        self._open: list[Connection] = []
        self._measuring = job.count is not None
        self._over = asyncio.Event()
        self.keeps_ids = job.count is not None

    async def run(self) -> Told:
        """Raises RuntimeError where the server fails over and over."""
        job = self._job
        loop = asyncio.get_running_loop()
        for number in range(job.connections):
            await self._connect(number)
        if job.count is None:
            await asyncio.sleep(job.warm_up)
        self._measuring = True
        before = self._cpu()
        began, own = time.perf_counter(), time.process_time()
        telling = loop.create_task(self._tell(began))
        await self._until_over(began)
        self._measuring = False
        elapsed = time.perf_counter() - began
        busy = (time.process_time() - own) / elapsed
        after = self._cpu()
        telling.cancel()
        self._over.set()
        for connection in self._open:
            connection.close()
        if self._failures > (_MOST_FAILURES if job.count is None else 0):
            raise RuntimeError(f"{self._failures} requests failed")
        seen = measured(
            job.operation, self._took, elapsed=elapsed, failures=self._failures
        ).as_row()
        del seen["name"]
        used = [
            now - then if then is not None and now is not None else None
            for then, now in zip(before, after, strict=True)
        ]
        server, database, machine = used
        others = None
        if machine is not None:
            others = max(0.0, (machine - (server or 0) - (database or 0)) / elapsed - busy)
        return Told(
            **seen,
            server_cpu=_per_request(server, len(self._took)),
            database_cpu=_per_request(database, len(self._took)),
            busy=round(busy, 2),
            others=round(others, 2) if others is not None else None,
            ids=self._ids,
        )

    async def _until_over(self, began: float) -> None:
        job = self._job
        deadline = began + job.seconds
        while not self._over.is_set():
            before = len(self._took)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), deadline - time.perf_counter())
            if job.count is None:
                if len(self._took) >= job.connections or deadline > began + job.seconds:
                    return
                deadline += job.grace
            elif len(self._took) > before:
                deadline = time.perf_counter() + job.grace
            elif not self._over.is_set():
                raise RuntimeError(f"no answer for {job.grace} s")

    def request(self, connection: Connection) -> bytes | None:
        """The next request of a connection; None where there is no more to ask."""
        job = self._job
        if self._over.is_set() or (job.count is not None and self._made >= job.count):
            return None
        number = job.first + self._made
        self._made += 1
        method, target, body = self._requests(connection, number)
        connection.asked += 1
        head = f"{method} {job.path}{target}{self._head}"
        if body is None:
            return f"{head}\r\n".encode()
        length = f"Content-Type: application/scim+json\r\nContent-Length: {len(body)}\r\n\r\n"
        return f"{head}{length}".encode() + body

    def answered(self, connection: Connection, status: int, body: bytes) -> bool:
        """Counts an answer; whether the connection goes on."""
        if self._measuring:
            self._took.append(time.perf_counter() - connection.began)
            if not 200 <= status < 300:
                self._failed()
            elif self.keeps_ids:
                self._ids.append(orjson.loads(body)["id"])
            if len(self._took) == self._job.count:
                self._over.set()
        return not self._over.is_set()

    def lost(self, connection: Connection) -> None:
        if self._over.is_set():
            return
        self._failed()
        if self._job.count is not None:  # nobody knows what became of the request
            self._over.set()
        else:
            asyncio.get_running_loop().create_task(self._connect(connection.number))

    def _failed(self) -> None:
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            self._over.set()

    async def _connect(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self, number)
        await loop.create_connection(lambda: connection, "127.0.0.1", self._job.port)
        self._open.append(connection)

    def _cpu(self) -> tuple[float | None, float | None, float | None]:
        """Of the server, of its database, and of everything on this machine."""
        job = self._job
        server = usage.cpu_seconds([job.server]) if job.server is not None else None
        database = usage.cpu_seconds([job.database]) if job.database is not None else None
        return server, database, usage.machine_seconds()

    async def _tell(self, began: float) -> None:
        job = self._job
        while True:
            await asyncio.sleep(_SAID_EVERY)
            if job.count is not None:
                share = len(self._took) / job.count
            else:
                share = min((time.perf_counter() - began) / job.seconds, 1.0)
            _say({"share": share})


Made = Callable[[Connection, int], tuple[str, str, bytes | None]]
"""Method, path below the organization's and body of a connection's request, the n-th of all."""


def _requests(job: Job) -> Made:
    def own(connection: Connection, several: list[T]) -> T:
        mine = 1 + (len(several) - 1 - connection.number) // job.connections
        if mine <= 0:
            return several[connection.asked % len(several)]
        return several[connection.number + connection.asked % mine * job.connections]

    def create(_: Connection, number: int) -> tuple[str, str, bytes]:
        return "POST", "/Users", orjson.dumps(people.request_body(number))

    def get(connection: Connection, _: int) -> tuple[str, str, None]:
        return "GET", f"/Users/{own(connection, job.ids)}", None

    def find(connection: Connection, _: int) -> tuple[str, str, None]:
        name = own(connection, job.names).replace("@", "%40")
        return "GET", f"/Users?filter=userName%20eq%20%22{name}%22", None

    def patch(connection: Connection, number: int) -> tuple[str, str, bytes]:
        body = patch_body(f"Analyst {number}")
        return "PATCH", f"/Users/{own(connection, job.ids)}", body

    made: dict[Operation, Made] = {
        "create": create,
        "get": get,
        "userName eq": find,
        "PATCH": patch,
    }
    return made[job.operation]


def patch_body(title: str) -> bytes:
    """A PATCH of one attribute."""
    return orjson.dumps(
        {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "title", "value": title}],
        }
    )


def _per_request(seconds: float | None, requests: int) -> float | None:
    return round(seconds / requests * 1e6, 1) if seconds is not None and requests else None


def main() -> None:
    job = Job(**orjson.loads(sys.stdin.buffer.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        told = runner.run(Load(job).run())
    _say({"told": asdict(told)})


def _say(message: dict[str, Any]) -> None:
    # Buffered even where Python is told not to: a raw pipe takes a long line only in part.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(orjson.dumps(message) + b"\n")


if __name__ == "__main__":
    main()
