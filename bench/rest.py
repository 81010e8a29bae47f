"""What an installation costs that has nothing to do: processor, statements, calls to Auth0, memory.

One process of all roles, without Kafka, beside 1 to 100 Auth0 tenants; then one with 100,000 people who
are as they should be, and one with as many who are awaited in Auth0. The simulator runs in a process of
its own, the directory is SQLite or Postgres. ``python -m bench.rest [--quick] [--only NAME]`` writes
``bench/results/rest.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from rich.console import Console
from sqlalchemy import select, update
from sqlalchemy.engine import make_url

from bench import usage
from bench.budgets import Budget, report
from bench.world import environment
from operators.sample.organizations import CLIENT_ID
from service.clock import SystemClock
from service.directory import migrate, organizations
from service.directory import tables as t
from service.directory.database import Database, Transaction, open_database
from service.organizations import Connection, Organization, Tenant
from tests.directory.crowd import settle_in
from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.postgres import create_database, drop_database, postgres_server
from tests.infrastructure.processes import (
    RunningProcess,
    free_ports,
    provisioner,
    run_apart,
    start,
)

Kind = Literal["sqlite", "postgres"]
PEOPLE: Final = 100_000
FEW: Final = 10_000
SECONDS: Final = 20.0
BRIEF: Final = 5.0
_SETTLE: Final = 4.0
"""Seconds that a process has for what it does once, beyond what the tenants take to be claimed."""
_AT_ONCE: Final = 5_000
_COUNTED: Final = (sys.executable, "-m", "bench.counted")
CORE: Final[dict[Kind, float]] = {"sqlite": 1.0, "postgres": 1.5}
"""Percent of a core, and a hundredth more for each tenant, whose open feed gives signs of life."""
STATEMENTS, BEYOND = 15.0, 64.0
"""A second, beside those that only open and close transactions, and a tenth more for each tenant; megabytes
for whoever is stored."""
AWAITED: Final = 3
"""Times as much where people are awaited: they are looked for by name, 0.8 a second, each by a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An installation. ``people``: of the first organization; ``awaited``: in Auth0, at a first login."""

    name: str
    on: Kind
    tenants: int = 1
    organizations: int = 1
    people: int = 0
    awaited: bool = False

    @property
    def connection(self) -> Connection:
        strategy = "waad" if self.awaited else "auth0"
        return Connection(name="o0-users", strategy=strategy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rested:
    """What a case cost. ``core``: percent of one, by the process; ``database_core``: by Postgres.
    ``statements`` and ``calls`` (to Auth0): a second. ``memory``: megabytes at the end, ``peak``: the
    most since the start. ``often``: the most frequent statements, a second.
    """

    name: str
    on: Kind
    tenants: int
    organizations: int
    people: int
    seconds: float
    core: float
    database_core: float | None
    statements: float
    calls: float
    memory: float
    peak: float
    others: float | None
    often: dict[str, float] = field(repr=False)


def cases(*, quick: bool, on: Sequence[Kind]) -> list[Case]:
    people = FEW if quick else PEOPLE
    found: list[Case] = []
    for kind in on:
        found += [
            Case(name=f"{kind}: 1 tenant", on=kind),
            Case(name=f"{kind}: 100 tenants", on=kind, tenants=100, organizations=100),
        ]
        if not quick:
            found += [
                Case(name=f"{kind}: 10 tenants", on=kind, tenants=10, organizations=10),
                Case(name=f"{kind}: 100 organizations", on=kind, organizations=100),
            ]
        found += [
            Case(name=f"{kind}: {people:,} people", on=kind, people=people),
            Case(name=f"{kind}: {people:,} awaited", on=kind, people=people, awaited=True),
        ]
    return found


def budgets(found: Sequence[Rested]) -> list[Budget]:
    """Nothing is to cost more because there are more tenants or more people, but for a little memory."""
    empty = {each.on: each for each in found if each.tenants == 1 and not each.people}
    judged: list[Budget] = []
    for each in found:
        times = AWAITED if each.name.endswith("awaited") else 1
        core = times * (CORE[each.on] + each.tenants / 100)
        statements = times * (STATEMENTS + each.tenants / 10)
        calls = 0.1 * each.tenants if times == 1 else 1.0
        judged += [
            Budget(what=f"{each.name}: % of a core", wanted=core, measured=round(each.core, 2)),
            Budget(
                what=f"{each.name}: statements a second",
                wanted=statements,
                measured=round(each.statements, 1),
            ),
            Budget(
                what=f"{each.name}: calls to Auth0 a second",
                wanted=calls,
                measured=round(each.calls, 2),
            ),
        ]
        if each.database_core is not None and not each.people:  # it tidies up after a large load
            judged.append(
                Budget(
                    what=f"{each.name}: % of a core by Postgres",
                    wanted=core,
                    measured=round(each.database_core, 2),
                )
            )
        if each.people and each.on in empty:
            judged.append(
                Budget(
                    what=f"{each.name}: MB of memory beyond",
                    wanted=BEYOND,
                    measured=round(each.peak - empty[each.on].peak, 1),
                )
            )
    return judged


def run(case: Case, server: str | None, seconds: float, tell: Callable[[str], None]) -> Rested:
    """One case. ``server``: URL of the Postgres server, where it is on Postgres."""
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="provisioner-bench-")))
        url = ends.enter_context(_database(case, server, folder))
        tell(f"{case.name}: is made ready")
        simulator = start(
            provisioner("simulator", "--port", "0"), name="simulator", directory=folder
        )
        ends.callback(simulator.stop)
        auth0 = str(simulator.ready_line()["url"])
        asyncio.run(_fill(case, url, auth0))
        (port,) = free_ports(1)
        process = start(
            [*_COUNTED, "serve", "--host", "127.0.0.1", "--port", str(port)],
            name="resting",
            directory=folder,
            environment=environment(url),
        )
        ends.callback(process.stop)
        with httpx.Client(base_url=auth0, timeout=60) as http:
            tell(f"{case.name}: begins")
            _until_claimed(process, http, port, case)
            tell(f"{case.name}: rests")
            backend = run_apart(_backend(url)) if case.on == "postgres" else None
            return _watch(case, process, http, backend, seconds)


def _watch(
    case: Case, process: RunningProcess, http: httpx.Client, backend: int | None, seconds: float
) -> Rested:
    before, calls = _statements(process), _last_call(http)
    began, mine = time.monotonic(), usage.cpu_seconds([process.pid]) or 0.0
    theirs = usage.cpu_seconds([backend]) if backend is not None else None
    everybody = usage.machine_seconds()
    time.sleep(seconds)
    took = time.monotonic() - began
    mine = (usage.cpu_seconds([process.pid]) or 0.0) - mine
    if backend is not None and theirs is not None:
        theirs = (usage.cpu_seconds([backend]) or 0.0) - theirs
    others = None
    if everybody is not None:
        others = (usage.machine_seconds() or 0.0) - everybody - mine - (theirs or 0.0)
    after = _statements(process)
    often = {
        kind: round((times - before["kinds"].get(kind, 0)) / took, 2)
        for kind, times in after["kinds"].items()
    }
    return Rested(
        name=case.name,
        on=case.on,
        tenants=case.tenants,
        organizations=case.organizations,
        people=case.people,
        seconds=round(took, 1),
        core=100 * mine / took,
        database_core=None if theirs is None else 100 * theirs / took,
        statements=(after["statements"] - before["statements"]) / took,
        calls=(_last_call(http) - calls) / took,
        memory=usage.megabytes(process.pid) or 0.0,
        peak=usage.peak_megabytes(process.pid) or 0.0,
        others=None if others is None else round(100 * others / took, 1),
        often=dict(sorted(often.items(), key=lambda each: -each[1])[:12]),
    )


@contextmanager
def _database(case: Case, server: str | None, folder: Path) -> Generator[str]:
    """The URL of an empty one, as settings have it."""
    if case.on == "sqlite":
        yield f"sqlite:///{folder}/directory.db"
        return
    assert server is not None
    made = run_apart(create_database(server))
    try:
        yield make_url(made).set(drivername="postgresql").render_as_string(hide_password=False)
    finally:
        run_apart(drop_database(server, made))


async def _backend(url: str) -> int | None:
    """The process that all of Postgres's others come from."""
    import asyncpg

    connection = await asyncpg.connect(url, timeout=10)
    try:
        return usage.postmaster_of(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        await connection.close()


async def _fill(case: Case, url: str, auth0: str) -> None:
    await migrate.upgrade(url)
    database = open_database(url)
    try:
        await database.transact(lambda tx: _declare(tx, case, auth0))
        now = SystemClock().now()
        for start_at in range(0, case.people, _AT_ONCE):
            some = min(_AT_ONCE, case.people - start_at)

            def settle(tx: Transaction, some: int = some, start_at: int = start_at) -> None:
                ids = settle_in(tx, "o0", some, now, name=f"p{start_at}")
                if case.awaited:
                    _await(tx, ids, case)

            await database.transact(settle)
        if case.people:
            await _analyze(database, case)
    finally:
        await database.close()


def _declare(tx: Transaction, case: Case, auth0: str) -> None:
    now = SystemClock().now()
    for number in range(case.tenants):
        name = "main" if number == 0 else f"t{number}"
        base = auth0 if number == 0 else f"{auth0}/tenants/{name}"
        tenant = Tenant(name=name, base_url=base, client_id=CLIENT_ID, plan="enterprise")
        organizations.apply_tenant(tx, tenant)
    for number in range(case.organizations):
        tenant_of = number % case.tenants
        organization = Organization(
            name=f"o{number}",
            display_name=f"Organization {number}",
            tenant="main" if tenant_of == 0 else f"t{tenant_of}",
            model="enterprise" if case.awaited else "isolated",
            connections=(case.connection if number == 0 else Connection(name=f"o{number}-users"),),
            verified_domains=(f"o{number}.example",),
        )
        organizations.apply(tx, organization, now)


def _await(tx: Transaction, ids: Sequence[str], case: Case) -> None:
    """These have not logged in yet: the next looks for them lie within the next day."""
    now = SystemClock().now()
    theirs = select(t.users.c.account_id).where(t.users.c.id.in_(ids))
    tx.execute(
        update(t.accounts)
        .where(t.accounts.c.id.in_(theirs), t.accounts.c.connection == case.connection.name)
        .values(look_at=now + timedelta(hours=12))
    )
    tx.execute(update(t.users).where(t.users.c.id.in_(ids)).values(state="waiting"))


async def _analyze(database: Database, case: Case) -> None:
    """Statistics, as a database has that has been at work for a while."""
    del case
    await database.transact(lambda tx: tx.exec_driver_sql("ANALYZE"))


def _until_claimed(process: RunningProcess, http: httpx.Client, port: int, case: Case) -> None:
    """Until every tenant is worked: each asks for its feed once."""
    deadline = time.monotonic() + 60 + case.tenants / 2
    wanted = case.tenants
    while _followed(http) < wanted:
        if process.exit_status is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the process does not work its tenants\n{process}")
        time.sleep(0.5)
    time.sleep(_SETTLE)
    httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=10).raise_for_status()


