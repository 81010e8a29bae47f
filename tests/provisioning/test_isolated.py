"""Isolated organizations: who is created, blocked, brought back and deleted in Auth0."""

from __future__ import annotations

from datetime import timedelta

import pytest

from operators.reading import read
from service.directory import locks, replays
from service.errors import Refused
from service.organizations import Policies
from tests.provisioning.auth0 import call
from tests.provisioning.world import World


async def test_a_joiner_is_created_unverified_and_becomes_a_member(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "Ada@Hoekstra.Example")
    await world.settled()
    created = await world.auth0_user("ada@hoekstra.example")
    assert created is not None
    assert created["connection"] == "hoekstra-users"
    assert created["email_verified"] is False
    assert (created["given_name"], created["family_name"]) == ("Ada", "Byron")
    assert ("hoekstra", "ada@hoekstra.example") in await world.members()
    assert (await world.user(user)).state == "applied"
    assert await world.told(user) == [
        "user.created",
        "membership.added",
        "invitation.sent",
        "event.succeeded",
    ]


async def test_the_account_key_is_not_derived_from_the_address(world: World) -> None:
    world.work()
    await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    created = await world.auth0_user("ada@hoekstra.example")
    assert created is not None
    key = created["user_id"].removeprefix("auth0|")
    assert len(key) == 32
    assert int(key, 16) >= 0


