"""Only roles that we granted are ever removed: what somebody gave by hand stays, whatever maps to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.clock import SystemClock
from service.directory import groups
from service.directory.groups import Group, MemberChange
from service.organizations import Policies
from service.people import User
from tests.faults import proves
from tests.provisioning.auth0 import call
from tests.provisioning.hand import LOST, TakeOver
from tests.provisioning.test_appearing import follow
from tests.provisioning.test_drift import check, ready
from tests.provisioning.world import World


class Ahead(SystemClock):
    """The machine's clock, so many seconds on."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._seconds)


ADA = "ada@hoekstra.example"
DOCTOR = "n.okafor@clinics.example"
ROLES = {"Chiefs": "admin", "Board": "admin", "Clerks": "billing"}
READS = "/organizations/*/members/*/roles"


@pytest.fixture(autouse=True)
async def declared(world: World) -> None:
    quiet = {"policies": Policies(invite="none"), "roles": ROLES}
    await world.declare(hoekstra=quiet, **{"clinic-a": quiet, "clinic-b": quiet})


async def path_of(world: World, address: str, organization: str = "hoekstra") -> str:
    user = await world.auth0_user(address)
    assert user is not None
    named = await call(world, "GET", f"/organizations/name/{organization}")
    return f"/organizations/{named['id']}/members/{user['user_id'].replace('|', '%7C')}/roles"


async def by_hand(
    world: World, method: str, role: str, address: str = ADA, organization: str = "hoekstra"
) -> None:
    """Somebody gives (POST) or takes (DELETE) a role in Auth0."""
    every = await call(world, "GET", "/roles")
    ids = [each["id"] for each in every if each["name"] == role]
    await call(world, method, await path_of(world, address, organization), {"roles": ids})


async def roles(world: World, organization: str = "hoekstra") -> list[str]:
    every = (await world.state())["members"]
    return sorted(
        role for each in every if each["organization"] == organization for role in each["roles"]
    )


async def hired(world: World, *names: str) -> User:
    await world.worker("hoekstra", "hired", "w-1", attributes={"email": ADA}, groups=names)
    return await world.hired("w-1")


async def regroup(world: World, *names: str) -> None:
    await world.worker("hoekstra", "changed", "w-1", groups=names)
    await world.settled()


async def role_calls(world: World, method: str) -> int:
    every = await world.calls()
    return sum("/members/" in c["path"] and c["method"] == method for c in every)


async def test_a_role_given_by_hand_before_a_group_maps_to_it_outlives_the_group(
    world: World,
) -> None:
    world.work()
    ada = await hired(world)
    await world.settled()
    await by_hand(world, "POST", "admin")
    written = await role_calls(world, "POST")
    await regroup(world, "Chiefs", "Clerks")
    assert await roles(world) == ["admin", "billing"]
    changed = [o for o in await world.outcomes(ada) if "roles.changed" in o.type]
    assert [o.data["added"] for o in changed] == [["billing"]], "what was there is not granted"
    assert await role_calls(world, "POST") == written + 1
    await regroup(world)
    assert await roles(world) == ["admin"]


async def test_whom_we_have_just_made_costs_no_read(world: World) -> None:
    world.work()
    await hired(world, "Chiefs")
    await world.settled()
    assert await roles(world) == ["admin"]
    assert await role_calls(world, "GET") == 0
    await regroup(world, "Chiefs", "Clerks")
    assert await role_calls(world, "GET") == 1, "by then somebody may have given the other role"
    await regroup(world)
    assert await roles(world) == []
    assert await role_calls(world, "GET") == 1, "nothing is read where nothing is granted"


async def test_a_role_of_several_groups_goes_with_the_last_unless_it_was_given_by_hand(
    world: World,
) -> None:
    world.work()
    await hired(world, "Clerks")
    await world.settled()
    await by_hand(world, "POST", "admin")
    await regroup(world, "Chiefs", "Board", "Clerks")
    await regroup(world, "Board", "Clerks")
    assert await roles(world) == ["admin", "billing"]
    await regroup(world)
    assert await roles(world) == ["admin"]


@pytest.mark.parametrize("lost", ["landed", "never sent"])
@pytest.mark.parametrize("crashed", [False, True])
async def test_a_grant_whose_answer_was_lost_is_ours(
    world: World, hand: TakeOver, lost: str, crashed: bool
) -> None:
    """The roles were read before it was recorded: what shows afterwards is there because of us."""
    ada = await hired(world)
    lane = await hand(ada)
    await lane.finish()
    await by_hand(world, "POST", "billing")
    await world.worker("hoekstra", "changed", "w-1", groups=("Chiefs", "Clerks"))
    step = await lane.until("add-roles")
    assert str(step.operation).endswith("roles=('admin',)")
    if lost == "landed":
        await lane.call(step)
    if crashed:
        lane = await hand(ada)
    else:
        await lane.record(step, LOST)
    await lane.finish()
    assert await roles(world) == ["admin", "billing"]
    await world.worker("hoekstra", "changed", "w-1", groups=())
    await lane.finish()
    assert await roles(world) == ["billing"]


