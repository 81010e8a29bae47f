"""How soon a leaver is locked out while 100,000 joiners wait: from acceptance to Auth0's own clock.

Leavers come one by one, then all at once. **blocked**: Auth0 has taken the block; **out**: it has
taken the order to end sessions and refresh tokens too. The simulator runs in a process of its own,
with the enterprise plan's limits; the directory is SQLite. ``python -m bench.leavers`` writes
``bench/results/leavers.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from rich.console import Console
from rich.progress import Progress
from sqlalchemy import select, update

from bench.budgets import Budget, report
from bench.world import simulated
from service import logs
from service.auth0.pacing import Pacer
from service.directory import accounts
from service.directory import tables as t
from service.directory.database import Transaction
from service.organizations import MassLeavers, Policies
from service.people import User
from service.provisioning.lanes import LaneSettings
from tests.directory.crowd import settle_in
from tests.provisioning.world import World

JOINERS, LEAVERS, PROMISE = 100_000, 50, 2.0
DEADLINE: Final = 240.0
"""Seconds after which the run is given up."""
ALL_AT_ONCE: Final = MassLeavers(count=1_000_000)
"""So many leave before any of them waits for an operator."""
_RAMP: Final = 10.0
"""Seconds that the lanes have been full for when the first one leaves."""

_REST: Final = 5.0
"""Seconds between those who come one by one, quickly, and those who come at once: joiners leave
what is kept for leavers alone, and so it fills up again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOut:
    """How long it took, in milliseconds. ``late``: how many were not blocked within 2 s."""

    name: str
    leavers: int
    joiners: int
    blocked_p50: float
    blocked_p99: float
    out_p50: float
    out_p99: float
    late: int


async def run(progress: Progress, joiners: int) -> list[LockOut]:
    async with simulated("--plan", "enterprise", deadline=DEADLINE, kept=True) as world:
        return await _measure(world, progress, joiners)


async def _measure(world: World, progress: Progress, joiners: int) -> list[LockOut]:
    # Those who leave are to be locked out, however few have joined.
    await world.declare(hoekstra={"policies": Policies(mass_leavers=ALL_AT_ONCE)})
    world.work(world.lanes(settings=LaneSettings(), pacer=Pacer("enterprise", world.clock)))
    bar = progress.add_task("those who will leave join", total=2 * LEAVERS)
    leaving = [await world.join("hoekstra", f"out{n}@hoekstra.example") for n in range(2 * LEAVERS)]
    while (left := await _pending(world, leaving)) > 0:
        progress.update(bar, completed=len(leaving) - left)
        await asyncio.sleep(0.2)
    progress.update(bar, completed=len(leaving))
    bar = progress.add_task(f"{joiners} joiners queue", total=joiners)
    for done in range(0, joiners, 5000):
        await _queue(world, min(5000, joiners - done), f"in{done}")
        progress.update(bar, completed=done + 5000)
    await asyncio.sleep(_RAMP)
    bar = progress.add_task("leavers", total=2 * LEAVERS)
    took: list[tuple[float, float]] = []
    for user in leaving[:LEAVERS]:
        took += await lock_out(world, [user])
        progress.update(bar, advance=1)
    apart = _figures("one by one", took, joiners)
    await asyncio.sleep(_REST)
    together = _figures("at once", await lock_out(world, leaving[LEAVERS:]), joiners)
    progress.update(bar, completed=2 * LEAVERS)
    await world.rest()
    return [apart, together]


async def _queue(world: World, count: int, name: str) -> None:
    """So many accounts, set-wise, of people who have joined and whom Auth0 has not heard of."""
    now = world.clock.now()

    def queue(tx: Transaction) -> None:
        ids = settle_in(tx, "hoekstra", count, now, name=name)
        first, last = ids[0], ids[-1]
        here = t.users.c.id.between(first, last)
        waiting = select(t.users.c.account_id).where(here)
        tx.execute(
            update(t.accounts)
            .where(t.accounts.c.id.in_(waiting))
            .values(applied_revision=0, due_at=now)
        )
        tx.execute(update(t.users).where(here).values(state="pending", last_applied_at=None))

    await world.database.transact(queue)


