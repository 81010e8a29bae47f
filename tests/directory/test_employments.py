"""Several employments of one person at once: in while one of them is, whichever order HR tells it in."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.directory.database import Database
from service.organizations import Connection, Organization, Policies
from service.workers import LEAVE, OUT, STATUS_AFTER, Employment, WorkerEvent
from tests.directory.customer import Customer, days, registered

ANN = "ann@hoekstra.example"
STATUS = sorted(set(STATUS_AFTER) - LEAVE)
EMPLOYMENTS = (None, "main", "side")


def a_word(kind: str, employment_id: str | None, sequence: int) -> WorkerEvent:
    return WorkerEvent(type=kind, worker_id="w1", employment_id=employment_id, sequence=sequence)


def words(kinds: Sequence[str]) -> st.SearchStrategy[list[WorkerEvent]]:
    """Words on any employment or on all, in the order of their sequence."""
    drawn = st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from(EMPLOYMENTS)), min_size=1)
    return drawn.map(lambda pairs: [a_word(*pair, n) for n, pair in enumerate(pairs)])


def after_all(events: Sequence[WorkerEvent]) -> Employment:
    held = Employment()
    for event in events:
        held = held.after(event, [event.sequence, event.sequence]) or held
    return held


@given(words(sorted(STATUS_AFTER)), st.data())
def test_events_end_the_same_in_every_order(events: list[WorkerEvent], data: st.DataObject) -> None:
    assert after_all(data.draw(st.permutations(events))) == after_all(events)


@given(words(sorted(STATUS_AFTER)), st.data())
def test_repeats_change_nothing(events: list[WorkerEvent], data: st.DataObject) -> None:
    repeated = [*events, *data.draw(st.lists(st.sampled_from(events)))]
    assert after_all(repeated) == after_all(events)


@given(words(STATUS))
def test_a_person_is_in_while_any_employment_is(events: list[WorkerEvent]) -> None:
    of_all: str | None = None
    of_each: dict[str, str | None] = {}
    for event in events:
        if event.employment_id is None:
            of_all, of_each = event.status, {}
        else:
            of_each[event.employment_id] = event.status
    expected = "active" in (of_each.values() or [of_all])
    assert (after_all(events).status == "active") is expected


@given(words(STATUS), st.sampled_from(STATUS))
def test_a_newest_word_without_an_employment_speaks_of_all(
    events: list[WorkerEvent], kind: str
) -> None:
    last = a_word(kind, None, len(events))
    assert after_all([*events, last]).status == last.status


@given(words(sorted(LEAVE)), st.sampled_from(sorted(OUT)))
def test_leave_of_any_employment_brings_nobody_back(events: list[WorkerEvent], out: str) -> None:
    kind = next(kind for kind, status in STATUS_AFTER.items() if status == out)
    assert after_all([a_word(kind, None, -1), *events]).status == out


def test_who_is_on_leave_from_one_job_still_works_in_the_other() -> None:
    events = [
        a_word("worker.hired", "main", 1),
        a_word("worker.hired", "side", 2),
        a_word("worker.leave_started", "main", 3),
    ]
    assert after_all(events).status == "active"
    assert after_all([*events, a_word("worker.terminated", "side", 4)]).status == "on_leave"


# Through the directory


async def say(
    customer: Customer, kind: str, employment_id: str | None, at: float | None = None
) -> str:
    """Ann's employment; returns our id of the event."""
    event = WorkerEvent(
        type=f"worker.{kind}",
        worker_id="w1",
        employment_id=employment_id,
        effective_at=None if at is None else days(at),
        attributes={"email": ANN},
    )
    return (await customer.deliver(event, customer.from_hr(event.type))).event_id


async def states(customer: Customer) -> dict[str, str]:
    return {event.id: event.state for event in await customer.events()}


async def test_the_end_of_one_of_two_employments_is_no_leaver(hoekstra: Customer) -> None:
    await say(hoekstra, "hired", "main")
    await say(hoekstra, "hired", "side")
    await hoekstra.apply()
    await say(hoekstra, "terminated", "main")
    assert await hoekstra.is_in("w1")
    account = await hoekstra.account("w1")
    assert account is not None
    assert not account.leaver
    await say(hoekstra, "terminated", "side")
    assert not await hoekstra.is_in("w1")