async def test_who_comes_back_keeps_what_was_given_by_hand_meanwhile(
    world: World, hand: TakeOver
) -> None:
    ada = await hired(world, "Chiefs")
    lane = await hand(ada)
    await lane.finish()
    await world.worker("hoekstra", "terminated", "w-1", immediate=True)
    await lane.finish()
    await world.worker("hoekstra", "changed", "w-1", groups=("Chiefs", "Clerks"))
    await world.worker("hoekstra", "rehired", "w-1")
    step = await lane.until("read-roles")
    await by_hand(world, "POST", "billing")
    await lane.finish(step)
    assert await roles(world) == ["admin", "billing"]
    await world.worker("hoekstra", "changed", "w-1", groups=())
    await lane.finish()
    assert await roles(world) == ["billing"]


@pytest.mark.parametrize(("later", "left"), [(30, []), (90, ["admin"])])
async def test_what_we_have_taken_away_and_still_shows_is_ours_for_a_minute(
    world: World, hand: TakeOver, later: int, left: list[str]
) -> None:
    """Auth0 shows a removal late; by then, whoever has the role got it from somebody else."""
    ada = await hired(world, "Chiefs")
    lane = await hand(ada)
    await lane.finish()
    await world.worker("hoekstra", "changed", "w-1", groups=())
    await lane.finish()
    await by_hand(world, "POST", "admin")
    world.clock = Ahead(later)
    await world.worker("hoekstra", "changed", "w-1", groups=("Chiefs",))
    await lane.finish()
    assert await roles(world) == ["admin"]
    await world.worker("hoekstra", "changed", "w-1", groups=())
    await lane.finish()
    assert await roles(world) == left


async def test_two_organizations_in_one_account_know_whose_roles_are_whose(world: World) -> None:
    world.work()
    people = {name: await world.join(name, DOCTOR) for name in ("clinic-a", "clinic-b")}
    await world.settled()
    await by_hand(world, "POST", "admin", DOCTOR, "clinic-b")
    chiefs: dict[str, Group] = {}
    for name, user in people.items():
        chiefs[name] = await group_of(world, name, [user])
    await world.settled()
    assert await roles(world, "clinic-a") == await roles(world, "clinic-b") == ["admin"]
    for name, user in people.items():
        await leave(world, chiefs[name], user)
    await world.settled()
    assert await roles(world, "clinic-a") == []
    assert await roles(world, "clinic-b") == ["admin"]


async def group_of(world: World, organization: str, members: Sequence[User]) -> Group:
    registered, ids = await world.registered(organization), [user.id for user in members]
    chiefs = {"displayName": "Chiefs"}
    return await world.database.transact(
        lambda tx: groups.create(tx, registered, chiefs, ids, world.received("group"))
    )


async def leave(world: World, group: Group, user: User) -> None:
    registered = await world.registered(user.organization)

    def work(tx: Any) -> None:
        held = groups.lock(tx, user.organization, group.id)
        change = MemberChange(remove=frozenset((user.id,)))
        groups.change(tx, registered, held, group.resource, change, world.received("group"))

    await world.database.transact(work)


async def test_whose_membership_does_not_show_yet_is_granted_roles_all_the_same(
    world: World,
) -> None:
    world.work()
    await hired(world)
    await world.settled()
    body = {"statusCode": 404, "error": "Not Found", "message": "The user is no member."}
    await world.fault("status", "GET", READS, status=404, body=body)
    await regroup(world, "Chiefs")
    assert await roles(world) == ["admin"]


@proves("scope missing")
async def test_where_roles_may_not_be_read_nothing_is_granted_and_it_is_told(world: World) -> None:
    world.work()
    ada = await hired(world)
    await world.settled()
    message = "Insufficient scope, expected any of: read:organization_member_roles"
    body = {"statusCode": 403, "error": "Forbidden", "message": message}
    await world.fault("status", "GET", READS, status=403, body=body)
    await regroup(world, "Chiefs")
    assert (await world.endings())[-1] == ("deadlettered", None, "insufficient_scope")
    assert await roles(world) == []
    await world.mend()
    await regroup(world, "Chiefs", "Clerks")
    assert await roles(world) == ["admin", "billing"]
    assert (await world.user(ada)).state == "applied"


async def given_by_hand(world: World) -> None:
    """Ada is to be an administrator, and is one by somebody's hand."""
    await hired(world)
    await world.settled()
    await by_hand(world, "POST", "admin")
    await regroup(world, "Chiefs")
    assert await role_calls(world, "POST") == 1, "by hand"


async def test_what_was_given_by_hand_and_is_taken_by_hand_we_grant_while_it_is_wanted(
    world: World,
) -> None:
    await follow(world)
    await given_by_hand(world)
    await by_hand(world, "DELETE", "admin")

    async def again() -> bool:
        return await roles(world) == ["admin"]

    await world.until(again, 5.0)
    await world.settled()
    await regroup(world)
    assert await roles(world) == [], "it was ours by then"


async def test_a_compare_finds_that_what_was_given_by_hand_is_missing(world: World) -> None:
    world.work()
    await given_by_hand(world)
    await ready(world)
    assert "differ" not in await check(world)
    await by_hand(world, "DELETE", "admin")
    assert (await check(world))["differ"] == 1
    await check(world, correct=True)
    assert await roles(world) == ["admin"]
    await regroup(world)
    assert await roles(world) == []
