"""What it takes to bring 50,000 people with their password hashes, by ``provisioner user import``.

The command is killed in the middle of storing and run again; a process of lanes, which runs beside it,
has Auth0's import jobs make them. The simulator runs in a process of its own, with the enterprise plan's
limits; the directory is SQLite. ``python -m bench.user_import [--rows N] [--quick]`` writes
``bench/results/user_import.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from sqlalchemy import func, select

from bench import usage
from bench.budgets import Budget, report
from bench.world import address_of, environment, simulated
from service import logs
from service.auth0.jobs import MOST_ACTIVE
from service.directory import tables as t
from service.directory.database import Transaction
from service.organizations import Policies
from service.provisioning.first_load_settings import FirstLoadSettings
from tests.infrastructure.processes import RunningProcess, free_ports, provisioner, start
from tests.provisioning.world import World

ROWS: Final = 50_000
FEW: Final = 2_000
DEADLINE: Final = 2_400.0
JOB: Final = 10.0
"""Seconds that a job may take here, the looks at it included; Auth0's own may be much slower."""
STORED: Final = 130.0
"""Rows a second: twice what two jobs a minute of 2,000 take, so that jobs never wait for rows."""
_HASH: Final = "$2b$10$abcdefghijklmnopqrstuuVwXyZ0123456789./ABCDEFGHIJKLMN"
_LOOK: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import took. ``stored_at_kill``: rows there when the command was killed; ``per_second``:
    how quickly they came to be. ``again``: seconds until the second run had stored the rest. ``landed``:
    seconds from the kill until every import had answered. ``memory``: the command's peak in megabytes;
    ``lanes``: what the lanes' process took beyond what it began with. ``lost`` and ``doubled``: users in
    Auth0 who are missing, or there twice.
    """

    rows: int
    file_megabytes: float
    stored_at_kill: int
    per_second: float
    again: float
    landed: float
    memory: float
    lanes: float
    statuses: dict[str, int]
    calls: dict[str, int]
    limited: int
    lost: int
    doubled: int

    def budgets(self) -> Sequence[Budget]:
        made = sum(self.calls.values())
        rounds = math.ceil(self.rows / FirstLoadSettings().most_accounts / MOST_ACTIVE)
        return (
            Budget(
                what="rows stored a second", wanted=STORED, measured=self.per_second, at_most=False
            ),
            Budget(
                what="MB of the command's memory",
                wanted=round(128 + 2 * self.rows / 1000),
                measured=self.memory,
            ),
            Budget(what="MB of the lanes' memory beyond", wanted=64, measured=self.lanes),
            Budget(
                what="s until all have landed",
                wanted=round(30 + self.rows / STORED + JOB * rounds),
                measured=self.landed,
            ),
            Budget(what="calls a row", wanted=0.15, measured=round(made / self.rows, 3)),
            Budget(what="429s", wanted=max(1.0, made / 1000), measured=self.limited),
            Budget(
                what="rows created",
                wanted=self.rows,
                measured=self.statuses.get("created", 0),
                at_most=False,
            ),
            Budget(what="users missing in Auth0", wanted=0, measured=self.lost),
            Budget(what="users twice in Auth0", wanted=0, measured=self.doubled),
        )


async def run(rows: int, tell: Callable[[str], None]) -> Imported:
    async with simulated("--plan", "enterprise", deadline=DEADLINE, kept=True) as world:
        await world.declare(hoekstra={"policies": Policies(invite="none")})
        file = world.folder / "people.jsonl"
        _write(file, rows)
        with _lanes(world) as lanes:
            await _until(lambda: _is_worked(world))
            began_with = usage.megabytes(lanes.pid) or 0.0
            tell("the first run stores")
            stored, per_second = await _killed_halfway(world, file, rows, tell)
            began, peak = time.monotonic(), 0.0
            again: float | None = None
            results = world.folder / "results.jsonl"
            second = _import(world, file, "--results", str(results), name="second")
            try:
                while second.exit_status is None:
                    peak = max(peak, usage.peak_megabytes(second.pid) or 0.0)
                    there = await world.database.read(_stored)
                    if again is None and there == rows:
                        again = time.monotonic() - began
                    left = await world.database.read(_waiting)
                    tell(f"the second run: {there} stored, {left} wait")
                    await asyncio.sleep(_LOOK)
            finally:
                second.stop()
            landed = time.monotonic() - began
            if second.exit_status != 0:
                raise RuntimeError(f"the second run failed\n{second}")
            grown = (usage.peak_megabytes(lanes.pid) or 0.0) - began_with
        told = [orjson.loads(line) for line in results.read_bytes().splitlines()]
        calls, limited = await _calls(world)
        users = _users(world)
        return Imported(
            rows=rows,
            file_megabytes=round(file.stat().st_size / 1e6, 1),
            stored_at_kill=stored,
            per_second=round(per_second, 1),
            again=round(again or landed, 1),
            landed=round(landed, 1),
            memory=round(peak, 1),
            lanes=round(grown, 1),
            statuses=dict(Counter(row["status"] for row in told)),
            calls=calls,
            limited=limited,
            lost=rows - len(users),
            doubled=sum(count > 1 for count in users.values()),
        )


def _write(file: Path, rows: int) -> None:
    with file.open("wb") as out:
        for number in range(rows):
            row = {
                "email": f"p{number}@hoekstra.example",
                "email_verified": True,
                "given_name": "Ada",
                "family_name": "Byron",
                "external_id": f"w{number}",
                "password_hash": _HASH,
            }
            out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


async def _killed_halfway(
    world: World, file: Path, rows: int, tell: Callable[[str], None]
) -> tuple[int, float]:
    """How many were stored when the command was killed, and how many a second."""
    first = _import(world, file, name="first")
    seen: tuple[float, int] | None = None
    while (there := await world.database.read(_stored)) < rows / 2:
        if first.exit_status is not None:
            raise RuntimeError(f"the first run ended too early\n{first}")
        if seen is None and there:
            seen = time.monotonic(), there
        tell(f"the first run: {there} stored")
        await asyncio.sleep(_LOOK)
    first.kill()
    began, before = seen or (time.monotonic(), 0)
    return there, (there - before) / max(time.monotonic() - began, _LOOK)


def _import(world: World, file: Path, *options: str, name: str) -> RunningProcess:
    return start(
        provisioner("user", "import", "hoekstra", file, *options),
        name=name,
        directory=world.folder,
        environment=environment(address_of(world)),
    )


@contextmanager
def _lanes(world: World) -> Generator[RunningProcess]:
    (port,) = free_ports(1)
    process = start(
        provisioner("serve", "--roles", "lanes", "--host", "127.0.0.1", "--port", str(port)),
        name="lanes",
        directory=world.folder,
        environment=environment(address_of(world)),
    )
    try:
        yield process
    finally:
        process.stop()


async def _until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not await holds():
        if time.monotonic() > deadline:
            raise RuntimeError("the lanes do not begin")
        await asyncio.sleep(_LOOK)


async def _is_worked(world: World) -> bool:
    return any(call["path"].endswith("/events") for call in await world.calls())


def _stored(transaction: Transaction) -> int:
    return transaction.execute(select(func.count()).select_from(t.migrants)).scalar_one()


def _waiting(transaction: Transaction) -> int:
    return transaction.execute(
        select(func.count()).where(t.migrants.c.state == "waiting")
    ).scalar_one()


async def _calls(world: World) -> tuple[dict[str, int], int]:
    """To Auth0, by endpoint group, and how many of them were refused by the limit."""
    kinds, limited, seen = Counter[str](), 0, 0
    while page := await world.calls(seen):
        seen = page[-1]["number"]
        for call in page:
            kinds[call["group"]] += 1
            limited += call["status"] == 429
    return dict(kinds), limited


def _users(world: World) -> Counter[str]:
    """How often each address of the file is in Auth0."""
    file = world.folder / "auth0" / "simulator.sqlite3"
    query = "SELECT json_extract(document, '$.email') FROM users WHERE tenant = 'main'"
    with closing(sqlite3.connect(file, timeout=30)) as database:
        found = [str(row[0]) for row in database.execute(query)]
    return Counter(each for each in found if each.endswith("@hoekstra.example"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where something was missed."""
    parser = argparse.ArgumentParser(prog="bench.user_import", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--quick", action="store_true", help=f"{FEW} rows")
    asked = parser.parse_args(arguments)
    logs.configure("text", "warning")
    console = Console(stderr=True)
    count = FEW if asked.quick else asked.rows
    with console.status("") as status:
        found = asyncio.run(run(count, status.update))
    console.print(found)
    title = f"An import of {count:,} people with their passwords"
    return 0 if report("user_import", title, [found], found.budgets(), console) else 1


if __name__ == "__main__":
    sys.exit(main())