def _followed(http: httpx.Client) -> int:
    calls: list[dict[str, Any]] = http.get("/simulator/calls").json()
    return len({call["tenant"] for call in calls if call["path"].endswith("/events")})


def _last_call(http: httpx.Client) -> int:
    calls: list[dict[str, Any]] = http.get("/simulator/calls").json()
    return max((int(call["number"]) for call in calls), default=0)


def _statements(process: RunningProcess) -> dict[str, Any]:
    """How many the process has sent so far, asked by a signal: see ``bench.counted``."""
    known = process.stdout.read_bytes().count(b"\n")
    process.popen.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        lines = process.stdout.read_bytes().splitlines(keepends=True)
        if len(lines) > known and lines[known].endswith(b"\n"):
            return json.loads(lines[known])
        time.sleep(0.02)
    raise RuntimeError(f"the process does not tell its statements\n{process}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where rest costs more than it may."""
    parser = argparse.ArgumentParser(prog="bench.rest", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cases, on SQLite, shorter")
    parser.add_argument("--only", metavar="NAME", help="only the cases whose names hold this")
    asked = parser.parse_args(arguments)
    console = Console(stderr=True)
    found: list[Rested] = []
    with ExitStack() as ends:
        server: str | None = None
        on: list[Kind] = ["sqlite"]
        if not asked.quick:
            try:
                server = ends.enter_context(postgres_server(durable=True))
                on.append("postgres")
            except UnavailableError as error:
                console.print(f"Postgres is left out: {error}")
        status = ends.enter_context(console.status(""))
        for case in cases(quick=asked.quick, on=on):
            if asked.only is None or asked.only in case.name:
                seconds = BRIEF if asked.quick else SECONDS
                found.append(run(case, server, seconds, status.update))
                console.print(found[-1])
    kept = report("rest", "At rest", found, budgets(found), console)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
