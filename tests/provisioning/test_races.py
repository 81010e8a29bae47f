"""What happens when wishes change in the middle of a turn, and answers get lost on top of that."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal
from unittest.mock import ANY

import pytest

from service.directory import groups
from service.organizations import Policies
from service.provisioning import turn
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.hand import LOST, Hand, TakeOver
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
DOCTOR = "n.okafor@clinics.example"
Lost = Literal["landed", "never sent"]
LOSSES: list[Lost] = ["landed", "never sent"]


async def _roles_of(world: World) -> list[str]:
    (member,) = (await world.state())["members"]
    return member["roles"]


@pytest.mark.parametrize("lost", LOSSES)
async def test_a_membership_in_doubt_is_taken_away_again_from_whoever_left(
    world: World, hand: TakeOver, lost: Lost
) -> None:
    """The doctor keeps working in clinic B: a membership of A left behind would let her in there."""
    await world.join("clinic-b", DOCTOR)
    a = await world.join("clinic-a", DOCTOR)
    lane = await hand(a)
    step = await lane.until("add-member")
    assert "clinic-a" in str(step.operation)
    if lost == "landed":
        await lane.call(step)
    await lane.record(step, LOST)
    await world.change(a, active=False)
    await lane.finish()
    assert await world.members() == {("clinic-b", DOCTOR)}
    assert await world.endings() == [
        ("succeeded", "applied", None),
        ("superseded", None, None),
        ("succeeded", "applied", None),
    ]


@pytest.mark.parametrize("lost", LOSSES)
async def test_a_removal_in_doubt_is_made_good_for_whoever_came_back(
    world: World, hand: TakeOver, lost: Lost
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.finish()
    await world.change(user, active=False)
    step = await lane.until("remove-member")
    if lost == "landed":
        await lane.call(step)
    await lane.record(step, LOST)
    await world.change(user, active=True)
    await lane.finish()
    assert await world.members() == {("hoekstra", ADA)}
    person = await world.auth0_user(ADA)
    assert person is not None
    assert not person["blocked"]


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("granting", [True, False])
async def test_roles_in_doubt_end_as_they_are_wanted_by_then(
    world: World, hand: TakeOver, lost: Lost, granting: bool
) -> None:
    await world.declare(hoekstra={"roles": {"Chiefs": "admin"}})
    groups: tuple[str, ...] = () if granting else ("Chiefs",)
    await world.worker("hoekstra", "hired", "w-1", attributes={"email": ADA}, groups=groups)
    user = await world.hired("w-1")
    lane = await hand(user)
    await lane.finish()
    await world.worker("hoekstra", "changed", "w-1", groups=("Chiefs",) if granting else ())
    step = await lane.until("add-roles" if granting else "remove-roles")
    if lost == "landed":
        await lane.call(step)
    await lane.record(step, LOST)
    await world.worker("hoekstra", "changed", "w-1", groups=() if granting else ("Chiefs",))
    await lane.finish()
    assert await _roles_of(world) == ([] if granting else ["admin"])


@pytest.mark.parametrize("lost", LOSSES)
async def test_a_create_in_doubt_is_looked_up_though_nobody_is_wanted_any_more(
    world: World, hand: TakeOver, lost: Lost
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    step = await lane.until("create-user")
    if lost == "landed":
        await lane.call(step)
    await lane.record(step, LOST)
    await world.change(user, active=False)
    await lane.finish()
    person = await world.auth0_user(ADA)
    assert (person is None) == (lost == "never sent")
    assert person is None or person["blocked"] is True
    assert [state for state, _, _ in await world.endings()] == ["superseded", "succeeded"]


async def test_an_address_that_changes_while_a_create_is_in_doubt_is_followed(
    world: World, hand: TakeOver
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    step = await lane.until("create-user")
    await lane.call(step)
    await lane.record(step, LOST)
    other = "countess@hoekstra.example"
    await world.change(user, userName=other, emails=[{"value": other, "primary": True}])
    await lane.finish()
    assert [u["email"] for u in (await world.state())["users"]] == [other]


@pytest.mark.parametrize("lost", LOSSES)
async def test_each_effect_is_told_once_though_its_answer_was_lost(
    world: World, hand: TakeOver, lost: Lost
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)

    async def lose(kind: str) -> None:
        step = await lane.until(kind)
        if lost == "landed":
            await lane.call(step)
        await lane.record(step, LOST)
        await lane.finish()

    await lose("create-user")
    await world.change(user, name={"givenName": "Augusta", "familyName": "Byron"})
    await lose("update-profile")
    other = "countess@hoekstra.example"
    await world.change(user, userName=other, emails=[{"value": other, "primary": True}])
    await lose("change-email")
    await world.change(user, active=False)
    await lose("block")
    await world.change(user, active=True)
    await lose("unblock")
    told = await world.told(user)
    counted = {name: told.count(name) for name in told if name.startswith("user.")}
    assert counted == {
        "user.created": 1,
        "user.updated": 2,
        "user.blocked": 1,
        "user.unblocked": 1,
    }
    assert "drift.detected" not in told, "what we did ourselves is no drift"


async def test_an_adoption_whose_mark_was_lost_is_told_once(world: World, hand: TakeOver) -> None:
    await sign_up(world, "clinics-users", DOCTOR, verified=True)
    user = await world.join("clinic-a", DOCTOR)
    lane = await hand(user)
    step = await lane.until("mark-account")
    await lane.call(step)
    await lane.record(step, LOST)
    await lane.finish()
    assert (await world.told(user)).count("user.adopted") == 1


async def test_a_mark_of_another_life_is_not_taken_for_ours(world: World, hand: TakeOver) -> None:
    user_id = await sign_up(world, "hoekstra-users", ADA, verified=False)
    mark = {"app_metadata": {"auth0_provisioner": {"account": "of-another-life"}}}
    await call(world, "PATCH", f"/users/{user_id}", mark)
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    step = await lane.until("mark-account")
    await lane.record(step, LOST)  # it never arrived
    await lane.finish()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["app_metadata"]["auth0_provisioner"]["account"] == lane.account_id


async def test_a_leaver_is_locked_out_though_the_joiner_s_call_is_refused_just_then(
    world: World,
    hand: TakeOver,
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.finish()
    await world.change(user, name={"givenName": "Augusta", "familyName": "Byron"})
    step = await lane.until("update-profile")
    await world.fault("status", "PATCH", "/users/*", status=400, times=1)
    refused = await lane.call(step)
    await world.change(user, active=False)
    await lane.finish(await lane.record(step, refused))
    person = await world.auth0_user(ADA)
    assert person is not None
    assert person["blocked"] is True
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


async def test_a_newer_wish_is_tried_though_the_older_one_is_refused_just_then(
    world: World,
    hand: TakeOver,
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    step = await lane.until("create-user")
    await world.fault("status", "POST", "/users", status=400, times=1)
    refused = await lane.call(step)
    await world.change(user, displayName="Ada")
    await lane.finish(await lane.record(step, refused))
    assert (await world.user(user)).state == "applied"


async def test_an_address_that_changes_during_a_conflict_is_tried_anew(
    world: World, hand: TakeOver
) -> None:
    await sign_up(world, "hoekstra-users", ADA, verified=False)
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.until("find-by-email")
    other = "countess@hoekstra.example"
    await world.change(user, userName=other, emails=[{"value": other, "primary": True}])
    await lane.finish()
    assert (await world.user(user)).state == "applied"
    assert await world.members() == {("hoekstra", other)}


async def test_a_replay_succeeds_once_the_stranger_is_gone_from_auth0(
    world: World, hand: TakeOver
) -> None:
    stranger = await sign_up(world, "hoekstra-users", ADA, verified=False)
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.finish()
    assert (await world.user(user)).state == "failed"
    await call(world, "DELETE", f"/users/{stranger}")
    await world.change(user, displayName="Ada")
    await lane.finish()
    assert (await world.user(user)).state == "applied"


async def test_whoever_leaves_during_a_conflict_leaves_the_stranger_alone(
    world: World, hand: TakeOver
) -> None:
    await sign_up(world, "hoekstra-users", ADA, verified=True)
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.until("find-by-email")
    await world.change(user, active=False)
    await lane.finish()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert not person["blocked"]
    assert [state for state, _, _ in await world.endings()] == ["superseded", "succeeded"]


@pytest.mark.parametrize("lost", [None, *LOSSES])
async def test_whoever_comes_back_while_the_deletion_is_under_way_gets_a_user_again(
    world: World, hand: TakeOver, lost: Lost | None
) -> None:
    now = Policies(deletion="delete", deletion_hold=timedelta(0), invite="ticket")
    await world.declare(hoekstra={"policies": now})
    user = await world.join("hoekstra", ADA, externalId="w-1")
    lane = await hand(user)
    await lane.finish()
    first = await world.auth0_user(ADA)
    await world.delete(user)
    step = await lane.until("delete-user")
    if lost != "never sent":
        answer = await lane.call(step)
    else:
        answer = LOST
    again = await world.join("hoekstra", ADA, externalId="w-1")
    following = await lane.record(step, LOST if lost else answer)
    await lane.finish(following)
    person = await world.auth0_user(ADA)
    assert person is not None
    assert first is not None
    assert not person["blocked"]
    assert (person["user_id"] == first["user_id"]) == (lost == "never sent")
    assert await world.members() == {("hoekstra", ADA)}
    assert (await world.user(again)).state == "applied"
    assert {state for state, _, _ in await world.endings()} <= {"succeeded", "superseded"}


async def test_a_former_owner_s_late_block_is_known_as_ours(world: World, hand: TakeOver) -> None:
    """The zombie's block lands in the middle of the new owner's turn, for someone who is back."""
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.finish()
    await world.change(user, active=False)
    blocking = await lane.until("block")
    await world.change(user, active=True, displayName="Ada B.")
    new = await hand(user)
    step = await new.until("update-profile")
    answer = await new.call(step)
    await lane.call(blocking)  # the zombie
    now = world.clock.now()
    await world.database.transact(lambda tx: turn.doubt_late(tx, blocking, now))
    await new.finish(await new.record(step, answer))
    person = await world.auth0_user(ADA)
    assert person is not None
    assert not person["blocked"]


@pytest.mark.parametrize("ending", ["rate-limited", "stopping"])
async def test_a_late_doubt_survives_a_turn_that_is_put_off(
    world: World, hand: TakeOver, ending: str
) -> None:
    user = await world.join("hoekstra", ADA)
    lane = await hand(user)
    await lane.finish()
    await world.change(user, active=False)
    blocking = await lane.until("block")
    await world.change(user, active=True, displayName="Ada B.")
    new = await hand(user)
    step = await new.until("update-profile")
    await lane.call(blocking)
    now = world.clock.now()
    await world.database.transact(lambda tx: turn.doubt_late(tx, blocking, now))
    if ending == "stopping":
        await world.database.transact(lambda tx: turn.abandon(tx, step, new.owner, now))
    else:
        await world.fault("status", "PATCH", "/users/*", status=429, times=1)
        await new.record(step, await new.call(step))
    await new.finish()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert not person["blocked"]


async def test_sessions_that_are_owed_are_ended_though_somebody_else_blocks(
    world: World, hand: TakeOver
) -> None:
    b = await world.join("clinic-b", DOCTOR)
    a = await world.join("clinic-a", DOCTOR)
    lane = await hand(a)
    await lane.finish()
    await world.change(a, active=False)
    step = await lane.until("revoke-access")
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    await call(world, "PATCH", f"/users/{person['user_id']}", {"blocked": True})
    await lane.record(step, LOST)
    assert "revoke-access" in await lane.finish()
    assert (await world.user(b)).state == "applied"


async def test_whoever_takes_an_account_over_is_not_invited_again(world: World) -> None:
    user = await world.join("hoekstra", ADA, externalId="w-1")
    world.work()
    await world.settled()
    assert len(world.mails()) == 1
    await world.delete(user)
    await world.settled()
    await world.join("hoekstra", ADA, externalId="w-1")
    await world.settled()
    assert len(world.mails()) == 1


async def test_a_user_who_was_deleted_and_is_made_anew_is_invited_anew(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    person = await world.auth0_user(ADA)
    assert person is not None
    await call(world, "DELETE", f"/users/{person['user_id']}")
    await world.change(user, displayName="Ada Byron King")
    await world.settled()
    assert len(world.mails()) == 2, "nobody knows the new user's password"


async def test_a_process_that_dies_after_its_call_leaves_doubt_to_its_successor(
    world: World, hand: TakeOver
) -> None:
    """Died between Auth0's answer and the record of it: nothing is told twice or taken for drift."""
    user = await world.join("hoekstra", ADA)
    await _die_after(await hand(user), "create-user")
    await _die_after(await hand(user), "add-member")
    await (await hand(user)).finish()
    await world.change(user, active=False)
    await _die_after(await hand(user), "block")
    await _die_after(await hand(user), "remove-member")
    await (await hand(user)).finish()
    await world.change(user, active=True)
    await _die_after(await hand(user), "unblock")
    await (await hand(user)).finish()
    person = await world.auth0_user(ADA)
    assert person is not None
    assert not person["blocked"]
    assert await world.members() == {("hoekstra", ADA)}
    assert len(await world.writes("POST", "/users")) == 1, "read before anything is repeated"
    told = [name for name in await world.told(user) if name.startswith(("user.", "drift."))]
    assert told == ["user.created", "user.blocked", "user.unblocked"]


