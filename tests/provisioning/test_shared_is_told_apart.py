"""Of a shared account each organization hears what it has done itself, and nothing of the others."""

from __future__ import annotations

from typing import Any

from service.people import User
from tests.provisioning.world import World

DOCTOR = "n.okafor@clinics.example"


async def _both(world: World, **of_a: Any) -> tuple[User, User]:
    """In both clinics; the second has said something last."""
    world.work()
    a = await world.join("clinic-a", DOCTOR, **of_a)
    await world.settled()
    b = await world.join("clinic-b", DOCTOR)
    await world.settled()
    await world.change(b, title="Dr")
    await world.settled()
    return a, b


async def _heard(world: World, user: User, before: int) -> list[str]:
    told = [one for one in (await world.told(user))[before:] if not one.startswith("event.")]
    return sorted(told)


async def test_whose_person_hr_terminates_alone_hears_of_it(world: World) -> None:
    a, b = await _both(world, externalId="w-1")
    of_a, of_b = len(await world.told(a)), len(await world.told(b))
    await world.worker("clinic-a", "terminated", "w-1")
    await world.settled()
    assert await world.members() == {("clinic-b", DOCTOR)}
    assert await _heard(world, a, of_a) == ["access.revoked", "membership.removed"]
    assert await _heard(world, b, of_b) == []


async def test_who_was_left_last_hears_of_the_block(world: World) -> None:
    a, b = await _both(world, externalId="w-1")
    await world.change(b, active=False)
    await world.settled()
    of_a, of_b = len(await world.told(a)), len(await world.told(b))
    await world.worker("clinic-a", "terminated", "w-1")
    await world.settled()
    assert await _heard(world, a, of_a) == [
        "access.revoked",
        "access.revoked",
        "membership.removed",
        "user.blocked",
    ]
    assert await _heard(world, b, of_b) == []


async def test_who_takes_the_person_in_again_hears_of_it_alone(world: World) -> None:
    a, b = await _both(world, externalId="w-1")
    await world.worker("clinic-a", "terminated", "w-1")
    await world.change(b, active=False)
    await world.settled()
    await world.change(b, title="Prof")
    await world.settled()
    of_a, of_b = len(await world.told(a)), len(await world.told(b))
    await world.worker("clinic-a", "rehired", "w-1")
    await world.settled()
    assert await _heard(world, a, of_a) == ["membership.added", "user.unblocked"]
    assert await _heard(world, b, of_b) == []


async def test_two_changes_at_once_are_told_to_those_who_asked(world: World) -> None:
    a, b = await _both(world, externalId="w-1")
    await world.rest()
    of_a, of_b = len(await world.told(a)), len(await world.told(b))
    await world.worker("clinic-a", "terminated", "w-1")
    await world.change(b, title="Prof")
    world.work()
    await world.settled()
    assert await _heard(world, a, of_a) == ["access.revoked", "membership.removed"]
    assert await _heard(world, b, of_b) == []


async def test_a_creation_is_told_to_who_is_in(world: World) -> None:
    """And not to who has left again before there was anything."""
    a = await world.join("clinic-a", DOCTOR)
    b = await world.join("clinic-b", DOCTOR, externalId="w-1")
    await world.change(a, active=False)
    world.work()
    await world.settled()
    assert "user.created" in await world.told(b)
    assert await _heard(world, a, 0) == []
