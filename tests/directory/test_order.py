"""An older event never undoes a newer one, in whichever order they arrive."""

import itertools
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.directory import workers
from service.directory.database import Database
from service.workers import (
    LEAVE,
    OUT,
    STATUS_AFTER,
    Employment,
    Order,
    WorkerEvent,
    attributes_after,
    is_newer,
)
from tests.directory.customer import ENDINGS, Customer

STATUS = sorted(set(STATUS_AFTER) - LEAVE)
ON_DATABASE = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
_people = itertools.count(1)


def an_event(kind: str, sequence: int | None = None, **attributes: object) -> WorkerEvent:
    return WorkerEvent(type=kind, worker_id="w1", sequence=sequence, attributes=attributes)


def after_all(events: Sequence[WorkerEvent]) -> Employment:
    held = Employment()
    for number, event in enumerate(events):
        held = held.after(event, [event.sequence, number]) or held
    return held


@st.composite
def shuffled(draw: st.DrawFn, kinds: Sequence[str]) -> list[WorkerEvent]:
    """Events with a sequence each, in an order that has nothing to do with it."""
    drawn = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6))
    return draw(st.permutations([an_event(kind, n) for n, kind in enumerate(drawn)]))


@given(shuffled(STATUS))
def test_sequenced_status_events_end_in_the_status_of_the_highest(
    events: list[WorkerEvent],
) -> None:
    newest = max(events, key=lambda event: event.sequence or 0)
    assert after_all(events).status == newest.status


@given(shuffled(sorted(STATUS_AFTER)))
def test_sequenced_events_end_the_same_in_every_order(events: list[WorkerEvent]) -> None:
    in_order = sorted(events, key=lambda event: event.sequence or 0)
    assert after_all(events).status == after_all(in_order).status


@given(shuffled(sorted(STATUS_AFTER)))
def test_leave_decides_only_between_those_who_are_in(events: list[WorkerEvent]) -> None:
    on_employment = [event for event in events if event.kind == "status"]
    if on_employment:
        newest = max(on_employment, key=lambda event: event.sequence or 0)
        if newest.status in OUT:
            assert after_all(events).status == newest.status


@given(st.lists(st.sampled_from(STATUS), min_size=1, max_size=6))
def test_without_a_sequence_the_order_of_acceptance_counts(kinds: list[str]) -> None:
    assert after_all([an_event(kind) for kind in kinds]).status == STATUS_AFTER[kinds[-1]]


_SAID = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3)


@st.composite
def attribute_events(draw: st.DrawFn) -> list[WorkerEvent]:
    kinds = st.sampled_from(["worker.changed", "worker.snapshot"])
    drawn = draw(st.lists(st.tuples(kinds, _SAID), min_size=1, max_size=6))
    events = [an_event(kind, n, **said) for n, (kind, said) in enumerate(drawn)]
    return draw(st.permutations(events))


def told_of(events: Sequence[WorkerEvent]) -> dict[str, object]:
    worker: dict[str, list[object]] = {}
    for number, event in enumerate(events):
        merged = attributes_after(worker, event, [event.sequence, number])
        worker = worker if merged is None else merged
    return {name: entry[0] for name, entry in worker.items() if name != "*"}


@given(attribute_events())
def test_each_attribute_ends_as_the_newest_event_that_spoke_of_it_said(
    events: list[WorkerEvent],
) -> None:
    expected: dict[str, object] = {}
    for event in sorted(events, key=lambda event: event.sequence or 0):
        if event.type == "worker.snapshot":
            expected.clear()
        expected |= event.attributes
    assert told_of(events) == expected


@given(*[st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=1)] * 2)
def test_of_two_orders_exactly_one_is_newer(one: list[int | None], other: list[int | None]) -> None:
    first: Order = [one[0], 1]
    second: Order = [other[0], 2]
    assert is_newer(first, second) is not is_newer(second, first)


@ON_DATABASE
@given(events=shuffled(STATUS))
async def test_the_directory_keeps_that_order(
    hoekstra: Customer, events: list[WorkerEvent]
) -> None:
    worker_id = f"w{next(_people)}"
    for event in events:
        await hoekstra.hr(event.type.partition(".")[2], worker_id, sequence=event.sequence)
    newest = max(events, key=lambda event: event.sequence or 0)
    assert (await hoekstra.user(worker_id)).employment == newest.status


VERBS = st.sampled_from(
    [
        *("hired", "terminated", "rehired", "changed", "suspended", "leave_started"),
        *("again", "put", "inactive", "active", "delete", "create", "plan", "due", "apply"),
    ]
)


@ON_DATABASE
@given(verbs=st.lists(VERBS, min_size=1, max_size=14), sequenced=st.booleans())
async def test_every_event_ends_once_and_no_outcome_is_missing_from_its_key(
    hoekstra: Customer, verbs: list[str], sequenced: bool
) -> None:
    person = next(_people)
    await play(hoekstra, f"p{person}", verbs, sequenced=sequenced)
    hoekstra.now = hoekstra.now.replace(year=hoekstra.now.year + 1)
    while await hoekstra.run_due():
        pass
    await hoekstra.apply()

    events, outcomes = await hoekstra.events(), await hoekstra.outcomes()
    endings = [outcome.event_id for outcome in outcomes if outcome.type in ENDINGS]
    assert sorted(event.id for event in events) == sorted(str(ended) for ended in endings)
    by_key: dict[str, list[int]] = {}
    for outcome in outcomes:
        by_key.setdefault(outcome.key, []).append(outcome.sequence)
    assert all(told == list(range(1, len(told) + 1)) for told in by_key.values())


