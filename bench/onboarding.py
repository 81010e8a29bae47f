"""What it takes of Auth0 to onboard the users of one Organization: calls a user, use of the limit, 429s.

Each user is created, made a member, given one role and sent a ticket. The simulator runs in a
process of its own with the limits of a plan; the directory is SQLite. ``python -m bench.onboarding``
writes ``bench/results/onboarding.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from bench.budgets import Budget, report
from bench.world import simulated
from operators.sample.organizations import CLIENT_SECRET
from service import logs
from service.auth0.pacing import Pacer
from service.auth0.rates import GLOBAL, PLANS, Plan, Rate
from service.directory import tables as t
from service.directory.database import Transaction
from service.provisioning.lanes import LaneSettings
from tests.provisioning.world import World

MOST_CALLS, LEAST_USE, MOST_429S = 3.2, 0.95, 0.001
ROLE: Final = {"Staff": "member"}

_BUCKETS: Final = {
    "users_write": "users-write",
    "users_read": "users-read",
    "organization_members_write": "members-write",
    "organization_member_roles_write": "member-roles-write",
}
"""The simulator's names of endpoint groups to ours; all others are counted as ``other``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run. ``rival``: calls a second that somebody else makes of the narrowest group, in bursts
    of one, while we work."""

    name: str
    users: int
    plan: Plan = "enterprise"
    headers: Literal["group", "global"] = "group"
    rival: float = 0.0

    @property
    def deadline(self) -> float:
        """Seconds after which the run is given up: twice what the narrowest rate takes."""
        return 60 + 2 * self.users / (2.5 - self.rival)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a run came to.

    ``used``: of the limiting bucket, our calls between its first and its last one (``saturated``
    seconds), by what it gives in that time: its burst, its rate for as long, less what the rival
    had. Calls that were answered 429 count among the calls and not as use.
    """

    name: str
    users: int
    seconds: float
    calls_per_user: float
    calls: dict[str, int]
    limited: int
    limiting: str
    saturated: float
    used: float
    rival: int

    @property
    def kept(self) -> bool:
        return all(budget.kept for budget in self.budgets())

    def budgets(self) -> Sequence[Budget]:
        made = sum(self.calls.values())
        # One 429 more than the share allows is too many; none of a few calls is within it.
        most = math.ceil(max(1.0, MOST_429S * made)) - 1
        return (
            Budget(
                what=f"{self.name}: calls a user", wanted=MOST_CALLS, measured=self.calls_per_user
            ),
            Budget(
                what=f"{self.name}: use of the limiting bucket",
                wanted=LEAST_USE,
                measured=self.used,
                at_most=False,
            ),
            Budget(what=f"{self.name}: 429s", wanted=most, measured=self.limited),
        )


