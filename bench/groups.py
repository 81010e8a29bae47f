"""Groups of 100,000: what changes of them cost the caller, other writers and the event loop.

In this process, over ASGI, on SQLite and on Postgres (without fsync). ``python -m bench.groups``
writes ``bench/results/groups.json``; ``--members N`` for less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, text

from service.clock import SystemClock
from service.directory import migrate
from service.directory import tables as t
from service.directory.database import Transaction
from service.provisioning.fleet import FanOuts
from tests.directory.crowd import enrol, settle_in
from tests.infrastructure.availability import UnavailableError
from tests.infrastructure.postgres import postgres_server
from tests.scim.client import Scim, opened, organization

RESULTS: Final = Path(__file__).parent / "results" / "groups.json"
ROLES: Final = {"Admins": "admin", "few": "editor"}
REPEATS: Final = 20
DEADLINE: Final = 300.0
"""Seconds after which one database's run is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one kind of request costs, in milliseconds."""

    database: str
    work: str
    answer: float
    """Until the door answers; of several the median."""
    other_writer: float
    """The longest that a change of another organization's user took meanwhile."""
    event_loop: float
    """The longest that the event loop stood still meanwhile."""
    done: float
    """Until every account concerned is due."""


@dataclass(slots=True, kw_only=True)
class Bystanders:
    """Another organization that goes on writing, and a task that wants the event loop."""

    other_writer: float = 0.0
    event_loop: float = 0.0


