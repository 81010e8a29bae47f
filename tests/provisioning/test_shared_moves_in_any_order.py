"""Two organizations share people, one of them moves some: at the end each membership is where it is wanted,
whatever came in whichever order while Auth0 failed."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from service.organizations import Organization
from service.people import User
from tests.provisioning.test_moves import either
from tests.provisioning.test_moves_in_any_order import FAULTS
from tests.provisioning.world import World

__all__ = ["either"]
pytestmark = pytest.mark.kill
POOL, OWN = "clinics-users", "hoekstra-users"
SEEDS = range(6)


async def declared(world: World, listed: bool) -> None:
    await world.declare()
    rule = {"name": OWN, "rules": [{"attributes": {"userType": ["Temporary"]}}]}
    for name in ("clinic-a", "clinic-b"):
        clinic = {
            "name": name,
            "model": "shared",
            "connections": [rule, {"name": POOL}] if name == "clinic-a" else [{"name": POOL}],
            "verified_domains": ["clinics.example"],
            "policies": {"moves": "follow"},
            "app_metadata_organizations": name if listed else "",
        }
        await world.apply(Organization.model_validate(clinic))


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_membership_is_where_it_is_wanted(either: World, seed: int) -> None:
    draw = Random(seed)
    listed = draw.random() < 0.5
    await declared(either, listed)
    either.work()
    known: dict[tuple[str, str], User | None] = {
        (clinic, person): None for clinic in ("clinic-a", "clinic-b") for person in ("n1", "n2")
    }
    log: list[str] = []
    for _ in range(draw.randrange(8, 22)):
        key = draw.choice(list(known))
        user = known[key]
        address = f"{key[1]}@clinics.example"
        if user is None:
            kind = draw.choice(("Temporary", "Staff"))
            log.append(f"{key} joins {kind}")
            known[key] = await either.join(key[0], address, externalId=key[1], userType=kind)
            continue
        what = draw.choice(("kind", "kind", "active", "delete", "fault", "rest", "crash", "rest"))
        log.append(f"{key} {what}")
        if what == "kind":
            kind = draw.choice(("Temporary", "Staff"))
            log[-1] += " " + kind
            await either.change(user, userType=kind)
        elif what == "active":
            active = draw.random() < 0.6
            log[-1] += f" {active}"
            await either.change(user, active=active)
        elif what == "delete":
            await either.delete(user)
            known[key] = None
        elif what == "fault":
            fault = draw.choice(FAULTS)
            log[-1] += f" {fault}"
            await either.fault(**fault, times=draw.choice((1, 3)))
        elif what == "crash":
            for task in either.running:
                task.cancel()
            await asyncio.gather(*either.running, return_exceptions=True)
            either.running.clear()
            either.work()
        else:
            await asyncio.sleep(draw.random() * 0.3)
    await either.mend()
    await either.settled(40)
    expected: set[tuple[str, str, str]] = set()
    for (clinic, person), user in known.items():
        if user is None:
            continue
        resource: Any = (await either.user(user)).resource
        if resource["active"]:
            home = OWN if clinic == "clinic-a" and resource["userType"] == "Temporary" else POOL
            expected.add((clinic, home, f"{person}@clinics.example"))
    state = await either.state()
    users = {user["user_id"]: user for user in state["users"]}
    found = {
        (m["organization"], users[m["user_id"]]["connection"], users[m["user_id"]]["email"])
        for m in state["members"]
    }
    assert found == expected, "\n".join(log)
    for user_id, user in users.items():
        within = {m["organization"] for m in state["members"] if m["user_id"] == user_id}
        assert user["blocked"] == (not within), "\n".join(log)
        told = set((user.get("app_metadata") or {}).get("organizations") or [])
        assert told == (within if listed else set()), "\n".join(log)
    bad = [e for e in await either.events() if e.state in ("accepted", "deadlettered")]
    assert bad == [], "\n".join(log)
