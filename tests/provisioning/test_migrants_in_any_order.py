"""Whatever befalls an import with hashes while people leave, change and come by other doors: each row ends,
nobody is made without the password that was to come, and nobody who left can log in."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from service.directory import migrants, people
from service.organizations import Policies
from tests.provisioning.test_migrants import NEVER, at_work, lonely, moving, person, sealed
from tests.provisioning.test_migrants_and_others import stored
from tests.provisioning.world import World

__all__ = ["lonely", "moving"]
pytestmark = pytest.mark.kill
SEEDS = range(6)
SETTINGS = replace(NEVER, give_up=5.0)
JOBS = "/jobs/users-imports"
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "job-fails", "method": "POST", "path": JOBS},
    {"kind": "job-refuses", "method": "POST", "path": JOBS},
    {"kind": "status", "method": "POST", "path": JOBS, "status": 503},
    {"kind": "status", "method": "POST", "path": JOBS, "status": 429},
    {"kind": "drop-after-commit", "method": "POST", "path": JOBS},
    {"kind": "drop-before", "method": "POST", "path": JOBS},
    {"kind": "status", "method": "GET", "path": "/jobs/*", "status": 404},
    {"kind": "status", "method": "GET", "path": "/jobs/*", "status": 500},
    {"kind": "status", "method": "GET", "path": "/jobs/*/errors", "status": 500},
    {"kind": "status", "method": "GET", "path": "/users/*", "status": 500},
    {"kind": "drop-after-commit", "method": "PATCH", "path": "/users/*"},
)


@pytest.mark.parametrize("seed", SEEDS)
async def test_each_row_of_a_file_ends(moving: World, seed: int) -> None:
    draw = Random(seed)
    await moving.declare(
        hoekstra={"policies": Policies(invite=draw.choice(("none", "ticket")))},
    )
    rows = [person(n) for n in range(6)]
    log: list[str] = []
    for _ in range(draw.randrange(0, 4)):
        fault = draw.choice(FAULTS)
        log.append(str(fault))
        await moving.fault(**fault, times=draw.choice((1, 2, 4)))
    if draw.random() < 0.5:
        at_work(moving, SETTINGS)
    told = {row.email or "": row.user_id or "" for row in await stored(moving, rows)}
    if not moving.running:
        at_work(moving, SETTINGS)
    gone: set[str] = set()
    changed: dict[str, str] = {}
    for _ in range(draw.randrange(0, 6)):
        await asyncio.sleep(draw.random() * 0.15)
        address = draw.choice(list(told))
        user = await moving.database.read(lambda tx, it=told[address]: people.get(tx, it))
        assert user is not None
        what = draw.choice(("leave", "change", "delete", "crash", "title"))
        log.append(f"{address} {what}")
        if what == "crash":
            for task in moving.running:
                task.cancel()
            await asyncio.gather(*moving.running, return_exceptions=True)
            moving.running.clear()
            at_work(moving, SETTINGS)
        elif address in gone:
            continue
        elif what == "leave":
            await moving.change(user, active=False)
            gone.add(address)
        elif what == "delete":
            await moving.delete(user)
            gone.add(address)
        elif what == "change":
            later = f"later.{address}"
            changed[address] = later
            await moving.change(user, userName=later, emails=[{"value": later, "primary": True}])
        else:
            await moving.change(user, title="Partner")
    await moving.mend()
    await moving.settled(40)
    assert await sealed(moving) == [], "\n".join(log)
    (run,) = await moving.database.read(lambda tx: migrants.runs(tx, "hoekstra"))
    assert run.waiting == 0
    state = await moving.state()
    by_address = {user["email"]: user for user in state["users"]}
    members = {each["user_id"] for each in state["members"]}
    known = await moving.database.read(
        lambda tx: {each.user_id: each for each in migrants.of_run(tx, "hoekstra", run.run)}
    )
    for address, user_id in told.items():
        now_at = changed.get(address, address)
        user = by_address.get(now_at) or by_address.get(address)
        if address in gone:
            assert user is None or user["blocked"], "\n".join([address, *log])
            continue
        stands = known[user_id]
        here = await moving.database.read(lambda tx, it=user_id: people.get(tx, it))
        said = "\n".join([f"{address} {stands} {here}", *log])
        assert here is not None
        if stands.state == "created":
            assert user is not None, said
            assert user["email"] == now_at, said
            assert user["keeps_imported_password"], said
            assert not user["blocked"], said
            assert user["user_id"] in members, said
            assert here.state == "applied", said
        else:
            assert stands.state == "refused", said
            assert user is None or not user["keeps_imported_password"], said
            assert here.state == ("failed" if user is None else "applied"), said
