"""Batches of memberships as the lanes make them: few calls for many joiners, each with its own ending."""

from __future__ import annotations

from service.auth0.pacing import Group, Pacer
from service.provisioning.tenancy import Tenancy
from tests.provisioning import auth0
from tests.provisioning.world import World


def drained(world: World, group: Group, limit: int, left: int) -> Tenancy:
    """Lanes whose tenant has so many tokens left for this group: joiners wait for half of them."""
    pacer = Pacer("enterprise", world.clock)
    headers = {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(left)}
    pacer.learn(group, headers, limited=False, epoch=0.0)
    return world.lanes(pacer=pacer)


async def created(world: World, count: int) -> None:
    async def all_there() -> bool:
        return len((await world.state())["users"]) == count

    await world.until(all_there)


async def test_a_crowd_of_joiners_takes_a_request_for_ten(world: World) -> None:
    for number in range(30):
        await world.join("hoekstra", f"user{number}@hoekstra.example")
    world.work(drained(world, "members-write", 20, left=8))
    await world.settled()
    assert len(await world.members()) == 30
    assert len(await world.writes("POST", "/members")) <= 6
    assert len(world.mails()) == 30


async def test_one_who_is_gone_from_auth0_spoils_nothing_for_the_others(world: World) -> None:
    """Somebody deletes a user in Auth0 between creation and membership."""
    users = [await world.join("hoekstra", f"user{n}@hoekstra.example") for n in range(3)]
    world.work(drained(world, "members-write", 20, left=8))
    await created(world, 3)
    gone = await world.auth0_user("user1@hoekstra.example")
    assert gone is not None
    await auth0.call(world, "DELETE", f"/users/{gone['user_id'].replace('|', '%7C')}")
    await world.settled()
    states = [(await world.user(user)).state for user in users]
    assert states == ["applied", "failed", "applied"]
    sent = [call["status"] for call in await world.writes("POST", "/members")]
    assert sorted(sent) == [204, 204, 400, 400]


async def test_an_answer_that_is_lost_is_in_doubt_for_all_and_repeated_without_harm(
    world: World,
) -> None:
    users = [await world.join("hoekstra", f"user{n}@hoekstra.example") for n in range(6)]
    await world.fault("drop-after-commit", "POST", "/organizations/*/members", times=1)
    world.work(drained(world, "members-write", 20, left=9))
    await world.settled()
    assert [(await world.user(user)).state for user in users] == ["applied"] * 6
    assert len(await world.members()) == 6
    for user in users:
        assert (await world.told(user)).count("membership.added") == 1


async def test_who_leaves_before_being_created_is_never_created(world: World) -> None:
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    bob = await world.join("hoekstra", "bob@hoekstra.example")
    world.work(drained(world, "users-write", 50, left=10))

    async def both_wait() -> bool:
        return len(await world.in_doubt()) == 2

    await world.until(both_wait)
    await world.change(ada, active=False)
    await world.settled()
    assert (await world.told(ada))[-1] == "event.succeeded"
    assert await world.auth0_user("ada@hoekstra.example") is None
    assert (await world.user(bob)).state == "applied"


async def test_who_leaves_while_waiting_to_be_a_member_is_blocked_and_no_member(
    world: World,
) -> None:
    users = [await world.join("hoekstra", f"user{n}@hoekstra.example") for n in range(4)]
    world.work(drained(world, "members-write", 20, left=6))
    await created(world, 4)
    before = (await world.calls())[-1]["number"]
    await world.change(users[2], active=False)
    await world.settled()
    calls = [(call["method"], call["path"]) for call in await world.calls(before)]
    block = next(n for n, (method, _) in enumerate(calls) if method == "PATCH")
    added = next(n for n, (_, path) in enumerate(calls) if path.endswith("/members"))
    assert block < added, "nobody waits for the others' request"
    person = await world.auth0_user("user2@hoekstra.example")
    assert person is not None
    assert person["blocked"]
    assert "membership.added" not in await world.told(users[2])
    assert len(await world.members()) == 3


async def test_a_process_that_stops_leaves_nobody_in_doubt_who_waited(world: World) -> None:
    users = [await world.join("hoekstra", f"user{n}@hoekstra.example") for n in range(12)]
    world.work(drained(world, "members-write", 20, left=4))
    await created(world, 12)
    await world.rest()
    assert await world.in_doubt() == []
    world.work()
    await world.settled()
    assert [(await world.user(user)).state for user in users] == ["applied"] * 12
    reads = [call for call in await world.calls() if call["method"] == "GET"]
    assert not [call for call in reads if "/users/" in call["path"]], "no doubt, nothing to read"
