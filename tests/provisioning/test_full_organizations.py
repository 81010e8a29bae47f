"""An Organization that takes no more members: found out once, seen by an operator, tried now and then."""

from __future__ import annotations

from service.auth0.pacing import Pacer
from service.directory import overview
from service.directory.events import Filter
from tests.faults import proves
from tests.provisioning.world import World

MEMBERS = "/organizations/*/members"
FULL = {"statusCode": 403, "error": "Forbidden", "errorCode": "too_many_entities"}


async def retrying(world: World) -> list[str | None]:
    """What ``events list --retrying`` shows, by its users."""
    events = await world.database.read(
        lambda tx: overview.latest_events(tx, Filter(), retrying=True, limit=100)
    )
    return [event.user_id for event in events]


async def until_waiting(world: World, number: int) -> None:
    """Until so many wait for room, and one was told of it."""

    async def holds() -> bool:
        ended = [state for state, _, _ in await world.endings()].count("deadlettered")
        return len(await retrying(world)) == number and ended == 1

    await world.until(holds)


@proves("Organization full")
async def test_many_joiners_of_a_full_organization_cost_a_few_calls_and_are_seen_to_wait(
    world: World,
) -> None:
    await world.fault("status", "POST", MEMBERS, status=403, body=FULL)
    joiners = [await world.join("hoekstra", f"x{n}@hoekstra.example") for n in range(30)]
    # Calls are counted: at the tenant's own pace.
    pacer = Pacer("enterprise", world.clock)
    world.work(world.lanes(pacer=pacer))

    await until_waiting(world, 29)
    states = [(await world.user(each)).state for each in joiners]
    assert sorted(states) == ["failed"] + ["pending"] * 29
    ended = [ending for ending in await world.endings() if ending[0] != "accepted"]
    assert ended == [("deadlettered", None, "too_many_entities")]
    waiting = joiners[states.index("pending")]
    assert "organization_full" in str((await world.user(waiting)).detail)
    asked = len(await world.writes("POST", "/members"))
    assert asked <= 8, f"{asked}, where each by itself would be 33"


@proves("Organization full")
async def test_who_waits_goes_on_by_themselves_once_there_is_room(world: World) -> None:
    await world.fault("status", "POST", MEMBERS, status=403, body=FULL)
    joiners = [await world.join("hoekstra", f"x{n}@hoekstra.example") for n in range(12)]
    world.work()

    await until_waiting(world, 11)
    await world.mend()
    await world.settled()
    assert len(await world.members()) == 11
    states = sorted([(await world.user(each)).state for each in joiners])
    assert states == ["applied"] * 11 + ["failed"]
    assert await retrying(world) == []
    assert (await world.told()).count("membership.added") == 11


async def test_who_waits_for_room_may_leave(world: World) -> None:
    await world.fault("status", "POST", MEMBERS, status=403, body=FULL)
    joiners = [await world.join("hoekstra", f"x{n}@hoekstra.example") for n in range(2)]
    world.work()

    await until_waiting(world, 1)
    (waiting,) = [each for each in joiners if (await world.user(each)).state == "pending"]
    await world.change(waiting, active=False)
    await world.settled()
    assert (await world.user(waiting)).state == "applied"
    assert [state for state, _, _ in await world.endings()].count("accepted") == 0


async def test_another_organization_of_the_same_account_does_not_wait(world: World) -> None:
    world.work()
    await world.join("clinic-a", "other@clinics.example")
    await world.settled()
    state = await world.state()
    (full,) = [each["id"] for each in state["organizations"] if each["name"] == "clinic-a"]
    await world.fault("status", "POST", f"/organizations/{full}/members", status=403, body=FULL)
    await world.join("clinic-a", "finder@clinics.example")
    await world.settled()
    here = await world.join("clinic-a", "ada@clinics.example")
    there = await world.join("clinic-b", "ada@clinics.example")

    async def has_ended() -> bool:
        return (await world.user(there)).state == "applied"

    await world.until(has_ended)
    assert (await world.user(here)).state == "pending"
    assert ("clinic-b", "ada@clinics.example") in await world.members()
    assert await retrying(world) == [here.id]
    await world.mend()
    await world.settled()
    assert ("clinic-a", "ada@clinics.example") in await world.members()
    assert (await world.user(here)).state == "applied"


async def test_on_postgres_as_on_sqlite(postgres_world: World) -> None:
    world = postgres_world
    await world.fault("status", "POST", MEMBERS, status=403, body=FULL)
    for number in range(3):
        await world.join("hoekstra", f"x{number}@hoekstra.example")
    world.work()

    await until_waiting(world, 2)
    await world.mend()
    await world.settled()
    assert len(await world.members()) == 2
