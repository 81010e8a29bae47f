"""What a compare of 100,000 users of a tenant costs, and whether leavers notice: calls, time, memory.

Users are read by an export job, members by pages. Some users were changed in Auth0 behind our back,
and some are strangers. The simulator runs in a process of its own, with the enterprise plan's
limits; the directory is SQLite. ``python -m bench.drift [--people N] [--quick]`` writes
``bench/results/drift.json``.
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

from bench.budgets import Budget, report
from bench.crowd import Person, copies, spoil, strangers
from bench.leavers import ALL_AT_ONCE, lock_out, newest_call
from bench.watching import Watched, watching
from bench.world import simulated
from operators.sample.organizations import CLIENT_SECRET
from service import logs
from service.auth0.calls import http_client
from service.auth0.client import Auth0Client
from service.auth0.pacing import Pacer
from service.auth0.rates import PLANS
from service.directory import drift, people
from service.directory.drift import Check
from service.mail import FolderMailer
from service.organizations import Policies
from service.people import User
from service.provisioning.drift import DriftChecks
from service.provisioning.lanes import Lanes
from service.provisioning.perform import Performer
from service.provisioning.tenancy import Tenancy
from tests.provisioning.world import World, tenant_of

PEOPLE: Final = 100_000
FEW: Final = 5_000
EACH: Final = 25
"""So many were renamed, blocked, taken out of the Organization; and so many are strangers."""
LEAVERS: Final = 20
SHARE: Final = 0.1
DEADLINE: Final = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a check came to. ``blocked``: seconds until each leaver's block was taken meanwhile."""

    people: int
    cost: Watched
    result: dict[str, int]
    corrected: int
    blocked: list[float]

    def budgets(self) -> Sequence[Budget]:
        made = sum(self.cost.calls.values())
        pages = self.people / 100
        # A difference is read again by itself, and those that are mended take a few calls each.
        apart = 12 * (4 * EACH + LEAVERS) + 60
        narrowest = PLANS["enterprise"]["members-read"].per_second
        return (
            Budget(
                what="differences found",
                wanted=3 * EACH,
                measured=self.result.get("differ", 0),
                at_most=False,
            ),
            Budget(
                what="strangers found",
                wanted=EACH,
                measured=self.result.get("unknown", 0),
                at_most=False,
            ),
            Budget(what="corrected", wanted=2 * EACH, measured=self.corrected, at_most=False),
            Budget(
                what="seconds, by its share of the plan's rate",
                wanted=round(60 + pages / (narrowest * SHARE)),
                measured=round(self.cost.seconds, 1),
            ),
            Budget(what="calls to Auth0", wanted=round(pages + apart), measured=made),
            Budget(what="429s", wanted=round(made / 1000, 1), measured=self.cost.limited),
            *self.cost.budgets(),
            Budget(
                what="s until a leaver is blocked meanwhile, p99",
                wanted=2.0,
                measured=round(_p99(self.blocked), 3),
            ),
        )


def _p99(took: Sequence[float]) -> float:
    return statistics.quantiles(took, n=100, method="inclusive")[98]


async def run(count: int, tell: Callable[[str], None]) -> Compared:
    async with simulated("--plan", "enterprise", deadline=DEADLINE, kept=True) as world:
        tell(f"{count} people join")
        crowd = await _crowd(world, count)
        async with watching(world) as cost:
            world.work(_comparing(world))
            check_id = await world.database.transact(
                lambda tx: drift.ask(
                    tx, "main", "hoekstra", correct=False, asked_by="bench", now=world.clock.now()
                )
            )
            blocked = await _leave(world, crowd[:LEAVERS])
            check = await _ended(world, check_id, tell)
            while left := await world.database.read(
                lambda tx: drift.being_corrected(tx, "main", 200)
            ):
                tell(f"{len(left)} are being corrected")
                await asyncio.sleep(0.5)
        await world.rest()
        assert check.error is None, check.error
        return Compared(
            people=count,
            cost=cost,
            result=dict(check.result or {}),
            corrected=await _corrected(world),
            blocked=blocked,
        )


async def _crowd(world: World, count: int) -> list[Person]:
    """All as it should be, but for some of them."""
    policies = Policies(invite="none", drift="correct", mass_leavers=ALL_AT_ONCE)
    await world.declare(hoekstra={"policies": policies})
    world.work()
    first = await world.join("hoekstra", "first@hoekstra.example")
    await world.settled()
    await world.rest()
    crowd = await copies(world, first, count, name="crowd")
    renamed, blocked, out = (crowd[-EACH * n : -EACH * (n - 1) or None] for n in (1, 2, 3))
    change = "UPDATE users SET document = json_set(document, {}) WHERE user_id = ?"
    spoil(world, change.format("'$.given_name', 'Somebody'"), _ids(renamed))
    spoil(world, change.format("'$.blocked', json('true')"), _ids(blocked))
    for table in ("members", "member_index"):
        spoil(world, f"DELETE FROM {table} WHERE user_id = ?", _ids(out))
    strangers(world, crowd[0], EACH)
    return crowd


def _ids(some: Sequence[Person]) -> list[tuple[str, ...]]:
    return [(person.auth0_id,) for person in some]


def _comparing(world: World) -> Tenancy:
    """Lanes and checks of the tenant, as in production."""
    client = Auth0Client(
        tenant_of(world),
        CLIENT_SECRET,
        clock=world.clock,
        pacer=Pacer("enterprise", world.clock, share=SHARE),
        http=http_client(),
    )
    performer = Performer(
        client, mailer=FolderMailer(world.folder / "mail"), sender="no@example.com"
    )
    lanes = Lanes("main", database=world.database, performer=performer, clock=world.clock)
    checks = DriftChecks("main", database=world.database, client=client, clock=world.clock)
    return Tenancy(
        "main",
        database=world.database,
        client=client,
        works=(lanes, checks),
        clock=world.clock,
        owner="bench#1",
    )


async def _leave(world: World, some: Sequence[Person]) -> list[float]:
    took: list[float] = []
    seen = 0
    for person in some:
        seen = await newest_call(world, seen)
        user = await _user(world, person)
        took += [blocked for blocked, _ in await lock_out(world, [user], after=seen)]
        await asyncio.sleep(1.0)
    return took


async def _user(world: World, person: Person) -> User:
    found = await world.database.read(lambda tx: people.get(tx, person.user_id))
    assert found is not None
    return found


async def _ended(world: World, check_id: str, tell: Callable[[str], None]) -> Check:
    while True:
        check = await world.database.read(lambda tx: drift.get(tx, check_id))
        assert check is not None
        if check.ended_at is not None:
            return check
        tell(f"{check.progress['phase']}: {check.progress['done']} of {check.progress['total']}")
        await asyncio.sleep(1.0)


async def _corrected(world: World) -> int:
    told: list[Any] = await world.told()
    return told.count("drift.corrected")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where something was missed."""
    parser = argparse.ArgumentParser(prog="bench.drift", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--quick", action="store_true", help=f"{FEW} people")
    asked = parser.parse_args(arguments)
    logs.configure("text", "warning")
    console = Console(stderr=True)
    count = FEW if asked.quick else asked.people
    with console.status("") as status:
        found = asyncio.run(run(count, status.update))
    console.print(found)
    kept = report("drift", f"A check of {count:,} users", [found], found.budgets(), console)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
