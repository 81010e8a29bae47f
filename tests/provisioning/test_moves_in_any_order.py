"""Whatever comes in whichever order while Auth0 fails: at the end everybody who is in has one way in, where
the rules say, and nobody else has any.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from service.directory import groups, locks, users
from service.directory.groups import MemberChange
from service.errors import ProvisionerError
from service.organizations import Organization
from service.people import User
from tests.provisioning.auth0 import call
from tests.provisioning.test_moves import either
from tests.provisioning.world import World

__all__ = ["either"]
pytestmark = pytest.mark.kill

SEEDS = range(6)
HOMES = {"Employee": "hoekstra-users", "Contractor": "clinics-users", "Guest": "conglomerate-users"}
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "status", "method": "POST", "path": "/users", "status": 503},
    {"kind": "status", "method": "POST", "path": "/users", "status": 429},
    {"kind": "drop-after-commit", "method": "POST", "path": "/users"},
    {"kind": "drop-after-commit", "method": "PATCH", "path": "/users/*"},
    {"kind": "status", "method": "PATCH", "path": "/users/*", "status": 503},
    {"kind": "status", "method": "GET", "path": "/users/*", "status": 500},
    {"kind": "status", "method": "POST", "path": "/organizations/*/members", "status": 500},
    {"kind": "drop-after-commit", "method": "DELETE", "path": "/organizations/*/members"},
)


async def declared(world: World, policies: dict[str, Any], listed: str) -> None:
    await world.declare()
    own = HOMES["Guest"]
    there = {"name": own, "strategy": "auth0", "enabled_clients": ["sample-app"]}
    await call(world, "POST", "/connections", there)
    rules = [
        {"name": own, "rules": [{"attributes": {"userType": ["Guest"]}}, {"groups": ["Guests"]}]},
        {
            "name": HOMES["Contractor"],
            "rules": [{"attributes": {"userType": ["Contractor"]}}],
        },
        {"name": HOMES["Employee"]},
    ]
    hoekstra = {
        "name": "hoekstra",
        "connections": rules,
        "policies": {"moves": "follow", **policies},
        "app_metadata_organizations": listed,
        "verified_domains": ["hoekstra.example"],
    }
    await world.apply(Organization.model_validate(hoekstra))


class Day:
    """What an identity provider and operators do to two people, drawn from a seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.draw = world, Random(seed)
        self.people: dict[str, User | None] = {"w1": None, "w2": None}
        self.log: list[str] = []
        self.group = ""

    async def begin(self) -> None:
        registered = await self.world.registered("hoekstra")
        resource = {"displayName": "Guests"}
        made = await self.world.database.transact(
            lambda tx: groups.create(tx, registered, resource, [], self.world.received("g"))
        )
        self.group = made.id

    async def step(self) -> None:
        worker = self.draw.choice(list(self.people))
        known = self.people[worker]
        if known is None:
            kind = self.draw.choice(list(HOMES))
            address = f"{worker}@hoekstra.example"
            self.log.append(f"{worker} joins as {kind}")
            self.people[worker] = await self.world.join(
                "hoekstra", address, externalId=worker, userType=kind
            )
            return
        what = self.draw.choice(
            (
                "kind",
                "kind",
                "kind",
                "active",
                "address",
                "delete",
                "group",
                "lock",
                "fault",
                "rest",
                "crash",
            )
        )
        self.log.append(f"{worker} {what}")
        await getattr(self, f"_{what}")(worker, known)

    async def _kind(self, worker: str, known: User) -> None:
        kind = self.draw.choice(list(HOMES))
        self.log[-1] += f" {kind}"
        await self.world.change(known, userType=kind)

    async def _active(self, worker: str, known: User) -> None:
        active = self.draw.random() < 0.6
        self.log[-1] += f" {active}"
        await self.world.change(known, active=active)

    async def _address(self, worker: str, known: User) -> None:
        address = self.draw.choice((f"{worker}@hoekstra.example", f"{worker}.b@hoekstra.example"))
        self.log[-1] += f" {address}"
        try:
            await self.world.change(
                known, userName=address, emails=[{"value": address, "primary": True}]
            )
        except ProvisionerError as error:
            self.log[-1] += f" ({error})"

    async def _delete(self, worker: str, known: User) -> None:
        await self.world.delete(known)
        self.people[worker] = None

    async def _group(self, worker: str, known: User) -> None:
        registered = await self.world.registered("hoekstra")
        ids = frozenset({known.id})
        comes = self.draw.random() < 0.5
        change = MemberChange(add=ids) if comes else MemberChange(remove=ids)
        self.log[-1] += f" {comes}"

        def work(tx: Any) -> Any:
            held = groups.lock(tx, "hoekstra", self.group)
            received = self.world.received("g")
            return groups.change(tx, registered, held, held.resource, change, received)

        await self.world.database.transact(work)

    async def _lock(self, worker: str, known: User) -> None:
        now = self.world.clock.now()
        lifts = self.draw.random() < 0.6

        def work(tx: Any) -> Any:
            if lifts:
                return locks.unblock(tx, known.id, actor="kim", now=now)
            return locks.block(tx, known.id, actor="kim", reason=None, now=now)

        self.log[-1] += f" lifts={lifts}"
        await self.world.database.transact(work)

    async def _fault(self, worker: str, known: User) -> None:
        fault = self.draw.choice(FAULTS)
        self.log[-1] += f" {fault}"
        await self.world.fault(**fault, times=self.draw.choice((1, 3)))

    async def _crash(self, worker: str, known: User) -> None:
        for task in self.world.running:
            task.cancel()
        await asyncio.gather(*self.world.running, return_exceptions=True)
        self.world.running.clear()
        self.world.work()

    async def _rest(self, worker: str, known: User) -> None:
        await asyncio.sleep(self.draw.random() * 0.3)

    async def expected(self) -> dict[str, str]:
        """Address to the connection that it lives in."""
        found: dict[str, str] = {}
        for known in self.people.values():
            if known is None:
                continue
            user = await self.world.user(known)
            if not (user.resource or {}).get("active") or user.locked_at is not None:
                continue
            members = await self.world.database.read(
                lambda tx, it=user.id: users.groups_of(tx, [it])[it]
            )
            kind = (user.resource or {})["userType"]
            found[user.identifier or ""] = HOMES["Guest" if members else kind]
        return found


