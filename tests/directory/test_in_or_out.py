"""When someone is in or out: every cause counts, and only its own source lifts it."""

from datetime import timedelta

import pytest

from service.directory import locks
from service.directory.database import Database
from service.organizations import Connection, Organization, Policies
from service.people import causes
from tests.directory.customer import Customer, registered

ANN = "ann@hoekstra.example"


async def test_inactive_in_scim_is_out_until_scim_says_active(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, active=False)
    assert not await hoekstra.is_in(user)
    await hoekstra.change(user, active=True)
    assert await hoekstra.is_in(user)


async def test_scim_does_not_bring_back_whom_hr_terminated(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w1")
    await hoekstra.change(user, active=True, displayName="Ann")
    assert not await hoekstra.is_in(user)


async def test_hr_does_not_bring_back_who_is_inactive_in_scim(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1", active=False)
    await hoekstra.hr("hired", "w1")
    assert not await hoekstra.is_in(user)


@pytest.mark.parametrize("ending", ["terminated", "suspended", "deleted", "hire_rescinded"])
@pytest.mark.parametrize("return_", ["hired", "rehired"])
async def test_whom_hr_puts_out_hr_brings_back(
    hoekstra: Customer, ending: str, return_: str
) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr(ending, "w1")
    assert not await hoekstra.is_in(user)
    await hoekstra.hr(return_, "w1")
    assert await hoekstra.is_in(user)


async def test_an_operators_lock_is_lifted_by_an_operator_alone(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.database.transact(
        lambda tx: locks.block(tx, user.id, actor="me", reason="lost laptop", now=hoekstra.now)
    )
    await hoekstra.change(user, active=True, displayName="Ann")
    await hoekstra.hr("rehired", "w1")
    assert not await hoekstra.is_in(user)
    await hoekstra.database.transact(
        lambda tx: locks.unblock(tx, user.id, actor="me", now=hoekstra.now)
    )
    assert await hoekstra.is_in(user)


async def test_an_operators_lock_outlives_a_deletion_and_a_return(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.database.transact(
        lambda tx: locks.block(tx, user.id, actor="me", reason=None, now=hoekstra.now)
    )
    await hoekstra.delete(user)
    assert not await hoekstra.is_in(await hoekstra.create(ANN, externalId="w1"))


async def test_a_decommissioned_organization_has_nobody_in(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN)
    found = causes(user, hoekstra.registered.organization, decommissioned=True)
    assert found == {"organization-decommissioned"}


@pytest.mark.parametrize(("policy", "stays_in"), [("keep", True), ("block", False)])
async def test_leave_counts_by_policy(database: Database, policy: str, stays_in: bool) -> None:
    customer = await registered(
        database,
        Organization(
            name="hoekstra",
            connections=(Connection(name="users"),),
            policies=Policies.model_validate({"on_leave": policy}),
        ),
    )
    user = await customer.create(ANN, externalId="w1")
    await customer.hr("leave_started", "w1")
    assert await customer.is_in(user) is stays_in
    await customer.hr("leave_ended", "w1")
    assert await customer.is_in(user)


@pytest.mark.parametrize("leave", ["leave_started", "leave_ended"])
@pytest.mark.parametrize("ending", ["terminated", "suspended", "deleted"])
async def test_leave_never_brings_back_who_is_out(
    hoekstra: Customer, leave: str, ending: str
) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr(ending, "w1")
    await hoekstra.hr(leave, "w1")
    assert not await hoekstra.is_in(user)


async def test_a_rehire_ends_an_earlier_leave(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    for kind in ("leave_started", "terminated", "rehired"):
        await hoekstra.hr(kind, "w1")
    assert (await hoekstra.user("w1")).employment == "active"


async def test_whom_only_hr_knows_is_in_when_hired_and_not_before(hoekstra: Customer) -> None:
    await hoekstra.hr("changed", "w1", email=ANN)
    assert not await hoekstra.is_in("w1")
    assert await hoekstra.account("w1") is None
    await hoekstra.hr("hired", "w1")
    assert await hoekstra.is_in("w1")
    assert await hoekstra.account("w1") is not None


async def test_a_leaver_goes_first_among_accounts(hoekstra: Customer) -> None:
    leaver = await hoekstra.create(ANN)
    await hoekstra.apply()
    for n in range(3):
        await hoekstra.create(f"new{n}@hoekstra.example")
    await hoekstra.delete(leaver)
    assert (await hoekstra.apply())[0] == leaver.account_id


async def test_a_leaver_of_a_shared_account_keeps_going_first(
    clinics: tuple[Customer, Customer],
) -> None:
    a, b = clinics
    ann = await a.create(ANN)
    elsewhere = await b.create(ANN)
    await a.apply()
    await b.create("new@clinics.example")
    for customer in clinics:
        customer.now += timedelta(seconds=1)
    await a.delete(ann)
    await b.change(elsewhere, displayName="Ann")
    assert (await a.apply())[0] == ann.account_id


async def test_going_out_and_coming_in_make_older_open_events_moot(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN)
    await hoekstra.change(user, displayName="Ann")
    await hoekstra.change(user, active=False)
    await hoekstra.change(user, active=True)
    await hoekstra.apply()
    assert await hoekstra.states() == ["superseded", "superseded", "superseded", "succeeded"]


async def test_changes_that_leave_a_person_in_are_applied_together(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN)
    for name in ("A", "B", "C"):
        await hoekstra.change(user, displayName=name)
    assert len(await hoekstra.apply()) == 1
    assert await hoekstra.states() == ["succeeded"] * 4


async def test_a_put_that_changes_nothing_keeps_the_version_and_is_an_event(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN)
    assert (await hoekstra.change(user)).version == 1
    assert len(await hoekstra.events()) == 2


async def test_what_hr_says_leaves_scims_version_and_time_alone(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    hoekstra.now = hoekstra.now.replace(hour=23)
    await hoekstra.hr("changed", "w1", title="Director")
    after = await hoekstra.user(user)
    assert (after.version, after.modified_at) == (user.version, user.modified_at)
