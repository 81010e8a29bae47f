"""A deletion cannot be taken back: whoever is deleted is locked out first, and by policy nobody is whom
others have changed meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from operators import reading
from service.directory import locks, overview, people, replays
from service.directory.events import Event, Filter
from service.organizations import MARKER, Policies
from service.people import User
from tests.faults import proves
from tests.provisioning.auth0 import call
from tests.provisioning.hand import TakeOver
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
HOLD = timedelta(seconds=1)


def deleting(hold: timedelta) -> dict[str, Any]:
    return {"policies": Policies(deletion="delete", deletion_hold=hold, invite="none")}


async def gone(world: World) -> None:
    async def is_gone() -> bool:
        return await world.auth0_user(ADA) is None

    await world.until(is_gone)
    await world.settled()


async def trouble(world: World) -> list[Event]:
    return await world.database.read(lambda tx: overview.latest_events(tx, Filter(), trouble=True))


async def replay(world: World, event: Event) -> None:
    now = world.clock.now()
    result = await world.database.transact(
        lambda tx: replays.replay(tx, event.id, read=reading.read, actor="kim", now=now)
    )
    assert result.verdict == "replayed", result.reason


async def test_a_deletion_at_once_locks_out_first(world: World, hand: TakeOver) -> None:
    await world.declare(hoekstra=deleting(timedelta()))
    ada = await world.join("hoekstra", ADA)
    lane = await hand(ada)
    await lane.finish()
    await world.delete(ada)
    assert await lane.finish() == [
        "block",
        "revoke-access",
        "remove-member",
        "read-user",
        "read-memberships",
        "delete-user",
    ]
    assert await world.auth0_user(ADA) is None
    assert (await world.endings())[-1] == ("succeeded", "applied", None)
    assert (await world.told(ada))[-5:] == [
        "user.blocked",
        "access.revoked",
        "membership.removed",
        "user.deleted",
        "event.succeeded",
    ]


async def test_a_deletion_after_a_hold_costs_two_reads(world: World) -> None:
    ada, _ = await left(world, HOLD)
    before = (await world.calls())[-1]["number"]
    await gone(world)
    made = [(c["method"], c["path"].split("/")[-1]) for c in await world.calls(before)]
    assert [method for method, _ in made] == ["GET", "GET", "DELETE"]
    assert (await world.told(ada))[-1] == "user.deleted"
    assert await trouble(world) == []


async def lift(world: World, user_id: str) -> None:
    await call(world, "PATCH", f"/users/{user_id}", {"blocked": False})


async def restore(world: World, user_id: str) -> None:
    """Our block is put back by us."""


async def unmark(world: World, user_id: str) -> None:
    await call(world, "PATCH", f"/users/{user_id}", {"app_metadata": {MARKER: None}})


async def mark(world: World, user_id: str) -> None:
    events = await trouble(world)
    user = await world.database.read(lambda tx: people.get(tx, str(events[0].user_id)))
    assert user is not None
    ours = {MARKER: {"account": user.account_id}}
    await call(world, "PATCH", f"/users/{user_id}", {"app_metadata": ours})


async def take_in(world: World, user_id: str) -> None:
    named = await call(world, "GET", "/organizations/name/metahexa")
    await call(world, "POST", f"/organizations/{named['id']}/members", {"members": [user_id]})


async def let_go(world: World, user_id: str) -> None:
    named = await call(world, "GET", "/organizations/name/metahexa")
    await call(world, "DELETE", f"/organizations/{named['id']}/members", {"members": [user_id]})


Act = Callable[[World, str], Awaitable[None]]


async def left(world: World, hold: timedelta) -> tuple[User, str]:
    """Somebody whose deletion is held, and their id in Auth0."""
    await world.declare(hoekstra=deleting(hold))
    world.work()
    ada = await world.join("hoekstra", ADA)
    await world.settled()
    await world.delete(ada)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    return ada, person["user_id"]


@proves("deletion of somebody whom others have changed")
@pytest.mark.parametrize(
    ("change", "undo", "why"),
    [
        (lift, restore, "lifted our block"),
        (unmark, mark, "does not carry our mark"),
        (take_in, let_go, "a member of metahexa"),
    ],
)
async def test_whom_others_have_changed_during_the_hold_is_kept_and_told_of(
    world: World, change: Act, undo: Act, why: str
) -> None:
    ada, account = await left(world, HOLD)
    await change(world, account)

    async def told() -> bool:
        return bool(await trouble(world))

    await world.until(told)
    await world.settled()
    (event,) = await trouble(world)
    assert (event.type, event.state, event.user_id) == ("account.deletion", "deadlettered", ada.id)
    assert (event.error or {})["code"] == "changed_by_another"
    assert why in (event.error or {})["message"]
    assert (await world.endings())[1] == ("succeeded", "held", None), "what is told stays told"
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"], "whoever is out stays locked out"
    await undo(world, account)
    await replay(world, event)
    await gone(world)


@proves("deletion of somebody whom others have changed")
async def test_an_operators_word_deletes_all_the_same(world: World) -> None:
    ada, account = await left(world, timedelta(days=30))
    await take_in(world, account)
    now = world.clock.now()
    await world.database.transact(lambda tx: locks.release(tx, ada.id, actor="kim", now=now))
    await gone(world)
    assert await trouble(world) == []


async def test_who_is_gone_already_when_the_hold_ends_needs_no_deletion(world: World) -> None:
    ada, account = await left(world, HOLD)
    await call(world, "DELETE", f"/users/{account}")

    async def closed() -> bool:
        return (await world.user(ada)).account_id is None

    await world.until(closed)
    assert "drift.detected" in await world.told(ada)
    assert await trouble(world) == []


@pytest.fixture(params=["world", "postgres_world"])
def either(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


@proves("scope missing")
async def test_a_deletion_after_a_hold_that_auth0_refuses_is_told_once(either: World) -> None:
    await either.declare(hoekstra=deleting(HOLD))
    either.work()
    ada = await either.join("hoekstra", ADA)
    await either.settled()
    message = "Insufficient scope, expected any of: delete:users"
    body = {"statusCode": 403, "error": "Forbidden", "message": message}
    await either.fault("status", "DELETE", "/users/*", status=403, body=body)
    await either.delete(ada)

    async def told() -> bool:
        return bool(await trouble(either))

    await either.until(told)
    await either.settled()
    (event,) = await trouble(either)
    assert (event.error or {})["code"] == "insufficient_scope"
    await either.mend()
    await replay(either, event)
    await gone(either)
