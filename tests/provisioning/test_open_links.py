"""A former user's open links: what they lift is put back, until nothing is open any more."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.directory import accounts
from tests.provisioning.auth0 import call
from tests.provisioning.links import invites_by, log_in, look, sent, use_ticket
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
USERS = "hoekstra-users"


async def is_blocked(world: World, address: str = ADA) -> bool:
    found = await world.auth0_user(address)
    assert found is not None
    return bool(found.get("blocked"))


async def due_in(world: World, address: str = ADA) -> timedelta | None:
    """How long until the account is due."""
    account_id = await world.database.read(
        lambda tx: accounts.find_open(tx, "main", USERS, address)
    )
    assert account_id is not None
    account = await world.database.read(lambda tx: accounts.get(tx, account_id))
    assert account is not None
    return None if account.due_at is None else account.due_at - world.clock.now()


@pytest.mark.parametrize("way", ["ticket", "auth0-mail"])
async def test_a_block_that_an_open_ticket_lifts_is_put_back_and_sessions_end_again(
    world: World, way: str
) -> None:
    world.work()
    await invites_by(world, "hoekstra", way)
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    assert await is_blocked(world)
    before = len(await world.told(user))

    await use_ticket(world)
    assert not await is_blocked(world)
    assert (await log_in(world, USERS, ADA))["allowed"]
    await look(world, user)

    assert await is_blocked(world)
    assert (await world.state())["sessions"] == []
    assert (await world.told(user))[before:] == [
        "drift.detected",
        "user.blocked",
        "drift.corrected",
        "access.revoked",
    ]


async def test_whoever_leaves_with_an_open_ticket_is_looked_at_until_it_has_expired(
    world: World,
) -> None:
    world.work()
    await invites_by(world, "hoekstra", "ticket", invite_lifetime="PT1H")
    user = await world.join("hoekstra", ADA)
    await world.settled()
    assert await due_in(world) is None
    await world.change(user, active=False)
    await world.settled()
    due = await due_in(world)
    assert due is not None
    assert timedelta(seconds=30) < due <= timedelta(minutes=1)


async def test_nobody_is_looked_at_whose_links_have_all_expired(world: World) -> None:
    world.work()
    await invites_by(world, "hoekstra", "none")
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    assert await due_in(world) is None


async def test_a_link_is_remembered_by_when_it_ends_and_never_itself(world: World) -> None:
    world.work()
    await invites_by(world, "hoekstra", "ticket", invite_lifetime="PT2H")
    user = await world.join("hoekstra", ADA)
    await world.settled()
    (kept,) = await sent(world, user)
    (ticket,) = (await world.state())["tickets"]
    assert kept.address == ADA
    assert kept.expires_at is not None
    assert (
        timedelta(hours=1, minutes=59) < kept.expires_at - world.clock.now() <= timedelta(hours=2)
    )
    assert kept.expires_at.isoformat()[:16] == ticket["expires_at"][:16]
    assert "ticket=" not in repr(kept)


async def test_a_look_at_somebody_who_is_out_and_still_blocked_costs_one_read(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    after = (await world.calls())[-1]["number"]
    told = await world.told(user)
    await look(world, user)
    assert [call["method"] for call in await world.calls(after)] == ["GET"]
    assert await world.told(user) == told


async def test_whoever_comes_back_after_their_block_was_lifted_is_not_blocked(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    await use_ticket(world)
    await look(world, user)
    assert await is_blocked(world)
    await world.change(user, active=True)
    await world.settled()
    assert not await is_blocked(world)
    assert await world.members() == {("hoekstra", ADA)}
    await look(world, user)
    assert not await is_blocked(world)
    assert await due_in(world) is None, "somebody who is in needs no looking at"
    assert len(world.mails()) == 1


async def test_whoever_comes_back_before_their_lifted_block_was_seen_stays_in(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    await use_ticket(world)
    await world.change(user, active=True)
    await world.settled()
    await look(world, user)
    assert not await is_blocked(world)
    # The next time that they leave is an ordinary one.
    before = len(await world.told(user))
    await world.change(user, active=False)
    await world.settled()
    assert await is_blocked(world)
    assert "drift.corrected" not in (await world.told(user))[before:]


async def test_a_block_that_somebody_else_lifts_is_put_back_when_it_is_seen(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    there = await world.auth0_user(ADA)
    assert there is not None
    await call(world, "PATCH", f"/users/{there['user_id']}", {"blocked": False})
    await look(world, user)
    assert await is_blocked(world)
    assert (await world.told(user)).count("drift.corrected") == 1


@pytest.mark.parametrize("kind", ["drop-after-commit", "html-502"])
async def test_a_block_put_back_with_a_lost_answer_is_told_all_the_same(
    world: World, kind: str
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    await use_ticket(world)
    await world.fault(kind, "PATCH", "/users/*", times=1)
    await look(world, user)

    async def revoked_again() -> bool:
        return (await world.told(user)).count("access.revoked") == 2

    await world.until(revoked_again)
    assert await is_blocked(world)
    told = await world.told(user)
    assert told.count("drift.detected") == 1
    assert told.count("drift.corrected") == 1
    assert told.count("user.blocked") == 2


async def test_a_former_user_who_was_deleted_in_auth0_is_seen_to_be_gone(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    there = await world.auth0_user(ADA)
    assert there is not None
    await call(world, "DELETE", f"/users/{there['user_id']}")
    await look(world, user)
    assert (await world.told(user))[-1] == "drift.detected"
    assert await world.auth0_user(ADA) is None


async def test_a_changed_address_gets_a_ticket_of_its_own_while_the_old_one_is_open(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    new = "ada.king@hoekstra.example"
    await world.change(user, emails=[{"value": new, "primary": True}])
    await world.settled()
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert [each.address for each in await sent(world, user)] == [ADA, new]
    assert len(world.mails()) == 2


async def test_whoever_has_chosen_a_password_needs_no_ticket_for_a_new_address(
    world: World,
) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await use_ticket(world)
    new = "ada.king@hoekstra.example"
    await world.change(user, emails=[{"value": new, "primary": True}])
    await world.settled()
    assert len(world.mails()) == 1
