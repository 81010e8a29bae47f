"""Inviting into an Organization: nobody has an account before they accept, whoever accepts is bound."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from service.directory import groups
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.groups import Group, MemberChange
from service.errors import Refused
from service.people import User
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.links import (
    accept,
    deliveries,
    invites_by,
    log_in,
    look,
    mailed,
    resend,
    sent,
)
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
NEW = "ada.king@hoekstra.example"
USERS = "hoekstra-users"
GROUP: dict[str, Any] = {"roles": {"Editors": "billing"}}


@pytest.fixture
async def inviting(world: World) -> World:
    """A world whose hoekstra invites by invitation."""
    await invites_by(world, "hoekstra", "invitation")
    return world


async def open_invitations(world: World) -> list[str]:
    return [each["invitee"]["email"] for each in (await world.state())["invitations"]]


async def _group_of(world: World, name: str, user: User) -> Group:
    registered, resource = await world.registered("hoekstra"), {"displayName": name}
    return await world.database.transact(
        lambda tx: groups.create(tx, registered, resource, [user.id], world.received("group"))
    )


async def _leave_group(world: World, group: Group, user: User) -> None:
    registered = await world.registered("hoekstra")

    def work(tx: Transaction) -> None:
        held = groups.lock(tx, "hoekstra", group.id)
        change = MemberChange(remove=frozenset((user.id,)))
        groups.change(tx, registered, held, group.resource, change, world.received("group"))

    await world.database.transact(work)


async def expire(world: World, user: User) -> None:
    """As if time had passed: here, and in Auth0, where it is gone."""
    past = world.clock.now() - timedelta(seconds=1)
    account_id = (await world.user(user)).account_id
    change = update(t.effects).where(t.effects.c.account_id == account_id).values(expires_at=past)
    await world.database.transact(lambda tx: tx.execute(change))
    for each in (await world.state())["invitations"]:
        path = f"/organizations/{each['organization_id']}/invitations/{each['id']}"
        await call(world, "DELETE", path)


async def test_nobody_has_an_account_before_they_accept(inviting: World) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert await inviting.auth0_user(ADA) is None
    assert await open_invitations(inviting) == [ADA]
    assert await mailed(inviting, "invitation") == [ADA]
    assert await deliveries(inviting, user) == [("invitation", "sent")]
    assert await inviting.endings() == [("succeeded", "waiting", None)]
    shown = await inviting.user(user)
    assert shown.state == "waiting"
    assert "can be accepted until" in (shown.detail or "")


async def test_an_invitation_names_connection_lifetime_and_our_mark(world: World) -> None:
    await invites_by(world, "hoekstra", "invitation", invite_lifetime="P3D")
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    (there,) = (await world.state())["invitations"]
    (kept,) = await sent(world, user)
    connections = {each["name"]: each["id"] for each in (await world.state())["connections"]}
    assert there["connection_id"] == connections[USERS]
    assert there["app_metadata"]["auth0_provisioner"]["invitation"] == kept.id
    assert kept.reference == there["id"]
    assert kept.expires_at is not None
    assert kept.expires_at.isoformat()[:16] == there["expires_at"][:16]


async def test_whoever_accepts_is_bound_and_told_of(inviting: World) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"]
    await look(inviting, user)
    there = await inviting.auth0_user(ADA)
    assert there is not None
    assert (await inviting.user(user)).state == "applied"
    assert there["name"] == "Ada Byron", "the profile is the customer's word, as ever"
    told = await inviting.told(user)
    assert told.count("user.created") == 1
    assert told.count("membership.added") == 1
    (kept,) = await sent(inviting, user)
    assert kept.ended == "accepted"
    # And from now on it is an account like any other.
    await inviting.change(user, active=False)
    await inviting.settled()
    blocked = await inviting.auth0_user(ADA)
    assert blocked is not None
    assert blocked["blocked"] is True
    assert await inviting.members() == set()


async def test_roles_come_with_the_invitation_and_go_with_todays_groups(world: World) -> None:
    await invites_by(world, "hoekstra", "invitation", **GROUP)
    world.work()
    user = await world.join("hoekstra", ADA)
    group = await _group_of(world, "Editors", user)
    await world.settled()
    await resend(world, user)  # the first one was sent before they were in the group
    await world.settled()
    assert (await accept(world, "hoekstra", USERS, ADA))["allowed"]
    (member,) = (await world.state())["members"]
    assert member["roles"] == ["billing"], "from the first moment on"
    await _leave_group(world, group, user)
    await world.settled()
    (member,) = (await world.state())["members"]
    assert member["roles"] == [], "what the invitation gave is taken away with the group"


async def test_an_unmarked_profile_with_the_invited_verified_address_is_bound(
    inviting: World,
) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    await sign_up(inviting, USERS, ADA, verified=True)
    await look(inviting, user)
    assert (await inviting.user(user)).state == "applied"
    assert await open_invitations(inviting) == [], "who is in leaves no invitation open"
    assert len(await mailed(inviting, "invitation")) == 1


async def test_somebody_who_signs_up_first_with_an_address_inherits_nothing(
    inviting: World,
) -> None:
    policies = {"invite": "invitation", "adoption": "never"}
    await invites_by(inviting, "hoekstra", policies["invite"], adoption="never")
    await sign_up(inviting, USERS, ADA, verified=False)
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert await mailed(inviting, "invitation") == []
    assert await inviting.endings() == [("deadlettered", None, "identifier_in_use")]
    assert (await inviting.user(user)).state == "failed"


async def test_a_leavers_open_invitation_is_deleted(inviting: World) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    await inviting.change(user, active=False)
    await inviting.settled()
    assert await open_invitations(inviting) == []
    assert (await inviting.told(user)).count("invitation.withdrawn") == 1
    (kept,) = await sent(inviting, user)
    assert kept.ended == "withdrawn"


async def test_an_invitation_that_is_gone_already_is_no_failure(inviting: World) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    (there,) = (await inviting.state())["invitations"]
    path = f"/organizations/{there['organization_id']}/invitations/{there['id']}"
    await call(inviting, "DELETE", path)
    await inviting.change(user, active=False)
    await inviting.settled()
    assert [state for state, _, _ in await inviting.endings()] == ["succeeded", "succeeded"]
    assert "invitation.withdrawn" not in await inviting.told(user)


async def test_whoever_accepts_while_they_are_leaving_is_blocked(inviting: World) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"]
    await inviting.change(user, active=False)
    await inviting.settled()
    there = await inviting.auth0_user(ADA)
    assert there is not None
    assert there["blocked"] is True
    assert await inviting.members() == set()
    assert (await inviting.state())["sessions"] == []


@proves("invitation without an answer")
@pytest.mark.parametrize("kind", ["drop-before", "drop-after-commit", "html-502", "hang"])
async def test_an_invitation_whose_answer_was_lost_is_flagged_and_never_repeated(
    inviting: World, kind: str
) -> None:
    more = {"seconds": 0.1} if kind == "hang" else {}
    await inviting.fault(kind, "POST", "/organizations/*/invitations", times=1, **more)
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    await inviting.change(user, displayName="Ada King")
    await inviting.settled()
    await look(inviting, user)
    assert len(await mailed(inviting, "invitation")) <= 1
    assert await deliveries(inviting, user) == [("invitation", "doubtful")]
    shown = await inviting.user(user)
    assert shown.state == "waiting"
    assert "may not have gone out" in (shown.detail or "")


@pytest.mark.parametrize("kind", ["drop-before", "drop-after-commit"])
async def test_a_leavers_doubtful_invitation_is_looked_for_and_deleted(
    inviting: World, kind: str
) -> None:
    await inviting.fault(kind, "POST", "/organizations/*/invitations", times=1)
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert len(await open_invitations(inviting)) == (kind == "drop-after-commit")
    await inviting.change(user, active=False)
    await inviting.settled()
    assert await open_invitations(inviting) == []
    assert (await inviting.endings())[-1][0] == "succeeded"


async def test_a_doubtful_invitation_that_was_accepted_binds_all_the_same(
    inviting: World,
) -> None:
    await inviting.fault("drop-after-commit", "POST", "/organizations/*/invitations", times=1)
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"]
    await look(inviting, user)
    assert (await inviting.user(user)).state == "applied"


async def test_an_invitation_that_certainly_was_not_made_is_made_later(inviting: World) -> None:
    await inviting.fault("status", "POST", "/organizations/*/invitations", status=429, times=1)
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert await deliveries(inviting, user) == [("invitation", "sent")]


async def test_who_was_refused_an_invitation_fails_and_says_why(inviting: World) -> None:
    await inviting.fault("status", "POST", "/organizations/*/invitations", status=400, times=1)
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert (await inviting.user(user)).state == "failed"
    assert [state for state, _, _ in await inviting.endings()] == ["deadlettered"]
    assert await sent(inviting, user) == ()


async def test_a_changed_address_is_invited_once_and_the_old_one_cannot_accept(
    inviting: World,
) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    new = "ada.king@hoekstra.example"
    await inviting.change(user, emails=[{"value": new, "primary": True}])
    await inviting.settled()
    await inviting.change(user, displayName="Ada King")
    await inviting.settled()
    assert await open_invitations(inviting) == [new]
    assert await mailed(inviting, "invitation") == [ADA, new]
    assert not (await log_in(inviting, USERS, ADA, organization="hoekstra"))["allowed"]
    assert (await accept(inviting, "hoekstra", USERS, new))["allowed"]
    await look(inviting, user)
    assert (await inviting.user(user)).state == "applied"


@pytest.mark.parametrize("leaves", [False, True])
async def test_whoever_accepts_while_their_address_changes_is_bound_all_the_same(
    inviting: World, leaves: bool
) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"] is True
    address: dict[str, Any] = {"userName": NEW, "emails": [{"value": NEW, "primary": True}]}
    await inviting.change(user, **address)
    if leaves:
        await inviting.change(user, active=False)
    await inviting.settled()

    assert await mailed(inviting, "invitation") == [ADA]
    if leaves:
        found = await inviting.auth0_user(ADA)
        assert found is not None
        assert found["blocked"] is True
        assert await inviting.members() == set()
    else:
        assert await inviting.auth0_user(ADA) is None
        assert await inviting.members() == {("hoekstra", NEW)}
        assert (await inviting.user(user)).state == "applied"


async def test_whoever_comes_back_is_invited_anew(inviting: World) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    await inviting.change(user, active=False)
    await inviting.settled()
    await inviting.change(user, active=True)
    await inviting.settled()
    assert await open_invitations(inviting) == [ADA]
    assert (await inviting.user(user)).state == "waiting"
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"]
    await look(inviting, user)
    assert (await inviting.user(user)).state == "applied"


async def test_an_expired_invitation_is_told_once_and_repeated_by_an_operator_only(
    inviting: World,
) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    await expire(inviting, user)
    await look(inviting, user)
    await look(inviting, user)
    assert (await inviting.told(user)).count("invitation.expired") == 1
    shown = await inviting.user(user)
    assert shown.state == "waiting"
    assert "has expired" in (shown.detail or "")
    assert await mailed(inviting, "invitation") == [ADA]
    await resend(inviting, user)
    await inviting.settled()
    assert await mailed(inviting, "invitation") == [ADA, ADA]
    assert (await inviting.endings())[-1] == ("succeeded", "waiting", None)
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"]
    await look(inviting, user)
    assert (await inviting.user(user)).state == "applied"
    with pytest.raises(Refused, match="account in Auth0 already"):
        await resend(inviting, user)


async def test_of_two_open_invitations_the_other_is_deleted_when_one_is_accepted(
    inviting: World,
) -> None:
    inviting.work()
    user = await inviting.join("hoekstra", ADA)
    await inviting.settled()
    await resend(inviting, user)
    await inviting.settled()
    assert await open_invitations(inviting) == [ADA, ADA]
    assert (await accept(inviting, "hoekstra", USERS, ADA))["allowed"]
    await look(inviting, user)
    assert await open_invitations(inviting) == []
    assert sorted(str(each.ended) for each in await sent(inviting, user)) == [
        "accepted",
        "withdrawn",
    ]


async def test_postgres_keeps_what_was_sent_as_sqlite_does(postgres_world: World) -> None:
    world = postgres_world
    await invites_by(world, "hoekstra", "invitation")
    await world.fault("drop-after-commit", "POST", "/organizations/*/invitations", times=1)
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await resend(world, user)
    await world.settled()
    assert await deliveries(world, user) == [("invitation", "doubtful"), ("invitation", "sent")]
    assert (await accept(world, "hoekstra", USERS, ADA))["allowed"]
    await look(world, user)
    assert await open_invitations(world) == []
    # The doubtful one was found by our mark, given its id, and deleted.
    kept = {each.ended: each.reference for each in await sent(world, user)}
    assert set(kept) == {"accepted", "withdrawn"}
    assert None not in kept.values()
    assert (await world.user(user)).state == "applied"


async def test_an_enterprise_user_is_invited_into_their_connection_and_bound(world: World) -> None:
    await invites_by(world, "metahexa", "invitation")
    world.work()
    bob = "bob@metahexa.example"
    user = await world.join("metahexa", bob)
    await world.settled()
    assert await mailed(world, "invitation") == [bob]
    assert (await world.user(user)).state == "waiting"
    assert (await accept(world, "metahexa", "metahexa-ad", bob))["allowed"]
    await look(world, user)
    assert (await world.user(user)).state == "applied"
    assert (await world.told(user)).count("user.created") == 1
    assert await world.members() == {("metahexa", bob)}


async def test_an_enterprise_user_who_is_there_already_needs_no_invitation(world: World) -> None:
    await invites_by(world, "metahexa", "invitation")
    bob = "bob@metahexa.example"
    await log_in(world, "metahexa-ad", bob)
    world.work()
    user = await world.join("metahexa", bob)
    await world.settled()
    assert await mailed(world, "invitation") == []
    assert (await world.user(user)).state == "applied"


async def test_in_the_shared_model_only_somebody_without_an_account_is_invited(
    world: World,
) -> None:
    await invites_by(world, "clinic-b", "invitation")
    world.work()
    kim = "kim@clinics.example"
    await world.join("clinic-a", kim)
    await world.settled()
    await world.join("clinic-b", kim)
    lee = "lee@clinics.example"
    user = await world.join("clinic-b", lee)
    await world.settled()
    assert await mailed(world, "invitation") == [lee]
    assert await world.members() == {("clinic-a", kim), ("clinic-b", kim)}
    assert (await accept(world, "clinic-b", "clinics-users", lee))["allowed"]
    await look(world, user)
    assert ("clinic-b", lee) in await world.members()
    # Nobody else has them: who came by our invitation is blocked when they are in nowhere.
    await world.change(user, active=False)
    await world.settled()
    there = await world.auth0_user(lee)
    assert there is not None
    assert there["blocked"] is True


@proves("scope missing")
async def test_a_scope_that_is_missing_for_invitations_keeps_no_leaver_in(world: World) -> None:
    await invites_by(world, "hoekstra", "invitation")
    world.work()
    user = await world.join("hoekstra", ADA)
    await world.settled()
    await resend(world, user)
    await world.settled()
    path = "/organizations/*/invitations/*"
    await world.fault(
        "status",
        "DELETE",
        path,
        status=403,
        body={"statusCode": 403, "message": "Insufficient scope, expected any of: delete:…"},
    )
    assert (await accept(world, "hoekstra", USERS, ADA))["allowed"]
    await world.change(user, active=False)
    await world.settled()
    assert (await world.endings())[-1] == ("deadlettered", None, "insufficient_scope")
    there = await world.auth0_user(ADA)
    assert there is not None
    assert there["blocked"] is True
    assert len(await open_invitations(world)) == 1
    # Once the scope is granted, the next wish ends it.
    await world.mend()
    await world.change(user, displayName="Ada King")
    await world.settled()
    assert await open_invitations(world) == []
    assert await world.members() == set()


async def test_leaving_one_of_two_inviting_organizations_ends_its_invitation_only(
    world: World,
) -> None:
    for name in ("clinic-a", "clinic-b"):
        await invites_by(world, name, "invitation")
    world.work()
    kim = "kim@clinics.example"
    first = await world.join("clinic-a", kim)
    await world.settled()
    await world.join("clinic-b", kim)
    await world.settled()
    assert len(await mailed(world, "invitation")) == 1, "one for an account"
    await world.change(first, active=False)
    await world.settled()
    (left,) = (await world.state())["invitations"]
    assert left["organization"] == "clinic-b"
