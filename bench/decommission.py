"""What the end of an organization with 10,000 users costs, and who of another one notices.

Everybody is locked out and taken out of the Organization, then deleted after a hold of no time, and
what was made for it goes last. Then the same of a smaller one with a hold, which is taken back. The
simulator runs in a process of its own, with the enterprise plan's limits; the directory is SQLite.
``python -m bench.decommission [--people N] [--quick]`` writes ``bench/results/decommission.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from sqlalchemy import func, select

from bench.budgets import Budget, report
from bench.crowd import copies
from bench.leavers import ALL_AT_ONCE, lock_out, newest_call
from bench.watching import Watched, watching
from bench.world import simulated
from service import logs
from service.auth0.pacing import Pacer
from service.auth0.rates import GLOBAL, PLANS
from service.directory import decommissions
from service.directory import tables as t
from service.directory.database import Transaction
from service.organizations import Policies
from service.people import User
from service.provisioning.decommissioning import Decommissions
from service.provisioning.fleet import FanOuts
from service.provisioning.lanes import LaneSettings
from tests.provisioning.test_setup import declare, set_up
from tests.provisioning.world import World

PEOPLE: Final = 10_000
FEW: Final = 300
LEAVERS: Final = 20
MOST_CALLS: Final = 3.3
"""A user: the block, the end of sessions, a tenth of a removal, the deletion; with what is read."""
MOST_BACK: Final = 1.4
"""A user who comes back: the block is lifted, a tenth of a membership; with what is read."""
LEAST_USE: Final = 0.85
NOW: Final[dict[str, Any]] = {"deletion": "delete", "deletion_hold": "PT0S"}
LATER: Final[dict[str, Any]] = {"deletion": "delete", "deletion_hold": "P30D"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """``stages``: seconds until each began. ``used``: of the whole plan's rate, by all our calls.
    ``blocked``: seconds until each leaver of another organization was."""

    name: str
    people: int
    cost: Watched
    stages: dict[str, float]
    calls_per_user: float
    used: float
    blocked: list[float]

    def budgets(self) -> Sequence[Budget]:
        back = self.name == "taken back"
        most = MOST_BACK if back else MOST_CALLS
        found = [
            Budget(what="calls a user", wanted=most, measured=round(self.calls_per_user, 3)),
            Budget(
                what="429s",
                wanted=max(1.0, sum(self.cost.calls.values()) / 1000),
                measured=self.cost.limited,
            ),
            *self.cost.budgets(),
        ]
        if not back:
            found.append(
                Budget(
                    what="of the plan's rate",
                    wanted=LEAST_USE,
                    measured=round(self.used, 3),
                    at_most=False,
                )
            )
        if self.blocked:
            cuts = statistics.quantiles(self.blocked, n=100, method="inclusive")
            found.append(
                Budget(
                    what="s until another one's leaver is blocked, p99",
                    wanted=2.0,
                    measured=round(cuts[98], 3),
                )
            )
        return [
            Budget(
                what=f"{self.name}: {each.what}",
                wanted=each.wanted,
                measured=each.measured,
                at_most=each.at_most,
            )
            for each in found
        ]


async def run(name: str, count: int, tell: Callable[[str], None]) -> Ended:
    # Four calls a user at 16 a second, and as much again.
    async with simulated("--plan", "enterprise", deadline=180 + count / 2, kept=True) as world:
        back = name == "taken back"
        tell(f"{name}: {count} people join")
        leavers = await _settled(world, count, LATER if back else NOW)
        if back:
            await _end(world, leavers[:0], "held", tell)
        async with watching(world) as cost:
            if back:
                stages, blocked = await _take_back(world, tell), []
            else:
                stages, blocked = await _end(world, leavers, "ended", tell)
        apart = 3 * len(blocked)  # a leaver's own: the block, the removal, the end of sessions
        made = sum(cost.calls.values())
        rate = PLANS["enterprise"][GLOBAL]
        given = rate.burst + rate.per_second * cost.seconds
        return Ended(
            name=name,
            people=count,
            cost=cost,
            stages={stage: round(at, 1) for stage, at in stages.items()},
            calls_per_user=(made - apart) / count,
            used=made / given,
            blocked=blocked,
        )


async def _settled(world: World, count: int, policies: dict[str, Any]) -> list[User]:
    """An organization with so many people, and those of another one who will leave."""
    await world.declare(hoekstra={"policies": Policies(mass_leavers=ALL_AT_ONCE)})
    await declare(world, policies=policies)
    await set_up(world, within=60)
    first = await world.join("acme", "first@acme.example")
    leavers = [await world.join("hoekstra", f"out{n}@hoekstra.example") for n in range(LEAVERS)]
    await world.settled(within=120)
    await world.rest()
    await copies(world, first, count - 1, name="crowd")
    return leavers


def _work(world: World) -> None:
    """As in production."""
    world.work(world.lanes(settings=LaneSettings(), pacer=Pacer("enterprise", world.clock)))
    for worker in (
        Decommissions(database=world.database, clock=world.clock),
        FanOuts(database=world.database, clock=world.clock),
    ):
        world.running.append(asyncio.create_task(worker.run(world.stop)))


async def _end(
    world: World, leavers: Sequence[User], last: str, tell: Callable[[str], None]
) -> tuple[dict[str, float], list[float]]:
    _work(world)
    now, began = world.clock.now(), world.clock.monotonic()
    await world.database.transact(lambda tx: decommissions.begin(tx, "acme", actor="kim", now=now))
    leaving = asyncio.create_task(_leave(world, leavers))
    stages: dict[str, float] = {}
    while last not in stages:
        found = await world.database.read(lambda tx: decommissions.find(tx, "acme"))
        assert found is not None
        stages.setdefault(found.stage, world.clock.monotonic() - began)
        left = await world.database.read(lambda tx: decommissions.progress(tx, "acme"))
        tell(f"{found.stage}: {left.left} of {left.housed} left, {left.failed} failed")
        await asyncio.sleep(1.0)
    blocked = await leaving
    await world.rest()
    return stages, blocked


async def _take_back(world: World, tell: Callable[[str], None]) -> dict[str, float]:
    _work(world)
    now, began = world.clock.now(), world.clock.monotonic()
    await world.database.transact(lambda tx: decommissions.undo(tx, "acme", actor="kim", now=now))
    while left := await world.database.read(_out):
        tell(f"{left} are still out")
        await asyncio.sleep(1.0)
    took = world.clock.monotonic() - began
    await world.rest()
    members = (await world.state())["members"]
    assert sum(each["organization"] == "acme" for each in members) > 0
    return {"back": took}


def _out(transaction: Transaction) -> int:
    users = t.users.c
    waiting = select(func.count()).where(users.organization == "acme", users.state != "applied")
    untouched = select(func.count()).select_from(t.fanouts)
    return sum(transaction.execute(query).scalar_one() for query in (waiting, untouched))


async def _leave(world: World, some: Sequence[User]) -> list[float]:
    took: list[float] = []
    seen = await newest_call(world)
    for user in some:
        await asyncio.sleep(2.0)
        seen = await newest_call(world, seen)
        took += [blocked for blocked, _ in await lock_out(world, [user], after=seen)]
    return took


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where something was missed."""
    parser = argparse.ArgumentParser(prog="bench.decommission", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help="a tenth of them come back")
    parser.add_argument("--quick", action="store_true", help=f"{FEW} people")
    asked = parser.parse_args(arguments)
    logs.configure("text", "warning")
    console = Console(stderr=True)
    count = FEW if asked.quick else asked.people
    found: list[Ended] = []
    with console.status("") as status:
        for name, some in (("ended", count), ("taken back", max(count // 10, 100))):
            found.append(asyncio.run(run(name, some, status.update)))
            console.print(found[-1])
    budgets = [budget for each in found for budget in each.budgets()]
    return 0 if report("decommission", f"The end of {count:,}", found, budgets, console) else 1


if __name__ == "__main__":
    sys.exit(main())