async def test_a_process_that_dies_with_a_mail_in_hand_leaves_it_flagged(
    world: World, hand: TakeOver
) -> None:
    user = await world.join("hoekstra", ADA)
    await _die_after(await hand(user), "send-ticket")
    await (await hand(user)).finish()
    assert len(world.mails()) == 1
    invitations = [o for o in await world.outcomes(user) if "invitation" in o.type]
    assert [o.data["delivery"] for o in invitations] == ["doubtful"]
    assert (await world.endings())[-1] == ("succeeded", "applied", None)


async def _die_after(lane: Hand, kind: str) -> None:
    await lane.call(await lane.until(kind))


@pytest.mark.parametrize("first_fails", [True, False])
async def test_an_event_that_touches_many_accounts_ends_with_the_last_of_them(
    world: World, hand: TakeOver, first_fails: bool
) -> None:
    await world.declare(hoekstra={"roles": {"Chiefs": "admin"}})
    ada = await world.join("hoekstra", ADA)
    bob = await world.join("hoekstra", "bob@hoekstra.example")
    for user in (ada, bob):
        await (await hand(user)).finish()
    registered = await world.registered("hoekstra")
    group = {"displayName": "Chiefs"}
    await world.database.transact(
        lambda tx: groups.create(tx, registered, group, [ada.id, bob.id], world.received("grouped"))
    )
    for number, user in enumerate((ada, bob)):
        lane = await hand(user)
        step = await lane.until("add-roles")
        if (number == 0) == first_fails:
            await world.fault("status", "POST", "/organizations/**", status=400, times=1)
        await lane.finish(await lane.record(step, await lane.call(step)))
        ended = ("deadlettered", None, "bad_request")
        assert (await world.endings())[-1] == (ended if number else ("accepted", None, ANY))
    failed = [(await world.user(user)).state for user in (ada, bob)]
    assert sorted(failed) == ["applied", "failed"]
