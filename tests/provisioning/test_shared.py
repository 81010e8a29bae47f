"""Shared organizations: several customers' users live in one account."""

from __future__ import annotations

from service.organizations import Policies
from service.people import User
from tests.faults import proves
from tests.provisioning.auth0 import call, sign_up
from tests.provisioning.world import World

DOCTOR = "n.okafor@clinics.example"


async def _both(world: World) -> tuple[User, User]:
    world.work()
    a = await world.join("clinic-a", DOCTOR)
    b = await world.join("clinic-b", DOCTOR)
    await world.settled()
    return a, b


async def test_two_organizations_share_one_account(world: World) -> None:
    await _both(world)
    assert await world.members() == {("clinic-a", DOCTOR), ("clinic-b", DOCTOR)}
    assert len((await world.state())["users"]) == 1


async def test_leaving_one_organization_revokes_access_and_keeps_the_other(world: World) -> None:
    a, _ = await _both(world)
    before = (await world.calls())[-1]["number"]
    await world.change(a, active=False)
    await world.settled()
    steps = [(c["method"], c["path"].split("/")[-1]) for c in await world.calls(before)]
    assert steps == [("DELETE", "members"), ("POST", "revoke-access")]
    assert await world.members() == {("clinic-b", DOCTOR)}
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    assert not person["blocked"]


async def test_losing_the_last_membership_blocks_an_account_that_we_created(world: World) -> None:
    a, b = await _both(world)
    await world.delete(a)
    await world.delete(b)
    await world.settled()
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    assert person["blocked"] is True
    assert await world.members() == set()


async def test_coming_back_to_one_organization_lifts_our_block(world: World) -> None:
    a, b = await _both(world)
    await world.change(a, active=False)
    await world.change(b, active=False)
    await world.settled()
    await world.change(b, active=True)
    await world.settled()
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    assert not person["blocked"]
    assert await world.members() == {("clinic-b", DOCTOR)}


async def test_a_foreign_membership_keeps_the_account_open(world: World) -> None:
    a, b = await _both(world)
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    organization = next(
        o for o in (await world.state())["organizations"] if o["name"] == "hoekstra"
    )
    members = {"members": [person["user_id"]]}
    await call(world, "POST", f"/organizations/{organization['id']}/members", members)
    await world.delete(a)
    await world.delete(b)
    await world.settled()
    kept = await world.auth0_user(DOCTOR)
    assert kept is not None
    assert not kept["blocked"]
    assert await world.members() == {("hoekstra", DOCTOR)}


async def test_no_organization_may_change_the_profile(world: World) -> None:
    a, _ = await _both(world)
    before = (await world.calls())[-1]["number"]
    await world.change(
        a, name={"givenName": "Mallory", "familyName": "Evil"}, displayName="Mallory"
    )
    await world.settled()
    assert [c for c in await world.calls(before) if c["method"] == "PATCH"] == []


@proves("address taken by a stranger")
async def test_a_stranger_who_signed_up_first_is_not_adopted(world: World) -> None:
    await world.declare(**{"clinic-a": {"policies": Policies()}})
    await sign_up(world, "clinics-users", DOCTOR, verified=True)
    world.work()
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    assert (await world.user(user)).state == "failed"
    assert (await world.endings())[-1] == ("deadlettered", None, "identifier_in_use")
    assert await world.members() == set()


async def test_an_unverified_address_is_not_adopted_even_by_policy(world: World) -> None:
    await sign_up(world, "clinics-users", DOCTOR, verified=False)
    world.work()
    await world.join("clinic-a", DOCTOR)
    await world.settled()
    assert (await world.endings())[-1] == ("deadlettered", None, "identifier_in_use")


async def test_an_address_outside_verified_domains_is_not_adopted(world: World) -> None:
    await sign_up(world, "clinics-users", "x@elsewhere.example", verified=True)
    world.work()
    await world.join("clinic-a", "x@elsewhere.example")
    await world.settled()
    assert (await world.endings())[-1] == ("deadlettered", None, "identifier_in_use")


async def test_a_verified_address_in_a_verified_domain_is_adopted_by_policy(world: World) -> None:
    await sign_up(world, "clinics-users", DOCTOR, verified=True)
    world.work()
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    assert (await world.told(user))[0] == "user.adopted"
    assert await world.members() == {("clinic-a", DOCTOR)}


async def test_an_adopted_account_is_never_blocked_by_an_organization(world: World) -> None:
    await sign_up(world, "clinics-users", DOCTOR, verified=True)
    world.work()
    user = await world.join("clinic-a", DOCTOR)
    await world.settled()
    await world.delete(user)
    await world.settled()
    person = await world.auth0_user(DOCTOR)
    assert person is not None
    assert not person["blocked"]
    assert await world.members() == set()


async def test_only_one_organization_s_events_fail_where_its_membership_is_refused(
    world: World,
) -> None:
    organization = await world.registered("clinic-b")
    await world.apply(
        organization.organization.model_copy(update={"auth0_organization": "no-such-clinic"})
    )
    world.work()
    a = await world.join("clinic-a", DOCTOR)
    b = await world.join("clinic-b", DOCTOR)
    await world.settled()
    assert (await world.user(a)).state == "applied"
    assert (await world.user(b)).state == "failed"
    assert await world.members() == {("clinic-a", DOCTOR)}


async def test_an_address_that_auth0_keeps_is_told_to_who_changed_it(world: World) -> None:
    a, b = await _both(world)
    await world.change(a, emails=[{"value": "ngozi@clinics.example", "primary": True}])
    await world.settled()
    assert await world.auth0_user(DOCTOR) is not None
    changed, other = await world.user(a), await world.user(b)
    assert (changed.state, other.state) == ("applied", "applied")
    assert changed.detail is not None
    assert "address" in changed.detail
    assert DOCTOR not in changed.detail
    assert other.detail is None
    await world.change(a, emails=[{"value": DOCTOR, "primary": True}])
    await world.settled()
    assert (await world.user(a)).detail is None
