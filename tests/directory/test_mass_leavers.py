"""Many leavers at once wait for an operator; one by one people go at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from service.directory import audit, discards, events, leavers, locks, replays, staging
from service.directory import tables as t
from service.directory.database import Database
from service.directory.events import Event
from service.directory.results import Result
from service.directory.workers import Delivery, accept_many
from service.ids import new_id
from service.organizations import Connection, MassLeavers, Organization, Policies
from service.people import User
from service.provisioning.residents import residents_of
from service.workers import WorkerEvent
from tests.directory.crowd import settle_in
from tests.directory.customer import START, Customer, registered

Leave = Callable[[Customer, User], Awaitable[Any]]


async def a_customer(
    database: Database, policy: MassLeavers | None = None, name: str = "hoekstra"
) -> Customer:
    policies = Policies(mass_leavers=policy or MassLeavers(count=2, share=0.1))
    users = Connection(name=f"{name}-users")
    return await registered(
        database, Organization(name=name, connections=(users,), policies=policies)
    )


async def people_of(customer: Customer, count: int) -> list[User]:
    """So many people whom SCIM and HR know, all of them in Auth0."""
    for n in range(count):
        await customer.create(f"p{n}@{customer.name}.example", externalId=f"w{n}", active=True)
    await customer.apply()
    return await customer.everyone()


async def inactive(customer: Customer, user: User) -> None:
    await customer.change(user, active=False)


async def deleted(customer: Customer, user: User) -> None:
    await customer.delete(user)


async def terminated(customer: Customer, user: User) -> None:
    await customer.hr("terminated", user.external_id or "")


async def suspended(customer: Customer, user: User) -> None:
    await customer.hr("suspended", user.external_id or "")


LEAVINGS = pytest.mark.parametrize("leave", [inactive, deleted, terminated, suspended])


async def those_in(customer: Customer) -> int:
    return sum([await customer.is_in(user) for user in await customer.everyone()])


async def staged_events(customer: Customer) -> list[Event]:
    return [event for event in await customer.events() if event.state == "staged"]


async def approve(customer: Customer, event: Event) -> Result:
    return await customer.database.transact(
        lambda tx: staging.approve(tx, event.id, actor="op", now=customer.now)
    )


async def refuse(customer: Customer, event: Event) -> Result:
    return await customer.database.transact(
        lambda tx: staging.refuse(tx, event.id, actor="op", now=customer.now)
    )


async def block(customer: Customer, user: User) -> None:
    await customer.database.transact(
        lambda tx: locks.block(tx, user.id, actor="op", reason=None, now=customer.now)
    )


async def unblock(customer: Customer, user: User) -> None:
    await customer.database.transact(
        lambda tx: locks.unblock(tx, user.id, actor="op", now=customer.now)
    )


async def one_staged(customer: Customer, leave: Leave = inactive) -> tuple[User, Event]:
    """Of ten people two have left, and the third is staged."""
    people = await people_of(customer, 10)
    for user in people[:2]:
        await inactive(customer, user)
    await customer.apply()
    await leave(customer, people[2])
    (event,) = await staged_events(customer)
    return await customer.user(people[2]), event


@LEAVINGS
async def test_leavers_past_both_thresholds_are_staged(database: Database, leave: Leave) -> None:
    customer = await a_customer(database)
    for user in await people_of(customer, 10):
        await leave(customer, user)
    assert await those_in(customer) == 8
    staged = await staged_events(customer)
    assert len(staged) == 8
    assert {(await customer.user(event.user_id or "")).state for event in staged} == {"staged"}


@pytest.mark.parametrize(
    ("people", "leaving", "go"),
    [(300, 100, 30), pytest.param(1000, 800, 100, marks=pytest.mark.kill)],
)
async def test_of_many_who_leave_at_once_a_tenth_may_go(
    database: Database, people: int, leaving: int, go: int
) -> None:
    customer = await a_customer(database, MassLeavers())
    await database.transact(lambda tx: settle_in(tx, customer.name, people, START))
    for at in range(0, leaving, 100):
        left = [_delivery(customer, "terminated", n) for n in range(at, at + 100)]
        await database.transact(lambda tx, left=left: accept_many(tx, left))
    assert await _going(customer) == go
    staged = await staged_events(customer)
    assert len(staged) == leaving - go
    for event in staged[: leaving if people == 1000 else 10]:
        assert (await approve(customer, event)).verdict == "approved"
    assert await _going(customer) == (leaving if people == 1000 else go + 10)


async def _going(customer: Customer) -> int:
    """How many accounts are due because somebody leaves."""
    query = select(func.count()).where(t.accounts.c.leaver, t.accounts.c.due_at.is_not(None))
    return await customer.database.read(lambda tx: tx.execute(query).scalar_one())


def _delivery(customer: Customer, kind: str, n: int) -> Delivery:
    attributes = {"email": f"p{n}@hoekstra.example"} if kind == "hired" else {}
    event = WorkerEvent(type=f"worker.{kind}", worker_id=f"crowd-{n}", attributes=attributes)
    received = customer.from_hr(event.type)
    return Delivery(registered=customer.registered, event=event, received=received)


async def test_a_small_organization_loses_three_of_five_at_once(database: Database) -> None:
    customer = await a_customer(database, MassLeavers())
    for user in (await people_of(customer, 5))[:3]:
        await inactive(customer, user)
    assert await those_in(customer) == 2


async def test_a_small_share_leaves_however_many_they_are(database: Database) -> None:
    customer = await a_customer(database, MassLeavers(count=1, share=0.5))
    people = await people_of(customer, 12)
    for user in people[:6]:
        await inactive(customer, user)
    assert await those_in(customer) == 6
    await inactive(customer, people[6])
    assert await those_in(customer) == 6


async def test_nobody_is_staged_where_the_threshold_is_off(database: Database) -> None:
    customer = await a_customer(database, MassLeavers(count=0, share=0, enabled=False))
    for user in await people_of(customer, 4):
        await inactive(customer, user)
    assert await those_in(customer) == 0


async def test_with_nothing_allowed_every_leaver_is_staged(database: Database) -> None:
    customer = await a_customer(database, MassLeavers(count=0, share=0))
    for user in await people_of(customer, 4):
        await inactive(customer, user)
    assert await those_in(customer) == 4


async def test_both_doors_count_together(database: Database) -> None:
    customer = await a_customer(database)
    people = await people_of(customer, 10)
    for user, leave in zip(people, (inactive, terminated, deleted, suspended), strict=False):
        await leave(customer, user)
    assert await those_in(customer) == 8


async def test_leavers_are_let_go_again_once_the_window_has_passed(database: Database) -> None:
    customer = await a_customer(database)
    people = await people_of(customer, 10)
    for user in people[:3]:
        await inactive(customer, user)
        customer.now += timedelta(minutes=20)
    assert len(await staged_events(customer)) == 1
    customer.now += timedelta(minutes=1)  # the first left more than an hour ago
    await inactive(customer, people[3])
    assert not await customer.is_in(people[3])
    await inactive(customer, people[4])
    assert await customer.is_in(people[4])
    assert await customer.is_in(people[2])  # who is staged stays so


async def test_organizations_are_counted_apart(database: Database) -> None:
    one, other = await a_customer(database), await a_customer(database, name="metahexa")
    for user in await people_of(one, 5):
        await inactive(one, user)
    people = await people_of(other, 5)
    for user in people[:2]:
        await inactive(other, user)
    assert (await those_in(one), await those_in(other)) == (3, 3)
    assert await database.read(staging.waiting) == {"hoekstra": 3}


async def test_an_approved_leaver_goes_first_and_the_event_succeeds(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)
    await customer.apply()
    await customer.create("new@hoekstra.example")
    assert (await approve(customer, event)).verdict == "approved"
    assert not await customer.is_in(user)
    assert (await customer.apply())[0] == user.account_id
    assert (await customer.events())[-2].state == "succeeded"
    assert (await approve(customer, event)).verdict == "skipped"
    entries = await database.read(lambda tx: audit.listing(tx, subject=event.id))
    assert [(entry.action, entry.actor) for entry in entries] == [("event.approve", "op")]


@LEAVINGS
async def test_who_is_refused_stays_in_until_the_source_speaks_again(
    database: Database, leave: Leave
) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer, leave)
    assert (await refuse(customer, event)).verdict == "refused"
    known = await database.read(lambda tx: events.get(tx, event.id))
    assert known is not None
    assert (known.state, (known.error or {})["code"]) == ("discarded", "refused")
    assert await customer.is_in(user)
    customer.now += timedelta(hours=2)
    await customer.hr("changed", user.external_id or "", title="Analyst")
    assert await customer.is_in(user)
    if leave is terminated or leave is suspended:
        await leave(customer, user)  # a newer word is judged anew
        assert not await customer.is_in(user)


async def test_a_refused_leaver_who_came_back_is_judged_anew(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)
    await refuse(customer, event)
    await customer.change(user, active=True)
    assert (await customer.user(user)).withheld is None
    await inactive(customer, user)
    assert len(await staged_events(customer)) == 1
    customer.now += timedelta(hours=2)
    await customer.change(user, active=True)
    await inactive(customer, user)
    assert not await customer.is_in(user)


async def test_a_staged_leaver_who_comes_back_makes_the_event_moot(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer, terminated)
    await customer.hr("rehired", user.external_id or "")
    assert await customer.is_in(user)
    assert (await customer.user(user)).withheld is None
    assert (await approve(customer, event)).verdict == "skipped"
    await customer.apply()
    assert await customer.is_in(user)
    assert not await staged_events(customer)


async def test_a_batch_that_brings_back_a_staged_leaver_makes_it_moot(database: Database) -> None:
    customer = await a_customer(database, MassLeavers(count=0, share=0))
    hired = [_delivery(customer, "hired", n) for n in range(4)]
    await database.transact(lambda tx: accept_many(tx, hired))
    await customer.apply()
    left = [_delivery(customer, "terminated", n) for n in range(4)]
    await database.transact(lambda tx: accept_many(tx, left))
    assert len(await staged_events(customer)) == 4
    back = [_delivery(customer, "rehired", n) for n in range(4)]
    await database.transact(lambda tx: accept_many(tx, back))
    assert not await staged_events(customer)
    assert {user.withheld is None for user in await customer.everyone()} == {True}


async def test_a_deletion_takes_the_place_of_a_staged_deactivation(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)
    await customer.delete(user)
    assert await customer.is_in(user)
    known = await database.read(lambda tx: events.get(tx, event.id))
    assert known is not None
    assert known.state == "superseded"
    (newer,) = await staged_events(customer)
    await approve(customer, newer)
    assert not await customer.is_in(user)


async def test_someone_deleted_and_staged_who_is_made_anew_stays_in(database: Database) -> None:
    customer = await a_customer(database)
    user, _ = await one_staged(customer, deleted)
    again = await customer.create((user.resource or {})["userName"], externalId=user.external_id)
    assert again.account_id == user.account_id
    assert await customer.is_in(again)
    assert not await staged_events(customer)


async def test_a_leaver_by_hr_stays_staged_when_scim_makes_the_person_anew(
    database: Database,
) -> None:
    customer = await a_customer(database)
    user, _ = await one_staged(customer, terminated)
    await customer.delete(user)
    again = await customer.create((user.resource or {})["userName"], externalId=user.external_id)
    assert await customer.is_in(again)
    (event,) = await staged_events(customer)
    await approve(customer, event)
    assert not await customer.is_in(again)


async def test_the_roles_of_someone_deleted_and_staged_stay(database: Database) -> None:
    users = Connection(name="hoekstra-users")
    policies = Policies(mass_leavers=MassLeavers(count=0, share=0))
    customer = await registered(
        database,
        Organization(
            name="hoekstra", connections=(users,), policies=policies, roles={"Billing": "billing"}
        ),
    )
    (user,) = await people_of(customer, 1)
    await customer.enrol(user, "Billing")
    await customer.delete(user)
    assert await _roles(customer, user) == {"billing"}
    (event,) = await staged_events(customer)
    await approve(customer, event)
    assert (await customer.user(user)).withheld is None


async def _roles(customer: Customer, user: User) -> frozenset[str]:
    from service.directory import roles

    found, organization = await customer.user(user), customer.registered.organization
    return await customer.database.read(lambda tx: roles.of_user(tx, found, organization))


async def test_immediate_terminations_go_whatever_the_threshold(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)
    now = WorkerEvent(type="worker.terminated", worker_id=user.external_id or "", immediate=True)
    await customer.deliver(now, customer.from_hr(now.type))
    assert not await customer.is_in(user)
    known = await database.read(lambda tx: events.get(tx, event.id))
    assert known is not None
    assert known.state == "superseded"


async def test_an_operators_lock_takes_over_a_staged_leaver(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)
    await block(customer, user)
    assert not await customer.is_in(user)
    assert not await staged_events(customer)
    assert (await refuse(customer, event)).verdict == "skipped"
    await unblock(customer, user)
    assert not await customer.is_in(user)  # inactive in SCIM still


async def test_operators_lock_out_as_many_as_they_like(database: Database) -> None:
    customer = await a_customer(database)
    people = await people_of(customer, 10)
    for user in people:
        await block(customer, user)
    assert await those_in(customer) == 0
    for user in people:
        await unblock(customer, user)
    for user in people[:2]:
        await inactive(customer, user)
    assert await those_in(customer) == 8  # and locks are not counted


async def test_who_was_refused_stays_in_after_a_lock(database: Database) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)
    await refuse(customer, event)
    await block(customer, user)
    await unblock(customer, user)
    assert await customer.is_in(user)


async def test_a_second_word_on_someone_staged_waits_with_the_first(database: Database) -> None:
    customer = await a_customer(database)
    user, first = await one_staged(customer)
    await terminated(customer, user)
    assert await customer.is_in(user)
    assert len(await staged_events(customer)) == 2
    await approve(customer, first)
    assert not await customer.is_in(user)
    await customer.apply()
    assert not await staged_events(customer)
    assert (await customer.states())[-2:] == ["succeeded", "succeeded"]


async def test_who_is_out_already_is_no_new_leaver(database: Database) -> None:
    customer = await a_customer(database)
    people = await people_of(customer, 10)
    for leave in (inactive, terminated, deleted):
        await leave(customer, people[0])
    await inactive(customer, people[1])
    assert await those_in(customer) == 8
    assert not await staged_events(customer)


async def test_who_never_had_an_account_is_no_damage(database: Database) -> None:
    customer = await a_customer(database)
    people = await people_of(customer, 3)
    without = [await customer.create(f"n{n}", externalId=f"n{n}") for n in range(5)]
    for user in without:
        await inactive(customer, user)
    for user in people[:2]:
        await inactive(customer, user)
    assert await those_in(customer) == 1


async def test_a_staged_persons_profile_still_changes(database: Database) -> None:
    customer = await a_customer(database)
    user, _ = await one_staged(customer)
    await customer.apply()
    await customer.change(user, displayName="Ann", userName="ann@hoekstra.example")
    account = await customer.account(user)
    assert account is not None
    assert (account.identifier, account.leaver) == ("ann@hoekstra.example", False)
    assert await customer.apply() == [user.account_id]
    assert (await customer.states())[-1] == "succeeded"
    assert await customer.is_in(user)


async def test_planned_terminations_are_judged_when_they_come_due(database: Database) -> None:
    customer = await a_customer(database)
    for user in await people_of(customer, 10):
        due = START + timedelta(days=1)
        await customer.hr("terminated", user.external_id or "", at=due)
    customer.now += timedelta(days=2)
    assert await customer.run_due() == 10
    assert await those_in(customer) == 8
    assert Counter(await customer.states())["staged"] == 8


@pytest.mark.parametrize("at_once", [1, 2, 300])
async def test_who_joins_when_they_leave_does_not_count_for_any_of_them(
    database: Database, at_once: int
) -> None:
    """However many are taken up at a time: of six people one may go, of seven two."""
    customer = await a_customer(database, MassLeavers(count=0, share=0.3))
    gone, first, second, *_ = await people_of(customer, 7)
    await terminated(customer, gone)
    due = START + timedelta(days=1)
    for user in (gone, first, second):
        await customer.hr("terminated", user.external_id or "", at=due)
    await customer.hr("hired", "n1", at=due, email="n1@hoekstra.example")
    customer.now += timedelta(days=2)
    while await customer.run_due(at_once):
        pass
    assert [await customer.is_in(user) for user in (first, second)] == [False, True]
    assert [event.user_id for event in await staged_events(customer)] == [second.id]
    assert await customer.is_in("n1")


async def test_two_transactions_at_once_let_no_more_go_than_one(database: Database) -> None:
    customer = await a_customer(database, MassLeavers(count=3, share=0))
    people = await people_of(customer, 10)
    await asyncio.gather(*(inactive(customer, user) for user in people))
    assert await those_in(customer) == 7


async def test_a_discarded_leaver_is_refused_and_a_staged_one_not_replayed(
    database: Database,
) -> None:
    customer = await a_customer(database)
    user, event = await one_staged(customer)

    def unread(*_: object) -> Any:
        raise AssertionError("not read")

    told = await database.transact(
        lambda tx: replays.replay(tx, event.id, read=unread, actor="op", now=customer.now)
    )
    assert told.verdict == "skipped"
    done = await database.transact(
        lambda tx: discards.discard(tx, event.id, reason="no", actor="op", now=customer.now)
    )
    assert done.verdict == "refused"
    assert await customer.is_in(user)


async def test_the_outcome_tells_what_was_exceeded(database: Database) -> None:
    customer = await a_customer(database)
    _, event = await one_staged(customer)
    told = [each for each in await customer.outcomes() if each.event_id == event.id]
    assert [each.type for each in told] == ["io.auth0-provisioner.event.staged.v1"]
    exceeded = {"leavers": 3, "people": 10, "count": 2, "share": 0.1, "withinSeconds": 3600}
    assert told[0].data["threshold"] == exceeded


async def test_old_departures_are_forgotten(database: Database) -> None:
    customer = await a_customer(database)
    for user in (await people_of(customer, 10))[:2]:
        await inactive(customer, user)
    kept = await database.transact(lambda tx: leavers.forget_old(tx, customer.now))
    later: datetime = customer.now + leavers.KEPT + timedelta(minutes=1)
    gone = await database.transact(lambda tx: leavers.forget_old(tx, later))
    assert (kept, gone) == (0, 2)


class Expected:
    """Who should be in, by the rules alone, where nobody may leave unseen."""

    def __init__(self) -> None:
        self.causes: set[str] = set()
        self.staged: set[str] = set()
        self.refused: set[str] = set()

    @property
    def is_in(self) -> bool:
        return self.causes <= self.staged | self.refused

    def comes_in(self, source: str) -> None:
        for each in (self.causes, self.staged, self.refused):
            each.discard(source)

    def leaves(self, source: str) -> None:
        if source == "scim" and "scim" in self.causes:
            return  # nothing new
        was_in = self.is_in
        self.causes.add(source)
        self.refused.discard(source)
        if was_in:
            self.staged.add(source)

    def goes_at_once(self, source: str) -> None:
        self.causes.add(source)
        self.staged.clear()
        self.refused.discard(source)

    def approved(self) -> None:
        self.staged.clear()

    def are_refused(self) -> None:
        self.refused |= self.staged
        self.staged.clear()


DEEDS = ("in", "out", "hired", "fired", "fired now", "approve", "refuse", "lock", "unlock")


@given(deeds=st.lists(st.sampled_from(DEEDS), max_size=9))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_a_person_is_out_if_a_cause_holds_that_is_not_withheld(
    database: Database, deeds: list[str]
) -> None:
    customer = await a_customer(database, MassLeavers(count=0, share=0), name=f"o{new_id(START)}")
    ann, expected = await customer.create("ann@a.example", externalId="w1"), Expected()
    await customer.hr("hired", "w1")
    for deed in deeds:
        await _do(customer, ann, deed, expected)
        assert await customer.is_in(ann) is expected.is_in
        sources = {_source(event) for event in await staged_events(customer)}
        assert sources == expected.staged
    await customer.apply()
    account = await customer.account(ann)
    assert account is not None
    residents = await database.read(lambda tx: residents_of(tx, account))
    assert [resident.wanted for resident in residents] == [expected.is_in]
    open_events = [e.state for e in await customer.events() if e.state in events.OPEN]
    assert open_events == ["staged"] * len(expected.staged)


async def _do(customer: Customer, ann: User, deed: str, expected: Expected) -> None:
    match deed:
        case "in" | "out":
            await customer.change(ann, active=deed == "in")
            (expected.comes_in if deed == "in" else expected.leaves)("scim")
        case "hired" | "fired":
            await customer.hr("rehired" if deed == "hired" else "terminated", "w1")
            (expected.comes_in if deed == "hired" else expected.leaves)("hr")
        case "fired now":
            event = WorkerEvent(type="worker.terminated", worker_id="w1", immediate=True)
            await customer.deliver(event, customer.from_hr(event.type))
            expected.goes_at_once("hr")
        case "approve":
            for event in (await staged_events(customer))[:1]:
                await approve(customer, event)
            expected.approved()
        case "refuse":
            for event in await staged_events(customer):
                await refuse(customer, event)
            expected.are_refused()
        case "lock":
            await block(customer, ann)
            expected.goes_at_once("operator")
        case _:
            await unblock(customer, ann)
            expected.comes_in("operator")


def _source(event: Event) -> str:
    return "scim" if event.door == "scim" else "hr"
