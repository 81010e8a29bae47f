"""How fast intake is: canonical CloudEvents from a topic of 12 partitions to a durable directory.

One intake process has a core to itself; Kafka, Postgres and the load have the others. ``python -m
bench --only intake`` writes ``bench/results/intake.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson
import uvloop
from aiokafka import AIOKafkaProducer
from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url

from bench import usage
from consumers.intake import Intake
from consumers.kafka import IntakeSettings
from service import logs
from service.clock import SystemClock
from service.directory import migrate, organizations
from service.directory import tables as t
from service.directory.database import Database, Transaction, open_database
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.workers import Delivery, accept_many
from service.kafka import KafkaConnection
from service.memory import look_for_garbage_seldom
from service.organizations import Connection, EventSource, MassLeavers, Organization, Policies
from service.workers import WorkerEvent
from tests.infrastructure.kafka import create_topic, kafka_broker
from tests.infrastructure.postgres import create_database, postgres_server

PARTITIONS: Final = 12
EVENTS_OF_EACH: Final = 10
"""Of each worker: a hire, then changes of title or department; the last of every tenth is a leave."""
REPEATED: Final = 0.02
"""So many of all records are sent twice under one id, one after the other."""
MIX: Final = "10 % joiners, 89 % changes, 1 % leavers; and 2 % of them twice"
TOPIC: Final = "hr.events"
_CORE: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one run took. ``cpu``: seconds of the intake process, ``database_cpu`` of Postgres.
    ``queued``: seconds in which the intake process was ready and others had its core.

    ``others``: what all else took of a core meanwhile, Kafka's broker included. ``wrong``: what was
    found lost, doubled or otherwise not right afterwards.
    """

    database: str
    events: int
    seconds: float
    cpu: float
    database_cpu: float | None
    queued: float | None
    others: float | None
    wrong: list[str]

    @property
    def per_second(self) -> float:
        return round(self.events / self.seconds, 1)

    @property
    def per_cpu_second(self) -> float:
        return round(self.events / self.cpu, 1)

    @property
    def idle(self) -> float | None:
        """The share of the time in which the intake process had nothing to do."""
        if self.queued is None:
            return None
        return round(max(0.0, 1 - (self.cpu + self.queued) / self.seconds), 3)

    def as_row(self) -> dict[str, Any]:
        figures = {
            "per_second": self.per_second,
            "per_cpu_second": self.per_cpu_second,
            "idle": self.idle,
        }
        return asdict(self) | figures