def cases(users: int) -> tuple[Case, ...]:
    fewer = max(users // 3, 100)
    return (
        Case(name="enterprise", users=users),
        Case(name="professional", users=fewer, plan="professional"),
        Case(name="enterprise, headers of the global bucket", users=fewer, headers="global"),
        Case(name="enterprise, a rival", users=fewer, rival=1.0),
    )


async def run(case: Case, tell: Callable[[str], None]) -> Cost:
    options = ("--plan", case.plan, "--rate-headers", case.headers)
    async with simulated(*options, deadline=case.deadline) as world:
        return await _measure(world, case, tell)


async def _measure(world: World, case: Case, tell: Callable[[str], None]) -> Cost:
    await world.declare(hoekstra={"roles": ROLE})
    tell(f"{case.name}: {case.users} users are hired")
    for number in range(case.users):
        attributes = {"email": f"in{number}@hoekstra.example"}
        await world.worker(
            "hoekstra", "hired", f"w{number}", attributes=attributes, groups=tuple(ROLE)
        )
    async with _rival(world, case.rival) as theirs:
        before = len(await world.calls())
        pacer = Pacer(case.plan, world.clock)
        world.work(world.lanes(settings=LaneSettings(), pacer=pacer))  # as in production
        began = world.clock.monotonic()
        while (left := await world.database.read(_left)) > 0:
            tell(f"{case.name}: {case.users - left} of {case.users} users")
            await asyncio.sleep(0.5)
        took = world.clock.monotonic() - began
        calls = (await world.calls())[before:]
    await world.rest()
    members = sum(
        member["organization"] == "hoekstra" for member in (await world.state())["members"]
    )
    assert members >= case.users, f"{members} members"
    assert len(world.mails()) == case.users
    mine = [call for call in calls if not theirs or theirs not in call["path"]]
    rivals = [call for call in calls if theirs and theirs in call["path"]]
    return _cost(case, took, mine, rivals)


def _left(transaction: Transaction) -> int:
    waiting = t.accounts.c.applied_revision < t.accounts.c.revision
    return transaction.execute(
        select(func.count()).select_from(t.accounts).where(waiting)
    ).scalar_one()


def _cost(
    case: Case, took: float, calls: Sequence[dict[str, Any]], rivals: Sequence[dict[str, Any]]
) -> Cost:
    plan = PLANS[case.plan]
    uses = {
        name: _use(name, plan, calls, rivals)
        for name in plan
        if any(name in _buckets_of(call, plan) for call in calls)
    }
    limiting = max(uses, key=lambda name: uses[name][0])
    counts: dict[str, int] = {}
    for call in calls:
        name = _BUCKETS.get(call["group"], "other")
        counts[name] = counts.get(name, 0) + 1
    return Cost(
        name=case.name,
        users=case.users,
        seconds=round(took, 1),
        calls_per_user=round(len(calls) / case.users, 3),
        calls=counts,
        limited=sum(call["status"] == 429 for call in calls),
        limiting=limiting,
        saturated=round(uses[limiting][1], 1),
        used=round(uses[limiting][0], 3),
        rival=len(rivals),
    )


def _use(
    name: str,
    plan: Mapping[str, Rate],
    calls: Sequence[dict[str, Any]],
    rivals: Sequence[dict[str, Any]],
) -> tuple[float, float]:
    """The share of a bucket that our calls took, and the seconds from the first to the last."""

    def granted(some: Sequence[dict[str, Any]]) -> list[float]:
        return [
            datetime.fromisoformat(call["at"]).timestamp()
            for call in some
            if call["status"] != 429 and name in _buckets_of(call, plan)
        ]

    ours = granted(calls)
    first, last = min(ours), max(ours)
    theirs = sum(first <= at <= last for at in granted(rivals))
    given = plan[name].burst + plan[name].per_second * (last - first)
    return len(ours) / (given - theirs), last - first


def _buckets_of(call: dict[str, Any], plan: Mapping[str, Rate]) -> tuple[str, ...]:
    own = _BUCKETS.get(call["group"], "other")
    if GLOBAL in plan:
        return (GLOBAL, own) if own in plan else (GLOBAL,)
    return (own if own in plan else "other",)


@asynccontextmanager
async def _rival(world: World, rate: float) -> AsyncGenerator[str]:
    """Somebody else who gives roles in this tenant, so often a second; their user's id."""
    if rate <= 0:
        yield ""
        return
    async with httpx.AsyncClient(base_url=world.url, timeout=30) as http:
        credentials = {"client_id": "provisioner", "client_secret": CLIENT_SECRET}
        granted = await http.post(
            "/oauth/token", json={"grant_type": "client_credentials", **credentials}
        )
        http.headers["Authorization"] = f"Bearer {granted.json()['access_token']}"
        user_id = await _stranger(http)
        organization = (await http.get("/api/v2/organizations/name/hoekstra")).json()["id"]
        role = (await http.get("/api/v2/roles")).json()[0]["id"]
        members = f"/api/v2/organizations/{organization}/members"
        (await http.post(members, json={"members": [user_id]})).raise_for_status()

        async def go_on() -> None:
            while True:
                await http.post(f"{members}/{user_id}/roles", json={"roles": [role]})
                await asyncio.sleep(1 / rate)

        going = asyncio.create_task(go_on())
        try:
            yield user_id
        finally:
            going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await going


async def _stranger(http: httpx.AsyncClient) -> str:
    body = {
        "connection": "clinics-users",
        "email": "rival@clinics.example",
        "password": "Someone-elses-1!",
        "verify_email": False,
    }
    made = await http.post("/api/v2/users", json=body)
    made.raise_for_status()
    return made.json()["user_id"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where a case costs more than it may."""
    parser = argparse.ArgumentParser(prog="bench.onboarding", description=__doc__)
    parser.add_argument("--users", type=int, default=1000, help="of the first case; others a third")
    parser.add_argument("--only", metavar="NAME", help="only the case of this name")
    asked = parser.parse_args(arguments)
    logs.configure("text", "warning")
    console = Console(stderr=True)
    wanted = [case for case in cases(asked.users) if asked.only in (None, case.name)]
    costs: list[Cost] = []
    with console.status("") as status:
        for case in wanted:
            costs.append(asyncio.run(run(case, status.update)))
            console.print(costs[-1])
    table = Table(
        "case", "users", "s", "calls/user", "429s", "limiting", "used", "", title="Onboarding"
    )
    for cost in costs:
        table.add_row(
            cost.name,
            str(cost.users),
            f"{cost.seconds:.0f}",
            f"{cost.calls_per_user:.2f}",
            str(cost.limited),
            cost.limiting,
            f"{cost.used:.1%}",
            "yes" if cost.kept else "no",
        )
    console.print(table)
    budgets = [budget for cost in costs for budget in cost.budgets()]
    return 0 if report("onboarding", "Onboarding", costs, budgets, console) else 1


if __name__ == "__main__":
    sys.exit(main())