async def test_a_termination_that_names_no_employment_ends_all(hoekstra: Customer) -> None:
    await say(hoekstra, "hired", "main")
    await say(hoekstra, "hired", "side")
    await say(hoekstra, "terminated", None)
    assert not await hoekstra.is_in("w1")


async def test_a_leaver_named_for_the_first_time_at_the_end_leaves(hoekstra: Customer) -> None:
    await say(hoekstra, "hired", None)
    await say(hoekstra, "terminated", "main")
    assert not await hoekstra.is_in("w1")


async def test_a_contractor_who_becomes_an_employee_stays_in(hoekstra: Customer) -> None:
    await say(hoekstra, "hired", "contract")
    account = await hoekstra.account("w1")
    await say(hoekstra, "terminated", "contract", at=10)
    await say(hoekstra, "hired", "staff", at=10)
    hoekstra.now = days(10)
    await hoekstra.run_due()
    assert await hoekstra.is_in("w1")
    assert account is not None
    assert (await hoekstra.user("w1")).account_id == account.id


async def test_planned_ends_of_two_employments_do_not_displace_each_other(
    hoekstra: Customer,
) -> None:
    await say(hoekstra, "hired", "main")
    await say(hoekstra, "hired", "side")
    first = await say(hoekstra, "terminated", "side", at=10)
    second = await say(hoekstra, "terminated", "main", at=20)
    assert {(await states(hoekstra))[each] for each in (first, second)} == {"scheduled"}
    moved = await say(hoekstra, "terminated", "main", at=30)
    found = await states(hoekstra)
    assert (found[first], found[second], found[moved]) == ("scheduled", "superseded", "scheduled")
    for day, expected in ((10, True), (20, True), (30, False)):
        hoekstra.now = days(day)
        await hoekstra.run_due()
        assert await hoekstra.is_in("w1") is expected


@pytest.mark.parametrize(("rescinded", "ended"), [("main", "scheduled"), (None, "cancelled")])
async def test_a_rescission_takes_back_the_plans_of_the_employment_that_it_names(
    hoekstra: Customer, rescinded: str | None, ended: str
) -> None:
    await say(hoekstra, "hired", "main")
    await say(hoekstra, "hired", "side")
    of_side = await say(hoekstra, "terminated", "side", at=10)
    of_main = await say(hoekstra, "terminated", "main", at=10)
    await say(hoekstra, "termination_rescinded", rescinded)
    found = await states(hoekstra)
    assert (found[of_side], found[of_main]) == (ended, "cancelled")
    assert await hoekstra.is_in("w1")
    hoekstra.now = days(10)
    await hoekstra.run_due()
    assert await hoekstra.is_in("w1")


async def test_employments_go_with_the_person_to_a_new_scim_resource(hoekstra: Customer) -> None:
    await say(hoekstra, "hired", "main")
    await say(hoekstra, "hired", "side")
    user = await hoekstra.create("ann", externalId="w1")
    await hoekstra.delete(user)
    again = await hoekstra.create("ann", externalId="w1")
    await say(hoekstra, "terminated", "main")
    assert await hoekstra.is_in(again)
    await say(hoekstra, "terminated", "side")
    assert not await hoekstra.is_in(again)


async def test_leave_of_one_employment_blocks_nobody_who_has_another(database: Database) -> None:
    organization = Organization(
        name="hoekstra",
        connections=(Connection(name="users"),),
        policies=Policies(on_leave="block"),
    )
    customer = await registered(database, organization)
    await say(customer, "hired", "main")
    await say(customer, "hired", "side")
    await say(customer, "leave_started", "main")
    assert await customer.is_in("w1")
    await say(customer, "terminated", "side")
    assert not await customer.is_in("w1")
    await say(customer, "leave_ended", "main")
    assert await customer.is_in("w1")
