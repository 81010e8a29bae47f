"""A first load of 5,000 people of one organization: by import jobs, and by the lanes alone.

The simulator runs in a process of its own, with the enterprise plan's limits; the directory is
SQLite. ``python -m bench.first_load [--people N] [--only jobs|lanes]`` writes
``bench/results/first_load.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import Progress

from bench.budgets import Budget, report
from bench.usage import peak_megabytes
from bench.world import simulated
from service import logs
from service.directory import imports
from service.organizations import Policies
from service.provisioning.first_load_settings import FirstLoadSettings
from tests.provisioning.test_first_loads import tenancy
from tests.provisioning.world import World

DEADLINE: Final = 1_500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a load took. ``created``: seconds until everybody had a user in Auth0; ``seconds``: until
    everybody was a member. ``calls``: to Auth0, by kind. ``grown``: megabytes of memory that the
    process took more at its peak than before."""

    way: str
    people: int
    created: float
    seconds: float
    calls: dict[str, int]
    limited: int
    grown: float

    def budgets(self) -> Sequence[Budget]:
        """Calls a person: a tenth of a membership and little else by jobs; by lanes a create too."""
        made = sum(self.calls.values())
        most = 0.3 if self.way == "jobs" else 1.3
        return (
            Budget(
                what=f"{self.way}: calls a person",
                wanted=most,
                measured=round(made / self.people, 3),
            ),
            Budget(what=f"{self.way}: 429s", wanted=max(1.0, made / 1000), measured=self.limited),
            Budget(
                what=f"{self.way}: MB of memory beyond", wanted=64, measured=round(self.grown, 1)
            ),
        )


async def run(way: str, people: int, progress: Progress) -> Load:
    async with simulated("--plan", "enterprise", deadline=DEADLINE, kept=True) as world:
        return await _measure(world, way, people, progress)


async def _measure(world: World, way: str, people: int, progress: Progress) -> Load:
    await world.declare(hoekstra={"policies": Policies(invite="none")})
    bar = progress.add_task(f"{way}: people wait", total=people)
    for batch in range(0, people, 100):
        await asyncio.gather(
            *(world.join("hoekstra", f"in{batch + n}@hoekstra.example") for n in range(100))
        )
        progress.update(bar, completed=batch + 100)
    settings = FirstLoadSettings(threshold=500 if way == "jobs" else 0)
    before, began = _memory(), time.monotonic()
    world.work(tenancy(world, settings=settings))
    bar = progress.add_task(f"{way}: members", total=people)
    created: float | None = None
    seen, kinds, limited, members, peak = 0, Counter[str](), 0, 0, before
    while members < people:
        await asyncio.sleep(1.0)
        peak = max(peak, _memory())
        for call in await world.calls(seen):
            seen = call["number"]
            limited += call["status"] == 429
            kinds[f"{call['method']} {_kind(call['path'])}"] += 1
        counted = await world.database.read(_counts)
        if created is None and counted[0] >= people:
            created = time.monotonic() - began
        members = counted[1]
        progress.update(bar, completed=members)
    took = time.monotonic() - began
    await world.rest()
    return Load(
        way=way,
        people=people,
        created=round(created or took, 1),
        seconds=round(took, 1),
        calls=dict(kinds.most_common()),
        limited=limited,
        grown=peak - before,
    )


def _counts(transaction: imports.Transaction) -> tuple[int, int]:
    """How many have a user, and how many are done."""
    accounts = imports.t.accounts.c
    present = imports.select(imports.func.count()).where(
        accounts.observed["presence"].as_string() == "present"
    )
    done = imports.select(imports.func.count()).where(
        accounts.applied_revision == accounts.revision
    )
    return transaction.execute(present).scalar_one(), transaction.execute(done).scalar_one()


def _memory() -> float:
    """Megabytes; the peak, which is what may not grow."""
    return peak_megabytes(os.getpid()) or 0.0


def _kind(path: str) -> str:
    parts = path.removeprefix("/api/v2/").split("/")
    return "/".join("{id}" if at == 1 and parts[0] != "jobs" else p for at, p in enumerate(parts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where import jobs are not worth their while."""
    parser = argparse.ArgumentParser(prog="bench.first_load", description=__doc__)
    parser.add_argument("--people", type=int, default=5_000)
    parser.add_argument("--only", choices=("jobs", "lanes"))
    asked = parser.parse_args(arguments)
    logs.configure("text", "warning")
    console = Console(stderr=True)
    rows: list[Load] = []
    with Progress(console=console) as progress:
        for way in (asked.only,) if asked.only else ("jobs", "lanes"):
            rows.append(asyncio.run(run(way, asked.people, progress)))
    for row in rows:
        total = sum(row.calls.values())
        console.print(
            f"{row.way}: {row.people} people, created in {row.created} s, members in {row.seconds} s,"
            f" {total} calls ({row.limited} of them 429), {row.grown:.0f} MB more memory"
        )
    budgets = [budget for row in rows for budget in row.budgets()]
    return 0 if report("first_load", "First loads", rows, budgets, console) else 1


if __name__ == "__main__":
    sys.exit(main())