@pytest.mark.parametrize("seed", SEEDS)
async def test_everybody_ends_where_the_rules_say_and_nowhere_else(
    either: World, seed: int
) -> None:
    day = Day(either, seed)
    policies = {
        "deletion": day.draw.choice(("keep", "delete")),
        "deletion_hold": "PT0S",
        "invite": day.draw.choice(("none", "ticket")),
    }
    await declared(either, policies, day.draw.choice(("", "hoekstra")))
    day.log.append(str(policies))
    await day.begin()
    either.work()
    for _ in range(day.draw.randrange(6, 16)):
        await day.step()
    await either.mend()
    await either.settled(40)
    state = await either.state()
    members = {each["user_id"] for each in state["members"]}
    is_open = {
        user["email"]: (user["connection"], user["user_id"] in members)
        for user in state["users"]
        if not user["blocked"]
    }
    assert is_open == {address: (home, True) for address, home in (await day.expected()).items()}, (
        "\n".join(day.log)
    )
    assert {user["user_id"] for user in state["users"] if user["blocked"]}.isdisjoint(members)
    for user in state["users"]:
        told = (user.get("app_metadata") or {}).get("organizations") or []
        assert not (user["blocked"] and told), "\n".join(day.log)
    still_open = [e for e in await either.events() if e.state in ("accepted", "deadlettered")]
    assert still_open == [], "\n".join(day.log)
