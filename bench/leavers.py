"""How soon a leaver is locked out while 2,000 joiners wait: from acceptance to the block call.

The simulator runs in a process of its own, with the enterprise plan's limits; the directory is
SQLite. ``python -m bench.leavers`` writes ``bench/results/leavers.json``.
"""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import Progress

from bench.measured import Measured
from service import logs
from service.directory import migrate
from service.directory.database import open_database
from service.people import User
from service.provisioning.lanes import LaneSettings
from tests.infrastructure.processes import provisioner, start
from tests.provisioning.world import World

RESULTS: Final = Path(__file__).parent / "results" / "leavers.json"
JOINERS, LEAVERS, PROMISE = 2000, 50, 2.0
DEADLINE: Final = 110.0
"""Seconds after which the run is given up."""


async def run(progress: Progress) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        simulator = start(
            provisioner(
                "simulator", "--port", "0", "--plan", "enterprise", "--data-dir", where / "auth0"
            ),
            name="simulator",
            directory=where,
        )
        url = f"sqlite:///{where}/directory.db"
        await migrate.upgrade(url)
        database = open_database(url)
        try:
            auth0 = simulator.ready_line()["url"]
            async with httpx.AsyncClient(base_url=auth0, timeout=30) as http:
                world = World(database=database, url=auth0, folder=where, http=http)
                async with asyncio.timeout(DEADLINE):
                    took = await _measure(world, progress)
        finally:
            await database.close()
            simulator.stop()
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return Measured(
        name=f"leavers, {JOINERS} joiners waiting",
        requests=len(took),
        per_second=round(len(took) / sum(took), 1),
        p50=round(cuts[49] * 1000, 1),
        p99=round(cuts[98] * 1000, 1),
        failures=sum(one > PROMISE for one in took),
    )


async def _measure(world: World, progress: Progress) -> list[float]:
    await world.declare()
    world.work(world.lanes(settings=LaneSettings()))  # as in production
    bar = progress.add_task("those who will leave join", total=LEAVERS)
    leaving = [await world.join("hoekstra", f"out{n}@hoekstra.example") for n in range(LEAVERS)]
    while (left := await _pending(world, leaving)) > 0:
        progress.update(bar, completed=LEAVERS - left)
        await asyncio.sleep(0.2)
    progress.update(bar, completed=LEAVERS)
    bar = progress.add_task("joiners queue", total=JOINERS)
    for batch in range(0, JOINERS, 100):
        await asyncio.gather(
            *(world.join("hoekstra", f"in{batch + n}@hoekstra.example") for n in range(100))
        )
        progress.update(bar, completed=batch + 100)
    bar = progress.add_task("leavers", total=LEAVERS)
    took: list[float] = []
    for user in leaving:
        took.append(await _lock_out(world, user))
        progress.update(bar, advance=1)
    await world.rest()
    return took


async def _pending(world: World, users: list[User]) -> int:
    states = [(await world.user(user)).state for user in users]
    return sum(state != "applied" for state in states)


async def _lock_out(world: World, user: User) -> float:
    """Seconds from the commit of the leave until the block reaches Auth0, which accepts it."""
    person = await world.auth0_user(str(user.identifier))
    assert person is not None
    seen = (await world.calls())[-1]["number"]
    await world.change(user, active=False)
    accepted = world.clock.now()
    path = person["user_id"].replace("|", "%7C")
    while True:
        for call in await world.calls(seen):
            seen = call["number"]
            if call["method"] == "PATCH" and call["status"] == 200 and _about(call, path):
                return max((_at(call) - accepted).total_seconds(), 0.0)
        await asyncio.sleep(0.02)


def _about(call: dict[str, Any], path: str) -> bool:
    return call["path"].endswith(path) or call["path"].endswith(path.replace("%7C", "|"))


def _at(call: dict[str, Any]) -> datetime:
    at = call["at"]
    return datetime.fromtimestamp(at, UTC) if isinstance(at, float) else datetime.fromisoformat(at)


def main() -> None:
    logs.configure("text", "warning")
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        measured = asyncio.run(run(progress))
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "rows": [measured.as_row()],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    console.print(f"p50 {measured.p50} ms, p99 {measured.p99} ms, {measured.failures} above 2 s")
    sys.exit(1 if measured.failures else 0)


if __name__ == "__main__":
    main()
