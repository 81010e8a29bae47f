"""Accounts of the shared model that the product's own Organizations, or strangers, have a part in."""

from __future__ import annotations

from datetime import timedelta

from service.auth0.answers import Answer
from service.directory import accounts
from service.organizations import Connection
from service.people import User
from service.provisioning.desired import Desired
from service.provisioning.effects import Done, Setting
from service.provisioning.interpreting import interpret
from service.provisioning.observed import Observed, after
from service.provisioning.operations import ReadMemberships, RemoveMember, Subject
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.links import invites_by, look
from tests.provisioning.logins import follow
from tests.provisioning.test_leavers_at_identity_providers import set_account
from tests.provisioning.world import World

DOCTOR = "n.okafor@clinics.example"


async def _members_path(world: World, name: str) -> str:
    organization = await call(world, "GET", f"/organizations/name/{name}")
    return f"/organizations/{organization['id']}/members"


async def _others_add(world: World, name: str = "hoekstra") -> None:
    """Somebody else makes the doctor a member of an Organization that is none of theirs."""
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    await call(world, "POST", await _members_path(world, name), {"members": [person["user_id"]]})


async def _others_remove(world: World, name: str = "hoekstra") -> None:
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    await call(world, "DELETE", await _members_path(world, name), {"members": [person["user_id"]]})


async def _is_blocked(world: World) -> bool:
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    return bool(person["blocked"])


async def _left(world: World) -> User:
    """The doctor was in one organization of ours, and is in none any more."""
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    await world.change(user, active=False)
    await world.settled()
    return user


async def test_a_block_that_others_lift_stays_lifted_while_they_have_the_person(
    world: World,
) -> None:
    world.work()
    user = await _left(world)
    assert await _is_blocked(world)
    await _others_add(world)
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    await call(world, "PATCH", f"/users/{person['user_id']}", {"blocked": False})
    await look(world, user)
    assert not await _is_blocked(world)


async def test_a_block_that_others_lift_is_put_back_where_nobody_has_the_person(
    world: World,
) -> None:
    world.work()
    user = await _left(world)
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    await call(world, "PATCH", f"/users/{person['user_id']}", {"blocked": False})
    await look(world, user)
    assert await _is_blocked(world)


async def test_our_block_goes_when_others_take_the_person_in(world: World) -> None:
    await follow(world)
    await _left(world)
    assert await _is_blocked(world)
    await _others_add(world)

    async def let_in() -> bool:
        return not await _is_blocked(world)

    await world.until(let_in)
    assert await world.members() == {("hoekstra", DOCTOR)}


async def test_who_is_left_by_the_last_others_is_blocked(world: World) -> None:
    await follow(world)
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    await _others_add(world)
    await world.change(user, active=False)
    await world.settled()
    assert not await _is_blocked(world)
    await _others_remove(world)
    await world.until(lambda: _is_blocked(world))


async def test_whom_others_took_in_before_a_membership_came_about_is_not_blocked(
    world: World,
) -> None:
    organization = (await world.registered("clinic-a")).organization
    nowhere = organization.model_copy(update={"auth0_organization": "no-such-clinic"})
    await world.apply(nowhere)
    world.work()
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    await _others_add(world)
    await world.change(user, active=False)
    await world.settled()
    assert not await _is_blocked(world)


async def test_a_removal_that_does_not_show_yet_is_looked_for_again(world: World) -> None:
    """Of an Organization that others removed the person from just before we did."""
    world.work()
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    await _others_add(world)
    await world.change(user, active=False)
    await world.settled()
    account_id = (await world.user(user)).account_id
    assert account_id is not None
    account = await world.database.read(lambda tx: accounts.get(tx, account_id))
    assert account is not None
    assert account.due_at is not None
    assert account.due_at < world.clock.now() + timedelta(minutes=2)


async def test_a_directory_s_id_of_somebody_takes_nobody_over_in_a_database(world: World) -> None:
    """Else a customer who knows an id takes a stranger in, and locks them out again."""
    stranger = "dana@elsewhere.example"
    user_id = await sign_up(world, "clinics-users", stranger, verified=True)
    await invites_by(world, "clinic-b", "invitation")
    world.work()
    mallory = await world.join(
        "clinic-b", "mallory@clinics.example", externalId=user_id.removeprefix("auth0|")
    )
    await world.settled()
    await set_account(world, mallory, appeared=user_id)
    await look(world, mallory)
    await look(world, mallory)
    assert await world.members() == set()
    await world.delete(mallory)
    await world.settled()
    person = await world.auth0_user(stranger)
    assert person is not None
    assert not person["blocked"]
    assert not person.get("app_metadata")


def test_an_organization_s_former_name_does_not_keep_an_account_open() -> None:
    """Removals take seconds to show: what was left just now is nobody's any more."""
    subject = Subject(organization="clinic-a", user_id="u1")
    desired = Desired(
        model="shared",
        principal=subject,
        connection=Connection(name="clinics-users"),
        email=DOCTOR,
        leavers={"clinic-new": subject},
    )
    observed = Observed(presence="present", origin="created", memberships={"clinic-old": ()})
    observed = after(observed, RemoveMember(subject=subject, organization="clinic-old"))
    setting = Setting(
        account_id="a1",
        user_id="auth0|k1",
        connection="clinics-users",
        desired=desired,
        observed=observed,
    )
    answer = Answer(verdict="ok", data=["clinic-old"])
    effect = interpret(ReadMemberships(subject=subject), answer, setting)
    assert isinstance(effect, Done)
    assert effect.observed.foreign == ()