def run(tell: Callable[[str], None], *, workers: int = 20_000) -> list[Taken]:
    """Both databases, Postgres with all workers, SQLite with a fifth of them."""
    with _everything_elsewhere(), kafka_broker() as kafka:
        with postgres_server(durable=True) as server:
            url = asyncio.run(create_database(server))
            tell(f"intake, Postgres: {workers * EVENTS_OF_EACH:,} events")
            found = [_measured(kafka, url, "postgres", workers)]
        with tempfile.TemporaryDirectory() as folder:
            tell(f"intake, SQLite: {workers // 5 * EVENTS_OF_EACH:,} events")
            url = f"sqlite:///{folder}/directory.db"
            found.append(_measured(kafka, url, "sqlite", workers // 5))
    return found


@contextlib.contextmanager
def _everything_elsewhere() -> Generator[None]:
    """What is started meanwhile leaves the core of the intake process alone, where there are two."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, usual - {_CORE} or usual)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def _measured(kafka: str, url: str, database: str, workers: int) -> Taken:
    topic = f"{TOPIC}.{database}"
    sent = asyncio.run(_prepared(kafka, url, topic, workers))
    command = [sys.executable, "-m", "bench.intake", kafka, url, topic, str(sent)]
    before, began = usage.machine_seconds(), time.monotonic()
    told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    after, elapsed = usage.machine_seconds(), time.monotonic() - began
    others = None
    if before is not None and after is not None:
        own = told["cpu"] + (told["database_cpu"] or 0.0)
        others = max(0.0, after - before - own) / elapsed
    return Taken(
        database=database,
        events=sent,
        seconds=told["seconds"],
        cpu=told["cpu"],
        database_cpu=told["database_cpu"],
        queued=told["queued"],
        others=others,
        wrong=asyncio.run(_wrong(url, workers, sent)),
    )


async def _prepared(kafka: str, url: str, topic: str, workers: int) -> int:
    await migrate.upgrade(url)
    database = open_database(url)
    organization = Organization(
        name="hoekstra",
        connections=(Connection(name="users"),),
        # Counted as anywhere, and let go: nobody is there to approve them.
        policies=Policies(mass_leavers=MassLeavers(count=1_000_000)),
    )
    source = EventSource(name=topic, topic=topic, organizations=(organization.name,))

    def declare(transaction: Transaction) -> None:
        organizations.apply(transaction, organization, SystemClock().now())
        organizations.apply_source(transaction, source)

    await database.transact(declare)
    await _lived_in(database, organization)
    await database.close()
    await create_topic(kafka, topic, partitions=PARTITIONS)
    count = 0
    async with AIOKafkaProducer(bootstrap_servers=kafka, linger_ms=20) as producer:
        for key, headers, value in records(workers):
            await producer.send(topic, value, key=key, headers=headers)
            count += 1
        await producer.flush()
    return count


async def _lived_in(database: Database, organization: Organization) -> None:
    """A thousand people of another organization, and statistics: Postgres takes them by itself
    within a minute, and plans as for empty tables until then.
    """
    now = SystemClock().now()
    other = organization.model_copy(update={"name": "metahexa"})

    def hire(transaction: Transaction) -> None:
        organizations.apply(transaction, other, now)
        registered = organizations.find(transaction, other.name)
        assert registered is not None
        accept_many(transaction, [_hired(registered, number, now) for number in range(1000)])

    await database.transact(hire)
    await database.transact(lambda transaction: transaction.execute(text("ANALYZE")) and None)


def _hired(registered: Registered, number: int, now: datetime) -> Delivery:
    event = WorkerEvent(
        type="worker.hired",
        worker_id=f"M-{number}",
        attributes={"email": f"person{number}@metahexa.example"},
    )
    received = Received(
        door="http", source="/hr", source_id=str(number), type=event.type, at=now, body=b"{}"
    )
    return Delivery(registered=registered, event=event, received=received)


def records(workers: int, seed: int = 1) -> Iterator[tuple[bytes, list[tuple[str, bytes]], bytes]]:
    """Key, headers and value of each record: everybody's first event, everybody's second …"""
    drawn = random.Random(seed)
    everyone = list(range(workers))
    for turn in range(EVENTS_OF_EACH):
        drawn.shuffle(everyone)
        for worker in everyone:
            record = _record(worker, turn)
            yield record
            if drawn.random() < REPEATED:
                yield record


def _record(worker: int, turn: int) -> tuple[bytes, list[tuple[str, bytes]], bytes]:
    kind, attributes = "changed", {_CHANGING[turn % 2]: f"{_CHANGING[turn % 2]} {turn}"}
    if turn == 0:
        kind = "hired"
        attributes = {
            "email": f"worker{worker}@hoekstra.example",
            "given_name": "Anneliese",
            "family_name": f"van den Berg {worker}",
            "title": "Associate",
            "department": "Audit",
        }
    elif turn == EVENTS_OF_EACH - 1 and worker % 10 == 0:
        kind, attributes = "terminated", {}
    headers = {
        "specversion": "1.0",
        "id": f"{turn}-{worker}",
        "source": "/hr/core",
        "type": f"com.example.hr.worker.{kind}.v1",
        "subject": f"W-{worker}",
        "time": f"2026-03-0{1 + turn % 9}T09:00:00Z",
    }
    sent = [(f"ce_{name}", value.encode()) for name, value in headers.items()]
    sent.append(("content-type", b"application/json"))
    value = orjson.dumps({"worker_id": f"W-{worker}", "attributes": attributes})
    return f"W-{worker}".encode(), sent, value


_CHANGING: Final = ("department", "title")


async def _wrong(url: str, workers: int, sent: int) -> list[str]:
    """What is not as it has to be afterwards, in words."""
    database = open_database(url)
    e = t.events.c

    def count(transaction: Transaction, *conditions: Any) -> int:
        return transaction.execute(
            select(func.count()).select_from(t.events).where(e.door == "kafka", *conditions)
        ).scalar_one()

    def look(transaction: Transaction) -> list[str]:
        u = t.users.c
        leavers = transaction.execute(
            select(func.count()).select_from(t.users).where(u.employment == "terminated")
        ).scalar_one()
        people = select(func.count(), func.count(u.account_id.distinct())).where(
            u.organization == "hoekstra"
        )
        users, accounts = transaction.execute(people).one()
        offsets = select(e.partition, e.offset).where(e.topic.is_not(None)).distinct().subquery()
        found = {
            "records": (
                transaction.execute(select(func.count()).select_from(offsets)).scalar_one(),
                sent,
            ),
            "events": (count(transaction), sent),
            "events with an id of their own": (
                count(transaction, e.source_id.is_not(None)),
                workers * EVENTS_OF_EACH,
            ),
            "duplicates": (
                count(transaction, e.state == "duplicate"),
                sent - workers * EVENTS_OF_EACH,
            ),
            "dead letters": (count(transaction, e.state.in_(("deadlettered", "rejected"))), 0),
            "users": (users, workers),
            "accounts": (accounts, workers),
            "leavers": (leavers, len(range(0, workers, 10))),
        }
        return [f"{what}: {had}, not {due}" for what, (had, due) in found.items() if had != due]

    try:
        return await database.read(look)
    finally:
        await database.close()


async def _take_in(kafka: str, url: str, topic: str, count: int) -> dict[str, Any]:
    """In the process that is measured: from the first record taken to the last one committed."""
    database, clock = open_database(url), SystemClock()
    settings = IntakeSettings(
        connection=KafkaConnection(bootstrap_servers=kafka), group_id=f"bench-{topic}"
    )
    intake = Intake(database=database, clock=clock, settings=settings)
    stop = asyncio.Event()
    running = asyncio.create_task(intake.run(stop))
    async with _backend(url) as postmaster:
        await _until(lambda: intake.facts.taken > 0)
        first, began, cpu = intake.facts.taken, clock.monotonic(), time.process_time()
        queued = usage.queued_seconds()
        database_cpu = usage.cpu_seconds([postmaster]) if postmaster else None
        await _until(lambda: intake.facts.taken >= count)
        seconds, used = clock.monotonic() - began, time.process_time() - cpu
        waited = usage.queued_seconds()
        after = usage.cpu_seconds([postmaster]) if postmaster else None
    stop.set()
    await running
    await database.close()
    share = count / (count - first)
    return {
        "seconds": seconds * share,
        "cpu": used * share,
        "database_cpu": _between(database_cpu, after),
        "queued": _between(queued, waited),
    }


def _between(before: float | None, after: float | None) -> float | None:
    return after - before if after is not None and before is not None else None


async def _until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - it looks from outside
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _backend(url: str) -> AsyncGenerator[int | None]:
    """The process that Postgres was started as, where this is Postgres."""
    if url.startswith("sqlite"):
        yield None
        return
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    try:
        yield usage.postmaster_of(connection.get_server_pid())
    finally:
        await connection.close()


def main() -> None:
    kafka, url, topic, count = sys.argv[1:]
    logs.configure("text", "warning")
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {_CORE})
    look_for_garbage_seldom()  # this, too, as provisioner serve does
    with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
        json.dump(runner.run(_take_in(kafka, url, topic, int(count))), sys.stdout)


if __name__ == "__main__":
    main()