@asynccontextmanager
async def bystanders(neighbour: Scim, user_id: str) -> AsyncGenerator[Bystanders]:
    seen = Bystanders()
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            operation = {"op": "replace", "path": "title", "value": f"Analyst {began}"}
            answer = await neighbour.patch(f"Users/{user_id}", operation)
            assert answer.status_code == 200, answer.text
            seen.other_writer = max(seen.other_writer, time.perf_counter() - began)
            await asyncio.sleep(0.005)

    async def tick() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            seen.event_loop = max(seen.event_loop, time.perf_counter() - began - 0.001)

    tasks = [asyncio.create_task(write()), asyncio.create_task(tick())]
    await asyncio.sleep(0.1)
    seen.other_writer = seen.event_loop = 0.0
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.gather(*tasks)  # one that waits still counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """Two organizations: one with a small and a large group, plain and standing for roles."""

    kind: str
    ours: Scim
    neighbour: Scim
    bystander: str
    newcomer: str
    crowd: list[str]
    groups: dict[str, str]

    async def measure(self, work: str, *requests: httpx.Request) -> Cost:
        """Sends them one after the other, and waits until nobody is left to be touched."""
        took: list[float] = []
        async with bystanders(self.neighbour, self.bystander) as seen:
            began = time.perf_counter()
            for request in requests:
                sent = time.perf_counter()
                answer = await self.ours.http.send(request)
                took.append(time.perf_counter() - sent)
                assert answer.status_code < 300, answer.text[:300]
            while await self.ours.database.read(_left):  # noqa: ASYNC110 - the database tells no event
                await asyncio.sleep(0.02)
            done = time.perf_counter() - began
        return Cost(
            database=self.kind,
            work=work,
            answer=_milliseconds(sorted(took)[len(took) // 2]),
            other_writer=_milliseconds(seen.other_writer),
            event_loop=_milliseconds(seen.event_loop),
            done=_milliseconds(done / len(requests)),
        )

    def patch(self, group: str, *operations: dict[str, Any]) -> httpx.Request:
        body = {"Operations": list(operations)}
        return self.ours.http.build_request("PATCH", f"Groups/{self.groups[group]}", json=body)

    def get(self, group: str, **query: str) -> httpx.Request:
        return self.ours.http.build_request("GET", f"Groups/{self.groups[group]}", params=query)

    def put(self, group: str, name: str, ids: list[str]) -> httpx.Request:
        body = {"displayName": name, "members": [{"value": each} for each in ids]}
        return self.ours.http.build_request("PUT", f"Groups/{self.groups[group]}", json=body)

    def one_by_one(self, group: str) -> list[httpx.Request]:
        change = {"path": "members", "value": [{"value": self.newcomer}]}
        both = [self.patch(group, {**change, "op": verb}) for verb in ("add", "remove")]
        return both * (REPEATS // 2)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _left(transaction: Transaction) -> int:
    return transaction.execute(select(func.count()).select_from(t.fanouts)).scalar_one()


async def furnished(kind: str, ours: Scim, neighbour: Scim, members: int) -> Yard:
    now = SystemClock().now()
    address = "by@neighbour.example"
    bystander = await neighbour.post_user(address, emails=[{"value": address}])
    crowd = await ours.database.transact(
        lambda tx: settle_in(tx, ours.organization, members + 1, now)
    )
    newcomer = crowd.pop()
    groups: dict[str, str] = {}
    for name, size in (("small", 10), ("large", members), ("few", 10), ("Admins", members)):
        group_id: str = (await ours.post_group(name))["id"]
        groups[name] = group_id
        await ours.database.transact(lambda tx, g=group_id, n=size: enrol(tx, g, crowd[:n]))
    if kind == "postgres":
        await ours.database.transact(lambda tx: tx.execute(text("ANALYZE")))
    return Yard(
        kind=kind,
        ours=ours,
        neighbour=neighbour,
        bystander=bystander["id"],
        newcomer=newcomer,
        crowd=crowd,
        groups=groups,
    )


async def run(kind: str, url: str, members: int, tell: Callable[[str], None]) -> list[Cost]:
    await migrate.upgrade(url)
    configured = (organization(roles=ROLES), organization("neighbour"))
    async with opened(url, *configured) as (ours, neighbour), asyncio.timeout(DEADLINE):
        tell(f"{kind}: {members} users join")
        yard = await furnished(kind, ours, neighbour, members)
        stop = asyncio.Event()
        working = asyncio.create_task(
            FanOuts(database=ours.database, clock=SystemClock()).run(stop)
        )
        costs: list[Cost] = []
        for work, requests in _works(yard, members):
            tell(f"{kind}: {work}")
            costs.append(await yard.measure(work, *requests))
        stop.set()
        await working
        return costs


def _works(yard: Yard, members: int) -> list[tuple[str, list[httpx.Request]]]:
    rename = {"op": "replace", "path": "displayName"}
    some = yard.crowd[: min(20_000, members)]
    return [
        ("PATCH one member, 10", yard.one_by_one("small")),
        (f"PATCH one member, {members}", yard.one_by_one("large")),
        ("PATCH one member, 10, with a role", yard.one_by_one("few")),
        (f"PATCH one member, {members}, with a role", yard.one_by_one("Admins")),
        ("GET without members, 10", [yard.get("small", excludedAttributes="members")] * REPEATS),
        (
            f"GET without members, {members}",
            [yard.get("large", excludedAttributes="members")] * REPEATS,
        ),
        (f"GET, {members}", [yard.get("large")] * 3),
        (
            f"rename, {members}, loses its role",
            [yard.patch("Admins", {**rename, "value": "Former"})],
        ),
        (
            f"rename, {members}, gains a role",
            [yard.patch("Admins", {**rename, "value": "Admins"})],
        ),
        (f"PUT of {len(some)} members instead of {members}", [yard.put("large", "large", some)]),
        (
            f"PUT of {len(some)} members instead of {members}, with a role",
            [yard.put("Admins", "Admins", some)],
        ),
        (
            f"DELETE, {len(some)}, with a role",
            [yard.ours.http.build_request("DELETE", f"Groups/{yard.groups['Admins']}")],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100_000)
    members: int = parser.parse_args().members
    console = Console(stderr=True)
    costs: list[Cost] = []
    with ExitStack() as open_here, console.status("") as status:
        where = Path(open_here.enter_context(tempfile.TemporaryDirectory()))
        costs += asyncio.run(run("sqlite", f"sqlite:///{where}/d.db", members, status.update))
        try:
            url = open_here.enter_context(postgres_server())
            costs += asyncio.run(run("postgres", url, members, status.update))
        except UnavailableError as missing:
            console.print(str(missing))
    RESULTS.parent.mkdir(exist_ok=True)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "rows": [asdict(cost) for cost in costs],
    }
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    table = Table("database", "work", "answer", "other writer", "event loop", "done")
    for cost in costs:
        table.add_row(*(str(value) for value in asdict(cost).values()))
    console.print(table)


if __name__ == "__main__":
    main()
