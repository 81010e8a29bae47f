"""Full exports of HR: who is missing from one has left, and nobody leaves by mistake."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from service.clock import SystemClock
from service.directory import (
    absences,
    discards,
    ending,
    enrichments,
    events,
    inbox,
    replays,
    sequels,
    snapshots,
    staging,
)
from service.directory.database import Database, Transaction
from service.directory.events import Problem
from service.directory.inbox import Admission, Received
from service.directory.workers import accept
from service.organizations import Connection, MassLeavers, Organization, Policies
from service.provisioning.fleet import Snapshots
from service.workers import SNAPSHOT_COMPLETED, WorkerEvent
from tests.directory.customer import Customer, days, registered

RUN = "2026-03-02"


@pytest.fixture
async def staffed(hoekstra: Customer) -> Customer:
    """Three workers whom HR has in, a day before the export."""
    for worker in ("w1", "w2", "w3"):
        await hoekstra.hr("hired", worker, email=f"{worker}@hoekstra.example")
    await hoekstra.apply()
    hoekstra.now = days(1)
    return hoekstra


async def line(customer: Customer, worker: str, run: str = RUN) -> Admission:
    event = WorkerEvent(type="worker.snapshot", worker_id=worker, snapshot=run)
    event = replace(event, attributes={"email": f"{worker}@hoekstra.example"})
    return await customer.deliver(event, customer.from_hr(event.type))


async def export(customer: Customer, workers: Sequence[str], run: str = RUN) -> None:
    for worker in workers:
        await line(customer, worker, run)


async def completed(
    customer: Customer, count: int, run: str = RUN, taken: float | None = None
) -> Admission:
    event = WorkerEvent(
        type=SNAPSHOT_COMPLETED,
        worker_id="",
        snapshot=run,
        count=count,
        effective_at=None if taken is None else days(taken),
    )
    return await customer.deliver(event, customer.from_hr(event.type))


async def compare(customer: Customer) -> int:
    """Steps until there is nothing to do now; returns how many did something."""
    steps = 0
    while True:
        turn = await customer.database.read(
            lambda tx: snapshots.next_open(tx, ("", ""), customer.now)
        )
        if turn is None or not await customer.database.transact(
            lambda tx, it=turn: absences.carry_on(tx, *it, customer.now)
        ):
            return steps
        steps += 1


async def who_is_in(customer: Customer) -> set[str]:
    return {
        user.worker_id
        for user in await customer.everyone()
        if user.worker_id and await customer.is_in(user)
    }


async def test_who_is_missing_from_a_full_export_leaves(staffed: Customer) -> None:
    await export(staffed, ["w1", "w3"])
    whole = await completed(staffed, 2)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w3"}
    caused = [event for event in await staffed.events() if event.causation_id == whole.event_id]
    assert [event.type for event in caused] == ["worker.terminated"]
    assert await staffed.state_of(whole) == "accepted"
    await staffed.apply()
    await compare(staffed)
    assert await staffed.state_of(whole) == "succeeded"
    told = next(o for o in await staffed.outcomes() if o.event_id == whole.event_id)
    assert told.data["snapshot"] == {"name": RUN, "workers": 2, "absent": 1}


async def test_the_word_that_it_was_all_may_come_before_the_last_lines(staffed: Customer) -> None:
    whole = await completed(staffed, 2)
    await export(staffed, ["w1"])
    assert await compare(staffed) == 0
    await export(staffed, ["w1", "w1"])
    assert await compare(staffed) == 0
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}
    await export(staffed, ["w2"])
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2"}
    await staffed.apply()
    await compare(staffed)
    assert await staffed.state_of(whole) == "succeeded"


async def test_where_lines_do_not_come_within_a_day_nobody_leaves(staffed: Customer) -> None:
    await export(staffed, ["w1"])
    whole = await completed(staffed, 2)
    staffed.now += timedelta(hours=23, minutes=59)
    await compare(staffed)
    assert await staffed.state_of(whole) == "accepted"
    staffed.now += timedelta(minutes=2)
    await compare(staffed)
    assert await staffed.state_of(whole) == "deadlettered"
    assert (await staffed.events())[-1].error is not None
    error = await problem_of(staffed, whole)
    assert error == ("snapshot_incomplete", True)
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}


async def problem_of(customer: Customer, admission: Admission) -> tuple[str, bool]:
    event = await customer.database.read(lambda tx: events.get(tx, admission.event_id))
    assert event is not None
    assert event.error is not None
    return event.error["code"], "1 were named" in event.error["message"]


async def test_an_incomplete_export_may_be_completed_later(staffed: Customer) -> None:
    await export(staffed, ["w1"])
    await completed(staffed, 2)
    staffed.now += timedelta(hours=25)
    await compare(staffed)
    await export(staffed, ["w2"])
    again = await completed(staffed, 2)
    await compare(staffed)
    await staffed.apply()
    await compare(staffed)
    assert await staffed.state_of(again) == "succeeded"
    assert await who_is_in(staffed) == {"w1", "w2"}


async def test_of_whom_hr_spoke_since_the_export_was_taken_stays(staffed: Customer) -> None:
    await staffed.hr("hired", "w4", email="w4@hoekstra.example")
    staffed.now = days(1.5)
    await export(staffed, ["w1"])
    await staffed.hr("changed", "w2", title="Director")
    await completed(staffed, 1, taken=0.9)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w4"}


async def test_without_a_time_an_export_is_as_old_as_its_first_line(staffed: Customer) -> None:
    await export(staffed, ["w1"])
    staffed.now = days(1.1)
    await staffed.hr("changed", "w2", title="Director")
    await completed(staffed, 1)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2"}


async def test_a_later_export_lets_go_whom_only_the_earlier_one_named(staffed: Customer) -> None:
    for day, workers in ((1, ["w1", "w2", "w3"]), (2, ["w1", "w2"]), (3, ["w1"])):
        staffed.now = days(day)
        await export(staffed, workers, f"day {day}")
        await completed(staffed, len(workers), f"day {day}")
        await compare(staffed)
        await staffed.apply()
        assert await who_is_in(staffed) == set(workers)
    await compare(staffed)
    assert {event.state for event in await staffed.events()} == {"succeeded"}


async def test_whom_hr_does_not_have_in_is_left_alone(staffed: Customer) -> None:
    only_scim = await staffed.create("ann@hoekstra.example", externalId="nobody")
    ahead = await staffed.hr("hired", "w8", at=days(30), email="w8@hoekstra.example")
    await staffed.hr("changed", "w9", email="w9@hoekstra.example")
    await staffed.hr("terminated", "w3")
    staffed.now = days(2)
    before = len(await staffed.events())
    await export(staffed, ["w1", "w2"])
    await completed(staffed, 2)
    await compare(staffed)
    assert len(await staffed.events()) == before + 3
    assert await staffed.is_in(only_scim)
    assert await staffed.state_of(ahead) == "scheduled"
    staffed.now = days(30)
    await staffed.run_due()
    assert await staffed.is_in("w8")


async def test_who_is_missing_loses_every_employment_and_what_was_planned(
    staffed: Customer,
) -> None:
    for employment in ("main", "side"):
        event = WorkerEvent(type="worker.hired", worker_id="w1", employment_id=employment)
        await staffed.deliver(event, staffed.from_hr(event.type))
    planned = await staffed.hr("terminated", "w1", at=days(30))
    await staffed.hr("suspended", "w2")
    staffed.now = days(2)
    await export(staffed, ["w3"])
    await completed(staffed, 1)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w3"}
    assert (await staffed.user("w2")).employment == "terminated"
    assert await staffed.state_of(planned) == "superseded"


async def test_a_rehire_after_the_compare_brings_back(staffed: Customer) -> None:
    await export(staffed, ["w1", "w2"])
    await completed(staffed, 2)
    await compare(staffed)
    assert not await staffed.is_in("w3")
    await staffed.hr("rehired", "w3")
    await compare(staffed)
    assert await staffed.is_in("w3")


async def test_many_leave_in_small_steps_and_the_event_ends_with_the_last(
    staffed: Customer,
) -> None:
    off = Policies(mass_leavers=MassLeavers(enabled=False))
    organization = staffed.registered.organization.model_copy(update={"policies": off})
    staffed.registered = (await registered(staffed.database, organization)).registered
    crowd = [f"c{n:02}" for n in range(45)]
    for worker in crowd:
        await staffed.hr("hired", worker, email=f"{worker}@hoekstra.example")
    staffed.now = days(2)
    await export(staffed, ["w1"])
    whole = await completed(staffed, 1)
    gone: list[int] = []
    for _ in range(3):
        await staffed.database.transact(
            lambda tx: absences.carry_on(tx, staffed.name, RUN, staffed.now)
        )
        gone.append(47 + 1 - len(await who_is_in(staffed)))
    assert gone == [20, 40, 47]
    await compare(staffed)
    assert await staffed.state_of(whole) == "accepted"
    await staffed.apply()
    await compare(staffed)
    assert await staffed.state_of(whole) == "succeeded"


async def test_past_the_threshold_those_who_are_missing_wait_for_an_operator(
    staffed: Customer,
) -> None:
    few = Policies(mass_leavers=MassLeavers(count=1, share=0.1))
    organization = staffed.registered.organization.model_copy(update={"policies": few})
    staffed.registered = (await registered(staffed.database, organization)).registered
    await export(staffed, ["w1"])
    whole = await completed(staffed, 1)
    await compare(staffed)
    assert len(await who_is_in(staffed)) == 2
    (staged,) = [event for event in await staffed.events() if event.state == "staged"]
    assert staged.causation_id == whole.event_id
    await staffed.apply()
    await compare(staffed)
    assert await staffed.state_of(whole) == "accepted"
    await staffed.database.transact(
        lambda tx: staging.refuse(tx, staged.id, actor="op", now=staffed.now)
    )
    await compare(staffed)
    assert await staffed.state_of(whole) == "succeeded"
    assert len(await who_is_in(staffed)) == 2


async def test_an_export_is_compared_once(staffed: Customer) -> None:
    await export(staffed, ["w1", "w2", "w3"])
    await completed(staffed, 3)
    await compare(staffed)
    await line(staffed, "w1")
    again = await completed(staffed, 1)
    await compare(staffed)
    assert await staffed.state_of(again) == "deadlettered"
    assert await staffed.last_problem() == "snapshot_closed"
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}


async def test_a_newer_word_on_an_open_export_takes_the_place_of_the_older(
    staffed: Customer,
) -> None:
    await export(staffed, ["w1", "w2"])
    mistaken = await completed(staffed, 3)
    await completed(staffed, 2)
    await compare(staffed)
    assert await staffed.state_of(mistaken) == "superseded"
    assert await who_is_in(staffed) == {"w1", "w2"}


async def test_of_a_discarded_export_nobody_leaves(staffed: Customer) -> None:
    whole = await completed(staffed, 1)
    await staffed.database.transact(
        lambda tx: ending.finish(tx, whole.event_id, "discarded", now=staffed.now)
    )
    await export(staffed, ["w1"])
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}
    assert await remembered(staffed.database) == 0


async def remembered(database: Database) -> int:
    def count(tx: Transaction) -> int:
        return tx.exec_driver_sql("SELECT count(*) FROM snapshot_workers").scalar_one()

    return await database.read(count)


async def test_what_was_heard_is_forgotten_after_the_compare_or_a_week(staffed: Customer) -> None:
    await export(staffed, ["w1", "w2", "w3"])
    await export(staffed, ["w1"], "never completed")
    await completed(staffed, 3)
    await compare(staffed)
    assert await remembered(staffed.database) == 1
    staffed.now += timedelta(days=8)
    await compare(staffed)
    assert await remembered(staffed.database) == 0


async def test_an_export_speaks_for_one_organization(staffed: Customer, database: Database) -> None:
    other = await registered(
        database, Organization(name="other", connections=(Connection(name="other-users"),))
    )
    await other.hr("hired", "w1", email="w1@other.example")
    await export(staffed, ["w1", "w2", "w3"])
    await completed(staffed, 3)
    await compare(staffed)
    assert await other.is_in("w1")


async def test_one_process_after_another_carries_the_compare_on(staffed: Customer) -> None:
    await export(staffed, ["w1"])
    whole = await completed(staffed, 1)
    staffed.now = days(36500)  # later than the system's clock says
    stop = asyncio.Event()
    running = [
        asyncio.create_task(Snapshots(database=staffed.database, clock=SystemClock()).run(stop))
        for _ in range(2)
    ]
    try:
        async with asyncio.timeout(10):
            while await staffed.state_of(whole) != "succeeded":
                await staffed.apply()
                await asyncio.sleep(0.05)
    finally:
        stop.set()
        await asyncio.gather(*running)
    assert await who_is_in(staffed) == {"w1"}
    caused = [event for event in await staffed.events() if event.causation_id == whole.event_id]
    assert len(caused) == 2


async def test_who_began_since_the_export_was_taken_stays_though_it_was_said_before(
    staffed: Customer,
) -> None:
    await staffed.hr("hired", "w4", at=days(2), email="w4@hoekstra.example")
    await staffed.hr("terminated", "w3", at=days(30))
    staffed.now = days(2.1)
    await staffed.run_due()
    assert await staffed.is_in("w4")
    await export(staffed, ["w1", "w2"])
    await completed(staffed, 2, taken=1.9)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w4"}


async def test_whom_a_newer_file_of_an_operator_brought_stays(staffed: Customer) -> None:
    await export(staffed, ["w1", "w2", "w3"])
    staffed.now = days(1.1)
    event = WorkerEvent(type="worker.hired", worker_id="w4", snapshot="file")
    event = replace(event, attributes={"email": "w4@hoekstra.example"})
    received = Received(
        door="operator", source="/operators/snapshots", type=event.type, at=staffed.now
    )
    await staffed.deliver(event, received)
    await completed(staffed, 3)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3", "w4"}


async def test_whom_hr_spoke_of_stays_when_scim_takes_the_person_over(staffed: Customer) -> None:
    await export(staffed, ["w1", "w2", "w3"])
    staffed.now = days(1.1)
    await staffed.hr("hired", "w4", email="w4@hoekstra.example")
    known = await staffed.create("w4@hoekstra.example", externalId="other")
    await staffed.change(known, externalId="w4")
    assert (await staffed.user("w4")).id == known.id
    await completed(staffed, 3)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3", "w4"}


async def test_whom_hr_spoke_of_stays_when_they_come_back_in_scim(staffed: Customer) -> None:
    known = await staffed.create("w4@hoekstra.example", externalId="w4")
    await staffed.hr("hired", "w4")
    await staffed.apply()
    staffed.now = days(2)
    await export(staffed, ["w1", "w2", "w3"])
    await staffed.hr("changed", "w4", title="Director")
    await staffed.delete(known)
    back = await staffed.create("w4@hoekstra.example", externalId="w4")
    assert (await staffed.user("w4")).id == back.id
    await completed(staffed, 3)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3", "w4"}


async def test_of_whom_hr_spoke_stays_while_it_is_asked_what_is_so(staffed: Customer) -> None:
    await export(staffed, ["w1", "w2"])
    thin = WorkerEvent(type="worker.changed", worker_id="w3")
    await staffed.database.transact(
        lambda tx: accept(tx, staffed.registered, thin, staffed.from_hr(thin.type), asks="people")
    )
    await completed(staffed, 2)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}


async def test_whom_a_replay_brought_in_since_the_export_was_taken_stays(
    staffed: Customer,
) -> None:
    await export(staffed, ["w1", "w2", "w3"])
    event = WorkerEvent(
        type="worker.hired", worker_id="w4", attributes={"email": "w4@hoekstra.example"}
    )
    unread = await staffed.database.transact(
        lambda tx: inbox.admit(tx, staffed.from_hr(event.type), staffed.name)
    )
    received = Received(
        door="operator",
        source="operator",
        type=sequels.REPLAY,
        at=staffed.now,
        causation_id=unread.event_id,
    )
    await staffed.database.transact(
        lambda tx: accept(tx, staffed.registered, event, received, number=unread.number)
    )
    await completed(staffed, 3)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3", "w4"}


async def test_who_was_kept_in_by_an_operator_leaves_when_missing_from_a_later_export(
    staffed: Customer,
) -> None:
    few = Policies(mass_leavers=MassLeavers(count=1, share=0.1))
    organization = staffed.registered.organization.model_copy(update={"policies": few})
    staffed.registered = (await registered(staffed.database, organization)).registered
    await export(staffed, ["w1"])
    await completed(staffed, 1)
    await compare(staffed)
    (staged,) = [event for event in await staffed.events() if event.state == "staged"]
    await staffed.database.transact(
        lambda tx: staging.refuse(tx, staged.id, actor="op", now=staffed.now)
    )
    await staffed.apply()
    (kept,) = await who_is_in(staffed) - {"w1"}
    for day, workers in ((2, ["w1", kept]), (3, ["w1"])):
        staffed.now = days(day)
        await export(staffed, workers, f"day {day}")
        await completed(staffed, len(workers), f"day {day}")
        await compare(staffed)
        assert await who_is_in(staffed) == set(workers)


async def asked_in_vain(customer: Customer, worker: str, *, discarded: bool) -> str:
    """A thin event of HR's about a worker, of which nobody could tell more; its id."""

    def work(tx: Transaction) -> str:
        event = WorkerEvent(type="worker.changed", worker_id=worker)
        delivery = accept(
            tx, customer.registered, event, customer.from_hr(event.type), asks="people"
        )
        if discarded:
            discards.discard(tx, delivery.event_id, reason="", actor="me", now=customer.now)
            return delivery.event_id
        (wanted,) = enrichments.claim(
            tx, "people", owner="o", now=customer.now, lease=timedelta(seconds=9), limit=9
        )
        assert enrichments.take(tx, wanted, "o")
        gone = Problem(
            kind="input", code="enrichment_not_found", message="It knows no such worker."
        )
        ending.finish(tx, delivery.event_id, "deadlettered", now=customer.now, problem=gone)
        return delivery.event_id

    return await customer.database.transact(work)


