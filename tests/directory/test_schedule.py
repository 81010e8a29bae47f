"""What HR says ahead of time: planned, moved, taken back, and done when it is due."""

from dataclasses import replace

import pytest

from service.directory import ending, organizations, workers
from service.directory import tables as t
from service.directory.database import Transaction
from service.organizations import Connection, Organization
from service.workers import WorkerEvent
from tests.directory.customer import Customer, days, registered

ANN = "ann@hoekstra.example"


async def at(customer: Customer, day: float) -> None:
    """Lets time pass, and runs what has come due."""
    customer.now = days(day)
    await customer.run_due()


async def test_a_planned_termination_waits_for_its_day(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    await at(hoekstra, 29.9)
    assert await hoekstra.is_in("w1")
    assert await hoekstra.state_of(planned) == "scheduled"
    await at(hoekstra, 30)
    assert not await hoekstra.is_in("w1")
    await hoekstra.apply()
    assert await hoekstra.state_of(planned) == "succeeded"


async def test_what_is_planned_is_told_before_it_ends(hoekstra: Customer) -> None:
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    await at(hoekstra, 30)
    told = [o.type for o in await hoekstra.outcomes() if o.event_id == planned.event_id]
    assert told == [
        "io.auth0-provisioner.event.scheduled.v1",
        "io.auth0-provisioner.event.succeeded.v1",
    ]


async def test_a_planned_hire_is_told_of_the_user_that_it_makes(hoekstra: Customer) -> None:
    planned = await hoekstra.hr("hired", "w1", at=days(30), email=ANN)
    await at(hoekstra, 30)
    await hoekstra.apply()
    (event,) = [each for each in await hoekstra.events() if each.id == planned.event_id]
    assert event.user_id is not None
    ending = (await hoekstra.outcomes())[-1]
    assert (ending.event_id, ending.user_id) == (planned.event_id, event.user_id)


async def test_a_date_that_has_passed_is_acted_on_now(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    await hoekstra.hr("terminated", "w1", at=days(-3))
    assert not await hoekstra.is_in("w1")


async def test_a_moved_date_replaces_the_first_one(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email=ANN)
    first = await hoekstra.hr("terminated", "w1", sequence=10, at=days(30))
    second = await hoekstra.hr("terminated", "w1", sequence=11, at=days(14))
    assert await hoekstra.state_of(first) == "superseded"
    assert await hoekstra.state_of(second) == "scheduled"
    await at(hoekstra, 14)
    assert not await hoekstra.is_in("w1")


async def test_a_date_that_was_moved_before_it_arrived_stays_moved(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email=ANN)
    await hoekstra.hr("terminated", "w1", sequence=11, at=days(30))
    late = await hoekstra.hr("terminated", "w1", sequence=10, at=days(14))
    assert await hoekstra.state_of(late) == "superseded"
    await at(hoekstra, 14)
    assert await hoekstra.is_in("w1")


async def test_a_rescinded_termination_is_cancelled_and_changes_nothing(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    await hoekstra.hr("termination_rescinded", "w1")
    assert await hoekstra.state_of(planned) == "cancelled"
    await at(hoekstra, 31)
    assert await hoekstra.is_in("w1")


async def test_a_termination_in_force_is_undone_by_its_rescission(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    await hoekstra.hr("terminated", "w1")
    await hoekstra.hr("termination_rescinded", "w1")
    assert await hoekstra.is_in("w1")


async def test_a_rescission_that_comes_first_keeps_the_termination_from_counting(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email=ANN)
    await hoekstra.hr("termination_rescinded", "w1", sequence=12)
    late = await hoekstra.hr("terminated", "w1", sequence=11, at=days(30))
    assert await hoekstra.state_of(late) == "superseded"


async def test_a_rescission_takes_a_moved_date_back_with_the_one_that_has_passed(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email=ANN)
    passed = await hoekstra.hr("terminated", "w1", sequence=2, at=days(-1))
    moved = await hoekstra.hr("terminated", "w1", sequence=3, at=days(30))
    assert not await hoekstra.is_in("w1")
    await hoekstra.hr("termination_rescinded", "w1", sequence=4)
    assert await hoekstra.state_of(moved) == "cancelled"
    assert await hoekstra.state_of(passed) == "superseded"
    assert await hoekstra.is_in("w1")


async def test_a_rescinded_hire_never_comes(hoekstra: Customer) -> None:
    planned = await hoekstra.hr("hired", "w1", at=days(5), email=ANN)
    await hoekstra.hr("hire_rescinded", "w1")
    assert await hoekstra.state_of(planned) == "cancelled"
    await at(hoekstra, 6)
    assert not await hoekstra.is_in("w1")
    assert await hoekstra.account("w1") is None


async def test_a_fixed_term_is_planned_from_its_first_day_to_its_last(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, at=days(5), email=ANN)
    await hoekstra.hr("terminated", "w1", sequence=2, at=days(90))
    await at(hoekstra, 5)
    assert await hoekstra.is_in("w1")
    await at(hoekstra, 90)
    assert not await hoekstra.is_in("w1")


async def test_the_last_day_may_be_told_before_the_first(hoekstra: Customer) -> None:
    await hoekstra.hr("terminated", "w1", sequence=2, at=days(90))
    await hoekstra.hr("hired", "w1", sequence=1, at=days(5), email=ANN)
    await at(hoekstra, 5)
    assert await hoekstra.is_in("w1")
    await at(hoekstra, 90)
    assert not await hoekstra.is_in("w1")


async def test_a_newer_word_on_employment_replaces_what_was_to_come(hoekstra: Customer) -> None:
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    await hoekstra.hr("rehired", "w1", email=ANN)
    assert await hoekstra.state_of(planned) == "superseded"
    await at(hoekstra, 30)
    assert await hoekstra.is_in("w1")


async def test_neither_leave_nor_attributes_touch_a_planned_termination(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    await hoekstra.hr("leave_started", "w1")
    await hoekstra.hr("changed", "w1", title="Director")
    await hoekstra.hr("snapshot", "w1", email=ANN)
    assert await hoekstra.state_of(planned) == "scheduled"
    await at(hoekstra, 30)
    assert not await hoekstra.is_in("w1")


async def test_a_leave_and_its_end_are_planned_together(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    await hoekstra.hr("leave_started", "w1", at=days(10))
    await hoekstra.hr("leave_ended", "w1", at=days(40))
    await at(hoekstra, 10)
    assert (await hoekstra.user("w1")).employment == "on_leave"
    await at(hoekstra, 40)
    assert (await hoekstra.user("w1")).employment == "active"


async def test_planned_changes_of_different_attributes_all_come(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    await hoekstra.hr("changed", "w1", at=days(10), department="Law")
    await hoekstra.hr("changed", "w1", at=days(20), title="Partner")
    await at(hoekstra, 20)
    worker = (await hoekstra.user("w1")).worker
    assert worker is not None
    assert (worker["department"][0], worker["title"][0]) == ("Law", "Partner")


async def test_a_planned_change_that_is_sent_again_replaces_the_first(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    first = await hoekstra.hr("changed", "w1", at=days(10), title="Partner")
    await hoekstra.hr("changed", "w1", at=days(20), title="Partner")
    assert await hoekstra.state_of(first) == "superseded"


async def test_a_planned_change_is_overtaken_by_a_newer_one_of_today(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    planned = await hoekstra.hr("changed", "w1", at=days(10), title="Partner")
    await hoekstra.hr("changed", "w1", title="Counsel")
    await at(hoekstra, 10)
    worker = (await hoekstra.user("w1")).worker
    assert worker is not None
    assert worker["title"][0] == "Counsel"
    assert await hoekstra.state_of(planned) == "superseded"


async def test_what_was_discarded_while_planned_never_comes_and_ends_once(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    planned = await hoekstra.hr("terminated", "w1", at=days(30))
    await hoekstra.database.transact(
        lambda tx: ending.finish(tx, planned.event_id, "discarded", now=hoekstra.now)
    )
    await at(hoekstra, 30)
    await hoekstra.apply()
    assert await hoekstra.is_in("w1")
    told = [o.type for o in await hoekstra.outcomes() if o.event_id == planned.event_id]
    assert told == [
        "io.auth0-provisioner.event.scheduled.v1",
        "io.auth0-provisioner.event.discarded.v1",
    ]


async def test_a_plan_outlives_a_deletion_and_a_return_in_scim(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, externalId="w1")
    await hoekstra.hr("terminated", "w1", at=days(30))
    await hoekstra.delete(user)
    again = await hoekstra.create(ANN, externalId="w1")
    assert await hoekstra.is_in(again)
    await at(hoekstra, 30)
    assert not await hoekstra.is_in(again)


async def test_one_organizations_trouble_delays_no_others_plans(hoekstra: Customer) -> None:
    broken = await registered(
        hoekstra.database,
        Organization(name="broken", connections=(Connection(name="broken-users"),)),
    )
    stuck = await broken.hr("terminated", "w1", at=days(1))
    await hoekstra.hr("hired", "w1", at=days(2), email=ANN)
    sound = broken.registered.organization
    await hoekstra.database.transact(
        lambda tx: tx.execute(
            t.organizations.update()
            .where(t.organizations.c.name == "broken")
            .values(document={"name": "broken", "no such key": 1})
        )
    )
    await at(hoekstra, 3)
    assert await hoekstra.is_in("w1")
    assert await broken.state_of(stuck) == "scheduled"
    await hoekstra.database.transact(lambda tx: organizations.apply(tx, sound, broken.now))
    await at(broken, 3)
    assert await broken.state_of(stuck) == "succeeded"


async def test_many_that_are_due_of_one_organization_keep_no_other_waiting(
    hoekstra: Customer,
) -> None:
    users = Connection(name="other-users")
    other = await registered(hoekstra.database, Organization(name="other", connections=(users,)))
    for number in range(12):
        await hoekstra.hr("hired", f"w{number}", email=f"w{number}@hoekstra.example")
        await hoekstra.hr("terminated", f"w{number}", at=days(30))
    await other.hr("hired", "w1", email="ann@other.example")
    await other.hr("terminated", "w1", at=days(30.5))
    hoekstra.now = days(31)
    await hoekstra.run_due(5)
    assert not await other.is_in("w1")
    left = [await hoekstra.is_in(f"w{number}") for number in range(12)]
    assert left == [False] * 5 + [True] * 7
    while await hoekstra.run_due(5):
        pass
    assert not any([await hoekstra.is_in(f"w{number}") for number in range(12)])


@pytest.mark.parametrize("how_many", [1, 120])
async def test_plans_that_cannot_be_carried_out_keep_no_others_from_their_turn(
    hoekstra: Customer, how_many: int
) -> None:
    broken = [WorkerEvent(type="worker.terminated", worker_id=f"b{n}") for n in range(how_many)]

    def plan(tx: Transaction) -> None:
        for each in broken:
            event = replace(each, effective_at=days(1))
            received = hoekstra.from_hr(each.type, days(1))
            workers.accept(tx, hoekstra.registered, event, received)
        tx.execute(t.schedule.update().values(worker_event={"event": {}, "order": [None, 1]}))

    await hoekstra.database.transact(plan)
    for number in range(3):
        await hoekstra.hr("hired", f"w{number}", email=f"w{number}@hoekstra.example")
        await hoekstra.hr("terminated", f"w{number}", at=days(2))
    hoekstra.now = days(3)
    assert await hoekstra.run_due() == 3
    assert not any([await hoekstra.is_in(f"w{number}") for number in range(3)])
    with pytest.raises(KeyError):
        await hoekstra.run_due()
    assert (await hoekstra.states()).count("scheduled") == how_many


async def test_who_joins_does_not_wait_for_leavers_none_of_whom_can_go(hoekstra: Customer) -> None:
    for number in range(2):
        await hoekstra.hr("terminated", f"b{number}", at=days(1))
    await hoekstra.database.transact(
        lambda tx: tx.execute(
            t.schedule.update().values(worker_event={"event": {}, "order": [None, 1]})
        )
    )
    await hoekstra.hr("hired", "w1", at=days(2), email=ANN)
    hoekstra.now = days(3)
    assert await hoekstra.run_due(2) == 1
    assert await hoekstra.is_in("w1")


async def test_who_joins_does_not_wait_for_another_organizations_leavers(
    hoekstra: Customer,
) -> None:
    users = Connection(name="other-users")
    other = await registered(hoekstra.database, Organization(name="other", connections=(users,)))
    for number in range(5):
        await hoekstra.hr("terminated", f"w{number}", at=days(1))
    await other.hr("hired", "w1", at=days(2), email="ann@other.example")
    hoekstra.now = days(3)
    await hoekstra.run_due(5)
    assert await other.is_in("w1")
