"""SCIM servers side by side: create, get, ``userName eq`` and PATCH, at several sizes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from bench import people, usage
from bench.contenders import STARLETTES, Contender, Running, contenders
from bench.installing import LeftOutError
from bench.load import Job, Operation
from bench.probe import WrongAnswerError, check, check_stored, until_answering
from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.postgres import postgres_server
from tests.infrastructure.processes import PROJECT_ROOT

OPERATIONS: Final[tuple[Operation, ...]] = ("get", "userName eq", "PATCH", "create")
CONNECTIONS: Final = 32
_SAMPLE: Final = 20_000

Told = Callable[[str, float], None]
"""Is told what is going on, and which share of it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One operation of one server at one size. Times in ms; processor time in µs a request.

    ``memory``: the most megabytes that the server's process has held so far; ``load``: the share of
    a core that the load itself took; ``others``: what processes took that have no part in this.
    """

    server: str
    stored: int
    operation: Operation
    requests: int
    per_second: float
    p50: float
    p99: float
    failures: int
    cpu: float | None
    database_cpu: float | None
    memory: float | None
    load: float
    others: float | None

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True, kw_only=True)
class Results:
    """What was measured, and what could not be and why."""

    rows: list[Row] = field(default_factory=list[Row])
    left_out: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure: at which sizes, whom (by how their names begin; all where empty), for how long each."""

    sizes: Sequence[int]
    servers: tuple[str, ...] = ()
    seconds: float = 4.0

    def wants(self, server: str) -> bool:
        return not self.servers or server.startswith(self.servers)


def run(plan: Plan, tell: Told) -> Results:
    """All measurements, one after the other; processes are started and ended here."""
    results = Results()
    with ExitStack() as stack:
        try:
            postgres = stack.enter_context(postgres_server(durable=True))
        except UnavailableError as error:
            postgres = None
            results.left_out.append(f"Left out: ours on Postgres: {error}")
        chosen = [each for each in contenders(postgres) if plan.wants(each.name)]
        for contender in chosen:
            for stored in _sizes(contender, plan):
                try:
                    results.rows += _measure(contender, stored, plan.seconds, tell)
                except (LeftOutError, WrongAnswerError) as error:
                    results.left_out.append(f"Left out: {contender.name} at {stored:,}: {error}")
                    break
            results.left_out += _beyond(contender, plan, results.rows)
    return results


def _sizes(contender: Contender, plan: Plan) -> list[int]:
    if contender.most == 0:
        return [0]
    return [stored for stored in plan.sizes if stored <= contender.most]


def _beyond(contender: Contender, plan: Plan, rows: Iterable[Row]) -> list[str]:
    """Why a server is not measured at the sizes that it can only be filled to by requests."""
    rates = [
        row.per_second for row in rows if row.server == contender.name and row.operation == "create"
    ]
    if not rates or contender.most == 0:
        return []
    return [
        f"Left out: {contender.name} at {stored:,}: it is filled by requests alone, which would take"
        f" {stored / rates[-1] / 60:.0f} minutes at the rate measured"
        for stored in plan.sizes
        if stored > contender.most
    ]


def _measure(contender: Contender, stored: int, seconds: float, tell: Told) -> list[Row]:
    where = f"{contender.name} at {stored:,}"

    def telling(what: str) -> Callable[[float], None]:
        return lambda share: tell(f"{where}: {what}", share)

    tell(f"{where}: starting", 0.0)
    rows: list[Row] = []
    with contender.serve(stored, lambda what, share: tell(f"{where}: {what}", share)) as running:
        until_answering(running)
        check(running, remembers=contender.name not in STARLETTES)
        ids, names, first = _population(contender, running, stored, telling("filling"))
        check_stored(running, ids[0], names[0])
        for operation in OPERATIONS:
            job = _job(running, operation, seconds=seconds, ids=ids, names=names, first=first)
            told = _load(job, telling(operation))
            rows.append(_row(contender.name, stored, operation, told, running))
    return rows


def _population(
    contender: Contender, running: Running, stored: int, tell: Callable[[float], None]
) -> tuple[list[str], list[str], int]:
    """Ids and names of users that are stored, at least one a connection, and the next number.

    In random order: whoever is asked for is not who was asked for a moment ago.
    """
    chance = random.Random(7)
    if contender.filled and stored:
        numbers = chance.sample(range(stored), min(stored, _SAMPLE))
        ids = [people.user_id(number) for number in numbers]
        return ids, [people.user_name(number) for number in numbers], stored
    count = max(stored, CONNECTIONS)
    told = _load(_job(running, "create", count=count), tell)
    ids = chance.sample(told["ids"], min(count, _SAMPLE))
    numbers = chance.sample(range(count), min(count, _SAMPLE))
    return ids, [people.user_name(number) for number in numbers], count


def _job(running: Running, operation: Operation, **more: Any) -> Job:
    return Job(
        operation=operation,
        port=running.port,
        path=running.path,
        token=running.token,
        connections=CONNECTIONS,
        server=running.process.pid,
        database=running.database,
        **more,
    )


def _load(job: Job, tell: Callable[[float], None]) -> dict[str, Any]:
    """Runs a job in a process of its own. Raises WrongAnswerError where it fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=PROJECT_ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        process.stdin.write(orjson.dumps(asdict(job)))
        process.stdin.close()
        for line in process.stdout:
            message = orjson.loads(line)
            if "told" in message:
                return message["told"]
            tell(message["share"])
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
    raise WrongAnswerError(f"{job.operation}: {said[-1] if said else 'the load failed'}")


def _row(
    server: str, stored: int, operation: Operation, told: dict[str, Any], running: Running
) -> Row:
    peak = usage.peak_megabytes(running.process.pid)
    return Row(
        server=server,
        stored=stored,
        operation=operation,
        requests=told["requests"],
        per_second=told["per_second"],
        p50=told["p50"],
        p99=told["p99"],
        failures=told["failures"],
        cpu=told["server_cpu"],
        database_cpu=told["database_cpu"],
        memory=round(peak, 1) if peak is not None else None,
        load=told["busy"],
        others=told["others"],
    )