async def _pending(world: World, users: list[User]) -> int:
    states = [(await world.user(user)).state for user in users]
    return sum(state != "applied" for state in states)


async def newest_call(world: World, after: int = 0) -> int:
    """The number of the newest call. ``after``: of one before it: to read all of them takes a while."""
    while page := await world.calls(after):
        after = page[-1]["number"]
    return after


async def lock_out(
    world: World, users: Sequence[User], *, after: int = 0
) -> list[tuple[float, float]]:
    """Seconds from the commit of each leave until Auth0 has taken the block, and the revocation.

    ``after``: see ``newest_call``.
    """
    auth0_ids = [await _auth0_id(world, user) for user in users]
    seen = await newest_call(world, after)
    accepted: dict[str, datetime] = {}

    async def leave(user: User, auth0_id: str) -> None:
        await world.change(user, active=False)
        accepted[auth0_id] = world.clock.now()

    await asyncio.gather(*map(leave, users, auth0_ids))
    blocked: dict[str, float] = {}
    out: dict[str, float] = {}
    while len(blocked) < len(users) or len(out) < len(users):
        await asyncio.sleep(0.05)
        for call in await world.calls(seen):
            seen = call["number"]
            _, _, about = call["path"].partition("/users/")
            auth0_id, _, verb = about.replace("%7C", "|").partition("/")
            if auth0_id not in accepted or call["status"] not in (200, 202):
                continue
            passed = datetime.fromisoformat(call["at"]) - accepted[auth0_id]
            kept = out if verb == "revoke-access" else blocked
            kept.setdefault(auth0_id, max(passed.total_seconds(), 0.0))
    return [(blocked[each], out[each]) for each in auth0_ids]


async def _auth0_id(world: World, user: User) -> str:
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    account = await world.database.read(lambda tx: accounts.get(tx, account_id))
    assert account is not None
    return account.user_id


def _figures(name: str, took: list[tuple[float, float]], joiners: int) -> LockOut:
    blocked, out = ([round(one * 1000, 1) for one in each] for each in zip(*took, strict=True))
    blocked_cuts, out_cuts = (
        statistics.quantiles(each, n=100, method="inclusive") for each in (blocked, out)
    )
    return LockOut(
        name=name,
        leavers=len(took),
        joiners=joiners,
        blocked_p50=round(blocked_cuts[49], 1),
        blocked_p99=round(blocked_cuts[98], 1),
        out_p50=round(out_cuts[49], 1),
        out_p99=round(out_cuts[98], 1),
        late=sum(one > PROMISE * 1000 for one in blocked),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where somebody was late."""
    parser = argparse.ArgumentParser(prog="bench.leavers", description=__doc__)
    parser.add_argument("--joiners", type=int, default=JOINERS)
    asked = parser.parse_args(arguments)
    logs.configure("text", "warning")
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        found = asyncio.run(run(progress, asked.joiners))
    for one in found:
        console.print(
            f"{one.leavers} leavers {one.name}, {one.joiners} joiners waiting: blocked p50"
            f" {one.blocked_p50} ms, p99 {one.blocked_p99} ms, out p50 {one.out_p50} ms, p99"
            f" {one.out_p99} ms, {one.late} blocked after 2 s"
        )
    return 0 if report("leavers", "Leavers", found, budgets(found), console) else 1


def budgets(found: Sequence[LockOut]) -> list[Budget]:
    """Those who come one by one are out in time, and any crowd is blocked in time."""
    out = Budget(
        what=f"ms until out, {found[0].name}, p99", wanted=PROMISE * 1000, measured=found[0].out_p99
    )
    late = [
        Budget(what=f"blocked after {PROMISE:g} s, {one.name}", wanted=0, measured=one.late)
        for one in found
    ]
    return [out, *late]


if __name__ == "__main__":
    sys.exit(main())