@pytest.mark.parametrize("discarded", [False, True])
async def test_of_whom_hr_spoke_stays_though_nobody_could_say_what_is_so(
    staffed: Customer, discarded: bool
) -> None:
    await export(staffed, ["w1", "w2"])
    event_id = await asked_in_vain(staffed, "w3", discarded=discarded)
    await completed(staffed, 2)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}
    told = [each.user_id for each in await staffed.events() if each.id == event_id]
    assert told == [(await staffed.user("w3")).id]


async def test_such_an_event_is_read_anew_by_a_replay(staffed: Customer) -> None:
    event_id = await asked_in_vain(staffed, "w3", discarded=False)
    event = WorkerEvent(type="worker.terminated", worker_id="w3")
    read = replays.Reading(organization=staffed.name, event=event)
    done = await staffed.database.transact(
        lambda tx: replays.replay(tx, event_id, read=lambda *_: read, actor="me", now=staffed.now)
    )
    assert done.verdict == "replayed"
    assert await who_is_in(staffed) == {"w1", "w2"}


async def test_lines_of_a_run_that_broke_off_do_not_count_for_the_next_of_its_name(
    staffed: Customer,
) -> None:
    """Else the next one would be thought whole while its lines are still coming."""
    await export(staffed, ["w1", "w2"], "nightly")
    staffed.now = days(2)
    await export(staffed, ["w2"], "nightly")
    await completed(staffed, 2, "nightly")
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2", "w3"}
    await export(staffed, ["w3"], "nightly")
    await compare(staffed)
    assert await who_is_in(staffed) == {"w2", "w3"}


async def test_lines_of_one_run_count_together_over_hours(staffed: Customer) -> None:
    await export(staffed, ["w1"])
    staffed.now += timedelta(hours=5)
    await export(staffed, ["w2"])
    await completed(staffed, 2)
    await compare(staffed)
    assert await who_is_in(staffed) == {"w1", "w2"}
