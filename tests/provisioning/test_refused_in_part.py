"""What Auth0 refuses of a leaving, or of a change, keeps nobody in who is otherwise to be out."""

from __future__ import annotations

from typing import Any

import pytest

from service.directory import groups
from service.directory.groups import Group, MemberChange
from service.people import User
from tests.faults import proves
from tests.provisioning.auth0 import sign_up
from tests.provisioning.world import World

ADA = "ada@hoekstra.example"
NEW = "ada.king@hoekstra.example"
DOCTOR = "doctor@clinics.example"


async def lack(world: World, scope: str, method: str, path: str) -> None:
    """Our client has not been granted this scope."""
    message = f"Insufficient scope, expected any of: {scope}"
    body = {"statusCode": 403, "error": "Forbidden", "message": message}
    await world.fault("status", method, path, status=403, body=body)


async def joined(world: World, organization: str, address: str) -> User:
    world.work()
    user = await world.join(organization, address)
    await world.settled()
    assert (organization, address) in await world.members()
    return user


async def person(world: World, address: str) -> dict[str, Any]:
    found = await world.auth0_user(address)
    assert found is not None
    return found


@proves("scope missing")
async def test_whose_sessions_may_not_be_ended_is_no_member_all_the_same(world: World) -> None:
    ada = await joined(world, "hoekstra", ADA)
    await lack(world, "delete:sessions", "POST", "/users/*/revoke-access")
    await world.change(ada, active=False)
    await world.settled()
    assert (await person(world, ADA))["blocked"]
    assert await world.members() == set()
    assert (await world.endings())[-1] == ("deadlettered", None, "insufficient_scope")
    assert (await world.user(ada)).state == "failed"
    await world.mend()


async def test_whose_sessions_may_not_be_ended_is_blocked_where_nobody_has_them(
    world: World,
) -> None:
    """The account that several organizations share is blocked last of all."""
    doctor = await joined(world, "clinic-a", DOCTOR)
    await lack(world, "delete:sessions", "POST", "/users/*/revoke-access")
    await world.change(doctor, active=False)
    await world.settled()
    assert await world.members() == set()
    assert (await person(world, DOCTOR))["blocked"]
    assert (await world.endings())[-1] == ("deadlettered", None, "insufficient_scope")


@proves("scope missing")
async def test_who_may_not_be_blocked_has_neither_sessions_nor_memberships(world: World) -> None:
    ada = await joined(world, "hoekstra", ADA)
    await lack(world, "update:users", "PATCH", "/users/*")
    await world.change(ada, active=False)
    await world.settled()
    assert await world.members() == set()
    assert len(await world.writes("POST", "/revoke-access")) == 1
    assert (await world.endings())[-1] == ("deadlettered", None, "insufficient_scope")
    await world.mend()
    await world.change(ada, active=False, title="left")
    await world.settled()
    assert (await person(world, ADA))["blocked"], "a newer wish tries what was refused"


async def test_who_stays_hears_nothing_of_what_was_refused_of_another_s_leaving(
    world: World,
) -> None:
    doctor = await joined(world, "clinic-a", DOCTOR)
    other = await world.join("clinic-b", DOCTOR)
    await world.settled()
    await lack(world, "delete:sessions", "POST", "/users/*/revoke-access")
    await world.change(doctor, active=False)
    await world.settled()
    assert await world.members() == {("clinic-b", DOCTOR)}
    assert (await world.user(doctor)).state == "failed"
    assert (await world.user(other)).state == "applied"


async def roles_of(world: World) -> list[str]:
    (member,) = (await world.state())["members"]
    return member["roles"]


async def group(world: World, name: str, *users: User) -> Group:
    registered, resource = await world.registered("hoekstra"), {"displayName": name}
    ids = [user.id for user in users]
    return await world.database.transact(
        lambda tx: groups.create(tx, registered, resource, ids, world.received("group"))
    )


async def change(world: World, group: Group, change: MemberChange) -> None:
    registered = await world.registered("hoekstra")

    def work(tx: Any) -> None:
        held = groups.lock(tx, "hoekstra", group.id)
        groups.change(tx, registered, held, group.resource, change, world.received("group"))

    await world.database.transact(work)


@pytest.fixture
async def administrator(world: World) -> tuple[User, Group]:
    """Somebody whose group makes them an administrator of their Organization."""
    await world.declare(hoekstra={"roles": {"Chiefs": "admin", "Clerks": "no-such-role"}})
    ada = await joined(world, "hoekstra", ADA)
    chiefs = await group(world, "Chiefs", ada)
    await world.settled()
    assert await roles_of(world) == ["admin"]
    return ada, chiefs


@proves("unknown role")
async def test_a_role_goes_although_another_cannot_be_granted(
    world: World, administrator: tuple[User, Group]
) -> None:
    ada, chiefs = administrator
    clerks = await group(world, "Clerks")
    await world.rest()
    await change(world, clerks, MemberChange(add=frozenset((ada.id,))))
    await change(world, chiefs, MemberChange(remove=frozenset((ada.id,))))
    world.work()
    await world.settled()
    assert (await world.user(ada)).state == "failed"
    assert (await world.endings())[-1] == ("deadlettered", None, "unknown_role")
    assert await roles_of(world) == []


@proves("new address taken")
async def test_a_role_goes_although_a_new_address_is_taken(
    world: World, administrator: tuple[User, Group]
) -> None:
    ada, chiefs = administrator
    await sign_up(world, "hoekstra-users", NEW, verified=False)
    await world.change(ada, emails=[{"value": NEW, "primary": True}])
    await world.settled()
    assert (await world.endings())[-1] == ("deadlettered", None, "identifier_in_use")
    await change(world, chiefs, MemberChange(remove=frozenset((ada.id,))))
    await world.settled()
    assert await roles_of(world) == []