async def play(customer: Customer, person: str, verbs: Sequence[str], *, sequenced: bool) -> None:
    """One person's story, with whatever the doors may bring in between."""
    address = f"{person}@hoekstra.example"
    last = customer.from_hr()
    said = WorkerEvent(type="worker.changed", worker_id=person)
    for number, verb in enumerate(verbs):
        live = [user for user in await customer.everyone() if user.in_scim]
        mine = next((user for user in live if user.external_id == person), None)
        match verb:
            case "apply":
                await customer.apply()
            case "due":
                await customer.run_due()
            case "again":
                await customer.deliver(said, last)
            case "create" if mine is None:
                await customer.create(address, externalId=person)
            case "put" | "inactive" | "active" if mine is not None:
                await customer.change(mine, active=verb != "inactive", displayName=str(number))
            case "delete" if mine is not None:
                await customer.delete(mine)
            case "plan":
                at = customer.now.replace(month=12)
                await customer.hr("terminated", person, at=at, sequence=number)
            case "create" | "put" | "inactive" | "active" | "delete":
                pass
            case _:
                said = WorkerEvent(
                    type=f"worker.{verb}",
                    worker_id=person,
                    sequence=number if sequenced else None,
                    attributes={"email": address, "title": number},
                )
                last = customer.from_hr(said.type)
                await customer.deliver(said, last)


async def test_an_attribute_is_ordered_apart_from_the_status(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email="ann@hoekstra.example", title="Clerk")
    await hoekstra.hr("changed", "w1", sequence=5, title="Director")
    late = await hoekstra.hr("suspended", "w1", sequence=3, title="Accountant")
    user = await hoekstra.user("w1")
    assert user.employment == "suspended"
    assert user.worker is not None
    assert user.worker["title"][0] == "Director"
    assert await hoekstra.state_of(late) == "accepted"


async def test_a_late_change_whose_attributes_are_all_old_is_superseded(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("hired", "w1", sequence=1, email="ann@hoekstra.example")
    await hoekstra.hr("changed", "w1", sequence=5, title="Director")
    late = await hoekstra.hr("changed", "w1", sequence=3, title="Clerk")
    assert await hoekstra.state_of(late) == "superseded"


async def test_what_a_superseded_event_was_first_to_say_still_reaches_auth0(
    hoekstra: Customer,
) -> None:
    await hoekstra.hr("rehired", "w1", sequence=5, email="ann@hoekstra.example")
    await hoekstra.apply()
    late = await hoekstra.hr("hired", "w1", sequence=3, given_name="Ann")
    assert await hoekstra.state_of(late) == "superseded"
    assert len(await hoekstra.apply()) == 1


async def test_a_late_hire_that_brings_the_address_makes_the_account(hoekstra: Customer) -> None:
    await hoekstra.hr("terminated", "w1", sequence=2)
    await hoekstra.hr("rehired", "w1", sequence=3)
    late = await hoekstra.hr("hired", "w1", sequence=1, email="ann@hoekstra.example")
    assert await hoekstra.state_of(late) == "accepted"
    assert await hoekstra.account("w1") is not None
    assert len(await hoekstra.apply()) == 1


async def test_a_late_hire_of_somebody_who_is_out_makes_no_account(hoekstra: Customer) -> None:
    await hoekstra.hr("terminated", "w1", sequence=2)
    late = await hoekstra.hr("hired", "w1", sequence=1, email="ann@hoekstra.example")
    assert await hoekstra.state_of(late) == "superseded"
    assert await hoekstra.account("w1") is None
    await hoekstra.hr("rehired", "w1", sequence=3)
    assert await hoekstra.account("w1") is not None


async def test_a_leaver_overtakes_open_work_and_a_late_hire_does_not_undo_it(
    hoekstra: Customer,
) -> None:
    hired = await hoekstra.hr("hired", "w1", sequence=2, email="ann@hoekstra.example")
    await hoekstra.hr("terminated", "w1", sequence=3)
    late = await hoekstra.hr("hired", "w1", sequence=1)
    assert await hoekstra.state_of(hired) == "superseded"
    assert await hoekstra.state_of(late) == "superseded"
    assert not await hoekstra.is_in("w1")


async def test_a_replay_keeps_its_place_in_the_order(
    hoekstra: Customer, database: Database
) -> None:
    first = await hoekstra.hr("hired", "w1")
    await hoekstra.hr("terminated", "w1")
    event = WorkerEvent(type="worker.hired", worker_id="w1")
    again = await database.transact(
        lambda tx: workers.accept(
            tx, hoekstra.registered, event, hoekstra.from_hr("operator.replay"), number=first.number
        )
    )
    assert await hoekstra.state_of(again) == "superseded"
    assert not await hoekstra.is_in("w1")
