"""Thin events that wait for an answer: one of a worker at a time, and no two processes on one."""

from datetime import timedelta

from service.directory import ending, enrichments, inbox
from service.directory.database import Transaction
from service.directory.enrichments import Wanted
from tests.directory.customer import START, Customer

LEASE = timedelta(seconds=60)


async def waits_for(customer: Customer, worker_id: str, *, source: str = "bamboo") -> str:
    def work(tx: Transaction) -> str:
        admission = inbox.admit(tx, customer.from_hr(), customer.name)
        enrichments.wait(
            tx,
            admission.event_id,
            organization=customer.name,
            worker_id=worker_id,
            source=source,
            order=[None, admission.number],
            now=customer.now,
        )
        return admission.event_id

    return await customer.database.transact(work)


async def claimed(
    customer: Customer, owner: str = "one", *, source: str = "bamboo", limit: int = 10
) -> list[Wanted]:
    return await customer.database.transact(
        lambda tx: enrichments.claim(
            tx, source, owner=owner, now=customer.now, lease=LEASE, limit=limit
        )
    )


async def taken(customer: Customer, wanted: Wanted, owner: str = "one") -> bool:
    return await customer.database.transact(lambda tx: enrichments.take(tx, wanted, owner))


async def test_the_longest_waiting_are_asked_about_first(hoekstra: Customer) -> None:
    events = [await waits_for(hoekstra, f"w{number}") for number in range(4)]
    assert [each.event_id for each in await claimed(hoekstra, limit=3)] == events[:3]
    assert [each.event_id for each in await claimed(hoekstra, limit=3)] == events[3:]


async def test_of_one_worker_the_event_accepted_first_goes_first_and_alone(
    hoekstra: Customer,
) -> None:
    first, second = [await waits_for(hoekstra, "w1") for _ in range(2)]
    (wanted,) = await claimed(hoekstra)
    assert wanted.event_id == first
    assert await claimed(hoekstra, "two") == []
    assert await taken(hoekstra, wanted)
    assert [each.event_id for each in await claimed(hoekstra, "two")] == [second]


async def test_a_worker_whose_first_event_is_put_off_keeps_the_others_waiting(
    hoekstra: Customer,
) -> None:
    first = await waits_for(hoekstra, "w1")
    await waits_for(hoekstra, "w1")
    (wanted,) = await claimed(hoekstra)
    error = {"code": "enrichment_unavailable", "message": "It fails."}
    later = START + timedelta(seconds=30)
    await hoekstra.database.transact(
        lambda tx: enrichments.put_off(tx, wanted, "one", due_at=later, error=error)
    )
    assert await claimed(hoekstra) == []
    told = await hoekstra.database.read(lambda tx: enrichments.of_event(tx, first))
    assert told == {"attempts": 1, "due_at": later, "error": error}
    hoekstra.now = later
    (again,) = await claimed(hoekstra, "two")
    assert (again.event_id, again.attempts, again.error) == (first, 1, error)


async def test_sources_wait_apart(hoekstra: Customer) -> None:
    await waits_for(hoekstra, "w1", source="bamboo")
    other = await waits_for(hoekstra, "w2", source="gusto")
    assert [each.event_id for each in await claimed(hoekstra, source="gusto")] == [other]
    backlogs = await hoekstra.database.read(enrichments.backlogs)
    assert {name: each.waiting for name, each in backlogs.items()} == {"bamboo": 1, "gusto": 1}
    waiting = await hoekstra.database.read(lambda tx: enrichments.sources_waiting(tx, hoekstra.now))
    assert set(waiting) == {"bamboo", "gusto"}


async def test_who_lost_the_lease_changes_nothing(hoekstra: Customer) -> None:
    event_id = await waits_for(hoekstra, "w1")
    (old,) = await claimed(hoekstra, "one")
    hoekstra.now += LEASE
    (new,) = await claimed(hoekstra, "two")
    assert new.event_id == event_id
    assert not await taken(hoekstra, old, "one")
    await hoekstra.database.transact(
        lambda tx: enrichments.put_off(
            tx, old, "one", due_at=hoekstra.now, error={"code": "x", "message": "x"}
        )
    )
    assert await taken(hoekstra, new, "two")


async def test_what_ended_otherwise_is_not_gone_on_with(hoekstra: Customer) -> None:
    event_id = await waits_for(hoekstra, "w1")
    (wanted,) = await claimed(hoekstra)
    await hoekstra.database.transact(
        lambda tx: ending.finish(tx, event_id, "discarded", now=hoekstra.now)
    )
    assert not await taken(hoekstra, wanted)


async def test_an_owner_that_ends_leaves_its_events_to_others_at_once(hoekstra: Customer) -> None:
    event_id = await waits_for(hoekstra, "w1")
    await claimed(hoekstra, "one")
    await hoekstra.database.transact(lambda tx: enrichments.release(tx, "one"))
    assert [each.event_id for each in await claimed(hoekstra, "two")] == [event_id]
