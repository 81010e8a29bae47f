"""When an organization ends, so does every event of it that waits for a day, an answer or an operator."""

from collections.abc import Sequence
from typing import Any

from service.directory import enrichments, inbox, locks, organizations
from service.directory.database import Database, Transaction
from service.directory.events import Event
from service.organizations import Connection, MassLeavers, Organization, Policies
from service.workers import WorkerEvent
from tests.directory.customer import ENDINGS, Customer, days, registered


async def decommission(customer: Customer) -> None:
    def work(tx: Transaction) -> Any:
        locks.decommission(tx, customer.name, actor="ops", now=customer.now)
        return organizations.find(tx, customer.name)

    customer.registered = await customer.database.transact(work)


async def events(customer: Customer, ids: Sequence[str]) -> list[Event]:
    return [each for each in await customer.events() if each.id in ids]


async def has_ended(customer: Customer, *ids: str) -> None:
    """Each as discarded with the reason, told once."""
    for each in await events(customer, ids):
        assert each.state == "discarded"
        assert (each.error or {})["code"] == "organization_decommissioned"
    told = [o.event_id for o in await customer.outcomes() if o.type in ENDINGS]
    assert [told.count(each) for each in ids] == [1 for _ in ids]


async def test_staged_leavers_end(database: Database) -> None:
    policies = Policies(mass_leavers=MassLeavers(count=1, share=0.1))
    customer = await registered(
        database,
        Organization(name="hoekstra", connections=(Connection(name="u"),), policies=policies),
    )
    people = [await customer.create(f"p{n}@hoekstra.example", externalId=f"w{n}") for n in range(4)]
    await customer.apply()
    for person in people:
        await customer.change(person, active=False)
    staged = [each.id for each in await customer.events() if each.state == "staged"]
    assert staged
    await decommission(customer)
    await has_ended(customer, *staged)
    assert all(each.withheld is None for each in await customer.everyone())


async def test_what_was_planned_ends_and_never_comes(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email="ann@hoekstra.example")
    leaves = await hoekstra.hr("terminated", "w1", at=days(30))
    comes = await hoekstra.hr("hired", "w2", at=days(5), email="bob@hoekstra.example")
    await decommission(hoekstra)
    await has_ended(hoekstra, leaves.event_id, comes.event_id)
    hoekstra.now = days(31)
    assert await hoekstra.run_due() == 0


async def test_what_is_planned_afterwards_ends_when_it_is_due(hoekstra: Customer) -> None:
    await decommission(hoekstra)
    late = [
        await hoekstra.hr("hired", f"w{n}", at=days(5), email=f"w{n}@h.example") for n in (1, 2)
    ]
    hoekstra.now = days(5)
    assert await hoekstra.run_due() == 2
    await has_ended(hoekstra, *(each.event_id for each in late))
    assert await hoekstra.everyone() == []


async def test_nobody_is_asked_about_workers_any_more(hoekstra: Customer) -> None:
    def wait(tx: Transaction) -> str:
        admission = inbox.admit(tx, hoekstra.from_hr(), hoekstra.name)
        enrichments.wait(
            tx,
            admission.event_id,
            organization=hoekstra.name,
            worker_id="w1",
            source="bamboo",
            order=[None, admission.number],
            now=hoekstra.now,
        )
        return admission.event_id

    waits = await hoekstra.database.transact(wait)
    await decommission(hoekstra)
    await has_ended(hoekstra, waits)
    assert await hoekstra.database.read(lambda tx: enrichments.backlogs(tx)) == {}


async def test_an_export_that_waits_for_its_lines_ends(hoekstra: Customer) -> None:
    completed = WorkerEvent(
        type="worker.snapshot_completed", worker_id="", snapshot="monday", count=3
    )
    waits = await hoekstra.deliver(completed, hoekstra.from_hr(completed.type))
    await decommission(hoekstra)
    await has_ended(hoekstra, waits.event_id)


async def test_another_organization_goes_on_as_before(hoekstra: Customer) -> None:
    other = await registered(
        hoekstra.database, Organization(name="other", connections=(Connection(name="o"),))
    )
    planned = await other.hr("hired", "w1", at=days(5), email="ann@other.example")
    await decommission(hoekstra)
    assert await other.state_of(planned) == "scheduled"