async def test_a_leaver_is_blocked_then_revoked_then_loses_membership(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    before = (await world.calls())[-1]["number"]
    await world.change(user, active=False)
    await world.settled()
    calls = [(c["method"], c["path"].split("/")[-1]) for c in await world.calls(before)]
    assert [method for method, _ in calls] == ["PATCH", "POST", "DELETE"]
    assert calls[1][1] == "revoke-access"
    assert calls[2][1] == "members"
    blocked = await world.auth0_user("ada@hoekstra.example")
    assert blocked is not None
    assert blocked["blocked"] is True
    assert await world.members() == set()
    assert (await world.told(user))[-4:] == [
        "user.blocked",
        "access.revoked",
        "membership.removed",
        "event.succeeded",
    ]


async def test_someone_who_comes_back_gets_the_same_account(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    first = await world.auth0_user("ada@hoekstra.example")
    await world.change(user, active=False)
    await world.settled()
    await world.change(user, active=True)
    await world.settled()
    again = await world.auth0_user("ada@hoekstra.example")
    assert first is not None
    assert again is not None
    assert again["user_id"] == first["user_id"]
    assert again["blocked"] is False
    assert ("hoekstra", "ada@hoekstra.example") in await world.members()


async def test_an_identity_provider_does_not_bring_back_whom_hr_terminated(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-1")
    await world.worker("hoekstra", "terminated", "w-1")
    await world.settled()
    await world.change(user, active=False)
    await world.change(user, active=True)
    await world.settled()
    blocked = await world.auth0_user("ada@hoekstra.example")
    assert blocked is None or blocked["blocked"] is True
    await world.worker("hoekstra", "rehired", "w-1")
    await world.settled()
    back = await world.auth0_user("ada@hoekstra.example")
    assert back is not None
    assert not back["blocked"]


async def test_a_block_that_somebody_else_placed_is_never_lifted(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    found = await world.auth0_user("ada@hoekstra.example")
    assert found is not None
    await call(world, "PATCH", f"/users/{found['user_id']}", {"blocked": True})
    # Doubt makes us read the user, and so see the block.
    await world.fault("drop-after-commit", "PATCH", "/users/*", times=1)
    await world.change(user, name={"givenName": "Augusta", "familyName": "King"})
    await world.settled()
    still = await world.auth0_user("ada@hoekstra.example")
    assert still is not None
    assert still["given_name"] == "Augusta"
    assert still["blocked"] is True
    assert "somebody else" in ((await world.user(user)).detail or "")


async def test_a_changed_address_is_a_call_of_its_own(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    before = (await world.calls())[-1]["number"]
    await world.change(
        user,
        emails=[{"value": "augusta@hoekstra.example", "primary": True}],
        name={"givenName": "Augusta", "familyName": "Byron"},
    )
    await world.settled()
    patches = [c for c in await world.calls(before) if c["method"] == "PATCH"]
    assert len(patches) == 2
    changed = await world.auth0_user("augusta@hoekstra.example")
    assert changed is not None
    assert changed["email_verified"] is False
    assert await world.auth0_user("ada@hoekstra.example") is None


async def test_a_held_deletion_happens_when_the_hold_ends(world: World) -> None:
    hold = Policies(deletion="delete", deletion_hold=timedelta(seconds=1))
    await world.declare(hoekstra={"policies": hold})
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    await world.delete(user)

    async def ended() -> bool:
        return (await world.events())[-1].state == "succeeded"

    await world.until(ended)
    assert (await world.endings())[-1] == ("succeeded", "held", None)
    assert await world.auth0_user("ada@hoekstra.example") is not None

    async def gone() -> bool:
        return await world.auth0_user("ada@hoekstra.example") is None

    await world.until(gone)
    await world.settled()
    assert (await world.told(user))[-1] == "user.deleted"
    assert (await world.outcomes(user))[-1].event_id == (await world.events())[-1].id


async def test_the_same_external_id_cancels_a_held_deletion(world: World) -> None:
    await world.declare(hoekstra={"policies": Policies(deletion="delete")})
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-1")
    await world.settled()
    first = await world.auth0_user("ada@hoekstra.example")
    await world.delete(user)
    await world.settled()
    again = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-1")
    await world.settled()
    assert again.id != user.id
    found = await world.auth0_user("ada@hoekstra.example")
    assert first is not None
    assert found is not None
    assert found["user_id"] == first["user_id"]
    assert not found["blocked"]


async def test_only_the_same_address_waits_for_an_operator(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-1")
    await world.settled()
    await world.delete(user)
    await world.settled()
    other = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-2")
    await world.settled()
    assert (await world.user(other)).state == "failed"
    assert (await world.endings())[-1] == ("deadlettered", None, "identifier_of_former_user")
    held = await world.auth0_user("ada@hoekstra.example")
    assert held is not None
    assert held["blocked"] is True


async def test_a_user_without_an_address_waits_and_says_why(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "kiosk-1", emails=[])
    await world.settled()
    assert (await world.endings())[-1] == ("succeeded", "waiting", None)
    assert (await world.user(user)).state == "waiting"
    assert "e-mail" in ((await world.user(user)).detail or "")
    assert (await world.state())["users"] == []
    await world.change(user, emails=[{"value": "kiosk@hoekstra.example", "primary": True}])
    await world.settled()
    assert await world.auth0_user("kiosk@hoekstra.example") is not None


async def test_an_invitation_is_mailed_once_and_its_link_is_told_nowhere(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    await world.change(user, active=True)
    await world.settled()
    mails = world.mails()
    assert len(mails) == 1
    ticket = (await world.state())["tickets"][0]["ticket"]
    assert ticket.rpartition("=")[2] in mails[0].replace("=\n", "")
    told = [str(outcome.data) for outcome in await world.outcomes()]
    assert not any("ticket=" in data for data in told)


async def test_ten_changes_while_auth0_is_slow_cost_one_update(world: World) -> None:
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    before = (await world.calls())[-1]["number"]
    await world.rest()
    for number in range(10):
        await world.change(user, displayName=f"Ada {number}")
    world.work()
    await world.settled()
    assert [c["method"] for c in await world.calls(before)] == ["PATCH"]
    assert {state for state, _, _ in await world.endings()} == {"succeeded"}


async def test_a_leaver_overtakes_a_joiner_who_was_never_created(world: World) -> None:
    user = await world.join("hoekstra", "ada@hoekstra.example")
    await world.change(user, active=False)
    world.work()
    await world.settled()
    assert [state for state, _, _ in await world.endings()] == ["superseded", "succeeded"]
    assert (await world.state())["users"] == []


async def test_an_operator_may_give_a_former_user_s_address_to_another_person(
    world: World,
) -> None:
    world.work()
    former = await world.join("hoekstra", "info@hoekstra.example", externalId="w-1")
    await world.settled()
    first = await world.auth0_user("info@hoekstra.example")
    await world.delete(former)
    await world.settled()
    heir = await world.join("hoekstra", "info@hoekstra.example", externalId="w-2")
    refused = (await world.events())[-1]
    now = world.clock.now()
    await world.database.transact(lambda tx: locks.release(tx, former.id, actor="ops", now=now))
    await world.settled()
    assert await world.auth0_user("info@hoekstra.example") is None
    await world.database.transact(
        lambda tx: replays.replay(tx, refused.id, read=read, actor="ops", now=now)
    )
    await world.settled()
    second = await world.auth0_user("info@hoekstra.example")
    assert first is not None
    assert second is not None
    assert second["user_id"] != first["user_id"]
    assert (await world.user(heir)).state == "applied"


async def test_nobody_is_released_who_is_in_or_whom_hr_still_has(world: World) -> None:
    user = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-1")
    await world.worker("hoekstra", "hired", "w-1")
    now = world.clock.now()
    with pytest.raises(Refused, match="not deleted"):
        await world.database.transact(lambda tx: locks.release(tx, user.id, actor="o", now=now))
    await world.delete(user)
    with pytest.raises(Refused, match="HR still has"):
        await world.database.transact(lambda tx: locks.release(tx, user.id, actor="o", now=now))


async def test_nobody_is_deleted_whom_hr_still_has(world: World) -> None:
    at_once = Policies(deletion="delete", deletion_hold=timedelta(0))
    await world.declare(hoekstra={"policies": at_once})
    world.work()
    user = await world.join("hoekstra", "ada@hoekstra.example", externalId="w-1")
    await world.worker("hoekstra", "hired", "w-1")
    await world.settled()
    await world.delete(user)
    await world.settled()
    person = await world.auth0_user("ada@hoekstra.example")
    assert person is not None
    assert person["blocked"] is True


async def test_a_user_whose_new_address_is_taken_stays_failed_while_lanes_work_on(
    world: World,
) -> None:
    await world.join("hoekstra", "bob@hoekstra.example")
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    await world.change(ada, emails=[{"value": "bob@hoekstra.example", "primary": True}])
    world.work()
    await world.settled()
    assert (await world.user(ada)).state == "failed"
    assert (await world.auth0_user("ada@hoekstra.example")) is not None
    await world.change(ada, emails=[{"value": "ada.b@hoekstra.example", "primary": True}])
    await world.settled()
    assert (await world.user(ada)).state == "applied"
    assert await world.auth0_user("ada.b@hoekstra.example") is not None


async def test_who_is_rehired_has_the_account_of_before_and_the_roles_of_today(
    world: World,
) -> None:
    ada = {"email": "ada@hoekstra.example"}
    await world.declare(hoekstra={"roles": {"Chiefs": "admin", "Clerks": "billing"}})
    world.work()
    await world.worker("hoekstra", "hired", "w-1", attributes=ada, groups=("Chiefs",))
    await world.settled()
    (before,) = (await world.state())["members"]
    assert before["roles"] == ["admin"]
    await world.worker("hoekstra", "terminated", "w-1")
    await world.worker("hoekstra", "changed", "w-1", groups=("Clerks",))
    await world.settled()
    assert (await world.state())["members"] == []
    await world.worker("hoekstra", "rehired", "w-1")
    await world.settled()
    (after,) = (await world.state())["members"]
    assert (after["user_id"], after["roles"]) == (before["user_id"], ["billing"])
