"""From the first day to the last, and back: what each step of a worker's life does to access."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from consumers.mappings.instants import effective_at
from service.directory import coming_due, locks
from service.directory.database import Database
from service.organizations import Connection, Organization, Policies
from service.provisioning.desired import Resident, desire
from service.workers import WorkerEvent
from tests.directory.customer import Customer, days, registered

ANN = "ann@hoekstra.example"


# Before the first day


@pytest.mark.parametrize(
    ("day", "zone"),
    [
        ("2026-05-11", "Pacific/Auckland"),
        ("2026-05-11", "America/Los_Angeles"),
        ("2026-03-29", "Europe/Amsterdam"),  # summer time begins at 2
        ("2026-10-25", "Europe/Amsterdam"),  # and ends at 3
        ("2026-04-24", "Africa/Cairo"),  # where this day begins at 1
        ("2026-11-01", "America/Havana"),  # and this hour comes twice
    ],
)
async def test_a_pre_hire_comes_in_when_the_day_begins_where_they_work_and_not_before(
    hoekstra: Customer, day: str, zone: str
) -> None:
    begins = effective_at(day, zone, type="worker.hired")
    planned = await hoekstra.hr("hired", "w1", at=begins, email=ANN)
    assert begins is not None
    hoekstra.now = begins - timedelta(seconds=1)
    assert f"{hoekstra.now.astimezone(ZoneInfo(zone)):%Y-%m-%d}" < day
    await hoekstra.run_due()
    assert await hoekstra.everyone() == []
    hoekstra.now = begins
    assert f"{hoekstra.now.astimezone(ZoneInfo(zone)):%Y-%m-%d}" == day
    await hoekstra.run_due()
    assert await hoekstra.is_in("w1")
    await hoekstra.apply()
    assert await hoekstra.state_of(planned) == "succeeded"


@pytest.mark.parametrize(
    ("day", "zone", "ends"),
    [
        ("2026-03-28", "Europe/Amsterdam", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("2026-03-29", "Europe/Amsterdam", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-10-25", "Europe/Amsterdam", datetime(2026, 10, 25, 23, tzinfo=UTC)),
    ],
)
async def test_the_last_day_is_worked_to_its_end_whatever_its_length(
    hoekstra: Customer, day: str, zone: str, ends: datetime
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    await hoekstra.hr("terminated", "w1", at=effective_at(day, zone, type="worker.terminated"))
    hoekstra.now = ends - timedelta(seconds=1)
    await hoekstra.run_due()
    assert await hoekstra.is_in("w1")
    hoekstra.now = ends
    await hoekstra.run_due()
    assert not await hoekstra.is_in("w1")


# When the day has come


async def test_what_is_due_is_judged_by_what_holds_then(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w1")
    await hoekstra.hr("rehired", "w1", at=days(10))
    await hoekstra.database.transact(
        lambda tx: locks.block(tx, user.id, actor="me", reason="theft", now=hoekstra.now)
    )
    await hoekstra.change(user, active=False)
    hoekstra.now = days(10)
    await hoekstra.run_due()
    assert (await hoekstra.user(user)).employment == "active"
    assert not await hoekstra.is_in(user)


async def test_a_hire_that_is_due_after_a_newer_termination_lets_nobody_in(
    hoekstra: Customer,
) -> None:
    planned = await hoekstra.hr("hired", "w1", sequence=1, at=days(10), email=ANN)
    await hoekstra.hr("terminated", "w1", sequence=2, at=days(5))
    assert await hoekstra.state_of(planned) == "superseded"
    hoekstra.now = days(11)
    await hoekstra.run_due()
    assert not await hoekstra.is_in("w1")


async def test_of_many_that_are_due_leavers_go_first(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "leaver", email=ANN)
    for n in range(3):
        await hoekstra.hr("hired", f"w{n}", at=days(1 + n), email=f"w{n}@hoekstra.example")
    await hoekstra.hr("terminated", "leaver", at=days(9))
    hoekstra.now = days(10)
    await hoekstra.database.transact(lambda tx: coming_due.run_due(tx, hoekstra.now, limit=1))
    assert not await hoekstra.is_in("leaver")
    while await hoekstra.run_due():
        pass
    assert await hoekstra.is_in("w2")


async def test_a_term_that_is_over_before_anybody_looked_leaves_nobody_in(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", at=days(5), email=ANN)
    await hoekstra.hr("terminated", "w1", at=days(20))
    hoekstra.now = days(30)
    while await hoekstra.run_due():
        pass
    assert not await hoekstra.is_in("w1")


# Conversion


async def test_a_conversion_keeps_person_account_and_access(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN, title="Contractor")
    before = await hoekstra.user("w1")
    await hoekstra.hr("changed", "w1", title="Employee")
    after = await hoekstra.user("w1")
    assert (after.id, after.account_id) == (before.id, before.account_id)
    assert await hoekstra.is_in("w1")
    account = await hoekstra.account("w1")
    assert account is not None
    assert not account.leaver


# Coming back, and whoever comes with the same address


@pytest.mark.parametrize("model", ["isolated", "shared"])
async def test_somebody_else_with_the_address_of_a_leaver_gets_nothing_of_theirs(
    database: Database, model: str
) -> None:
    organization = Organization.model_validate(
        {"name": "hoekstra", "model": model, "connections": [Connection(name="users")]}
    )
    customer = await registered(database, organization)
    await customer.hr("hired", "w1", email=ANN)
    await customer.apply()
    of_leaver = (await customer.user("w1")).account_id
    await customer.hr("terminated", "w1")
    hired = await customer.hr("hired", "w2", email=ANN.upper())
    assert await customer.state_of(hired) == "deadlettered"
    assert (await customer.user("w2")).account_id is None
    in_scim = await customer.create(ANN, externalId="w3")
    assert (in_scim.state, in_scim.account_id) == ("failed", None)
    assert not await customer.is_in("w1")
    assert (await customer.user("w1")).account_id == of_leaver


async def test_who_is_rehired_with_another_address_keeps_the_account(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    before = await hoekstra.account("w1")
    await hoekstra.hr("terminated", "w1")
    await hoekstra.hr("rehired", "w1", email="ann.lee@hoekstra.example")
    after = await hoekstra.account("w1")
    assert before is not None
    assert after is not None
    assert (after.id, after.identifier) == (before.id, "ann.lee@hoekstra.example")


# Tombstones


async def test_a_worker_who_was_deleted_at_the_source_is_blocked_and_never_deleted(
    database: Database,
) -> None:
    organization = Organization(
        name="hoekstra",
        connections=(Connection(name="users"),),
        policies=Policies(deletion="delete", deletion_hold=timedelta(days=1)),
    )
    customer = await registered(database, organization)
    await customer.hr("hired", "w1", email=ANN)
    await customer.hr("deleted", "w1")
    user = await customer.user("w1")
    wish = desire(
        [Resident(user=user, organization=organization)],
        identifier=ANN,
        connection_name="users",
        user_id="auth0|8f",
        now=days(1000),
    )
    assert (wish.wanted, wish.delete, wish.delete_at) == (False, False, None)
    await customer.hr("rehired", "w1")
    assert (await customer.user("w1")).account_id == user.account_id
    assert await customer.is_in("w1")


@pytest.mark.parametrize(
    ("user_id", "is_database"),
    [("auth0|8f", True), ("waad|8f", False), ("samlp|entra|8f", False), ("oidc|entra|8f", False)],
)
async def test_a_connection_that_is_not_declared_any_more_is_of_the_kind_that_its_users_are(
    database: Database, user_id: str, is_database: bool
) -> None:
    """Nobody writes an address or a password to an identity provider's profile."""
    organization = Organization(name="hoekstra", connections=(Connection(name="users"),))
    customer = await registered(database, organization)
    await customer.hr("hired", "w1", email=ANN)
    wish = desire(
        [Resident(user=await customer.user("w1"), organization=organization)],
        identifier=ANN,
        connection_name="former",
        user_id=user_id,
        now=days(0),
    )
    assert wish.connection.is_database == is_database
    assert wish.model == ("isolated" if is_database else "enterprise")


# Immediate terminations


async def test_an_immediate_termination_overtakes_a_planned_one_and_older_work(
    hoekstra: Customer,
) -> None:
    hired = await hoekstra.hr("hired", "w1", email=ANN)
    changed = await hoekstra.hr("changed", "w1", title="Director")
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    now = WorkerEvent(type="worker.terminated", worker_id="w1", immediate=True)
    done = await hoekstra.deliver(now, hoekstra.from_hr(now.type))
    assert not await hoekstra.is_in("w1")
    for older in (hired, changed, planned):
        assert await hoekstra.state_of(older) == "superseded"
    account = await hoekstra.account("w1")
    assert account is not None
    assert account.leaver
    await hoekstra.apply()
    assert await hoekstra.state_of(done) == "succeeded"
    hoekstra.now = days(31)
    assert await hoekstra.run_due() == 0
