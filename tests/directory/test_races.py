"""Transactions that meet: one winner, a clear answer for the other, and nothing lost."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from service.directory import (
    accounts,
    coming_due,
    discards,
    ending,
    inbox,
    people,
    users,
    waits,
    windingup,
    workers,
)
from service.directory.database import Transaction
from service.directory.inbox import Admission
from service.directory.workers import Delivery
from service.errors import UniquenessConflict
from service.people import User
from service.workers import WorkerEvent
from tests.directory.customer import START, Customer, days

T = TypeVar("T")
ANN = "ann@hoekstra.example"
HIRED = WorkerEvent(type="worker.hired", worker_id="w1", attributes={"email": ANN})


def lingering(work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """The same work, and a pause before its commit, so that others meet it half-way."""

    def slow(tx: Transaction) -> T:
        result = work(tx)
        if tx.dialect.name == "postgresql":
            tx.execute(text("SELECT pg_sleep(0.15)"))
        return result

    return slow


def creating(
    customer: Customer, user_name: str, **attributes: object
) -> Callable[[Transaction], User]:
    resource = {"userName": user_name, **attributes}
    return lingering(
        lambda tx: users.create(tx, customer.registered, resource, customer.scim("created"))
    )


async def together(customer: Customer, *works: Callable[[Transaction], T]) -> list[T]:
    return await asyncio.gather(*map(customer.database.transact, works))


async def test_of_many_who_create_one_user_name_one_wins(hoekstra: Customer) -> None:
    ended = await asyncio.gather(
        *(hoekstra.database.transact(creating(hoekstra, ANN)) for _ in range(6)),
        return_exceptions=True,
    )
    assert sorted(type(end).__name__ for end in ended) == ["UniquenessConflict"] * 5 + ["User"]
    assert len(await hoekstra.events()) == 1


async def test_of_many_who_take_one_user_name_one_wins(hoekstra: Customer) -> None:
    everyone = [await hoekstra.create(f"user{n}") for n in range(4)]

    def renaming(user: User) -> Callable[[Transaction], User]:
        def work(tx: Transaction) -> User:
            held = users.lock(tx, hoekstra.name, user.id)
            resource = {**(held.resource or {}), "userName": ANN}
            return users.replace(tx, hoekstra.registered, held, resource, hoekstra.scim("replaced"))

        return lingering(work)

    ended = await asyncio.gather(
        *(hoekstra.database.transact(renaming(user)) for user in everyone), return_exceptions=True
    )
    assert sorted(type(end).__name__ for end in ended) == ["UniquenessConflict"] * 3 + ["User"]


async def test_a_name_taken_between_hr_and_scim_is_a_conflict(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    with pytest.raises(UniquenessConflict):
        await together(
            hoekstra, creating(hoekstra, "ann"), creating(hoekstra, "ann", externalId="w1")
        )


async def test_of_many_who_bring_one_address_one_gets_the_account(hoekstra: Customer) -> None:
    made = await together(
        hoekstra,
        *(creating(hoekstra, f"user{n}", emails=[{"value": ANN}]) for n in range(5)),
    )
    assert sorted(user.state for user in made) == ["failed"] * 4 + ["pending"]
    assert len({user.account_id for user in made} - {None}) == 1
    assert sorted(await hoekstra.states()) == ["accepted"] + ["deadlettered"] * 4


async def test_within_a_shared_organization_too_one_gets_the_account(
    clinics: tuple[Customer, Customer],
) -> None:
    a, b = clinics
    made = await together(
        a,
        *(creating(a, f"user{n}", emails=[{"value": ANN}]) for n in range(3)),
        creating(b, "user", emails=[{"value": ANN}]),
    )
    assert sorted(user.state for user in made) == ["failed", "failed", "pending", "pending"]
    assert len({user.account_id for user in made} - {None}) == 1


async def test_a_move_to_an_address_and_a_newcomer_with_it_do_not_both_win(
    hoekstra: Customer,
) -> None:
    bob = await hoekstra.create("bob@hoekstra.example")

    def moving(tx: Transaction) -> User:
        held = users.lock(tx, hoekstra.name, bob.id)
        resource = {**(held.resource or {}), "emails": [{"value": ANN}]}
        return users.replace(tx, hoekstra.registered, held, resource, hoekstra.scim("replaced"))

    made = await together(hoekstra, lingering(moving), creating(hoekstra, ANN))
    assert sorted(user.state for user in made) == ["failed", "pending"]


async def test_hr_and_scim_that_speak_at_once_are_joined(hoekstra: Customer) -> None:
    received = hoekstra.from_hr(HIRED.type)
    await asyncio.gather(
        hoekstra.database.transact(creating(hoekstra, ANN, externalId="w1")),
        hoekstra.database.transact(
            lingering(lambda tx: workers.accept(tx, hoekstra.registered, HIRED, received))
        ),
    )
    everyone = await hoekstra.everyone()
    assert [(user.worker_id, user.external_id) for user in everyone] == [("w1", "w1")]


async def test_the_first_events_of_a_worker_may_come_at_once(hoekstra: Customer) -> None:
    inputs = [hoekstra.from_hr(HIRED.type) for _ in range(4)]
    admitted = await together(
        hoekstra,
        *(
            lingering(lambda tx, r=received: workers.accept(tx, hoekstra.registered, HIRED, r))
            for received in inputs
        ),
    )
    assert [admission.verdict for admission in admitted] == ["new"] * 4
    assert len(await hoekstra.everyone()) == 1


async def test_an_event_that_arrives_twice_at_once_is_taken_in_once(hoekstra: Customer) -> None:
    received = hoekstra.from_hr(HIRED.type)
    admitted = await together(
        hoekstra,
        *[lingering(lambda tx: workers.accept(tx, hoekstra.registered, HIRED, received))] * 4,
    )
    assert sorted(a.verdict for a in admitted) == ["duplicate"] * 3 + ["new"]


async def test_a_record_that_two_consumers_hold_is_taken_in_once(hoekstra: Customer) -> None:
    received = replace(
        hoekstra.from_hr(HIRED.type), door="kafka", topic="hr.events", partition=0, offset=1
    )
    admitted = await together(
        hoekstra,
        *[lingering(lambda tx: workers.accept(tx, hoekstra.registered, HIRED, received))] * 4,
    )
    assert sorted(a.verdict for a in admitted) == ["new"] + ["redelivery"] * 3
    assert len(await hoekstra.events()) == 1


async def test_changes_of_one_user_follow_one_another(hoekstra: Customer) -> None:
    user = await hoekstra.create(ANN, title="0")

    def patch(tx: Transaction) -> User:
        held = users.lock(tx, hoekstra.name, user.id)
        resource = dict(held.resource or {})
        resource["title"] = str(int(resource["title"]) + 1)
        return users.replace(tx, hoekstra.registered, held, resource, hoekstra.scim("patched"))

    await together(hoekstra, *[patch] * 20)
    after = await hoekstra.user(user)
    assert after.resource is not None
    assert (after.resource["title"], after.version) == ("20", 21)
    sequences = [outcome.sequence for outcome in await hoekstra.outcomes()]
    assert sequences == sorted(sequences)


async def test_a_planned_event_is_carried_out_by_one_process(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "w1", email=ANN)
    for n in range(6):
        at = START.replace(hour=10 + n)
        await hoekstra.hr("changed", "w1", at=at, **{f"a{n}": n})
    hoekstra.now = START.replace(day=3)
    done = await together(
        hoekstra, *[lingering(lambda tx: coming_due.run_due(tx, hoekstra.now))] * 3
    )
    assert sum(done) == 6
    await hoekstra.apply()
    assert await hoekstra.states() == ["succeeded"] * 7


async def test_an_event_ends_with_the_last_of_its_accounts_even_if_two_end_at_once(
    hoekstra: Customer,
) -> None:
    everyone = [await hoekstra.create(f"user{n}@hoekstra.example") for n in range(2)]
    await hoekstra.apply()

    def touch(tx: Transaction) -> str:
        event_id = inbox.admit(tx, hoekstra.from_hr("group"), hoekstra.name).event_id
        ids = [user.id for user in everyone]
        waits.touch_users(tx, ids, event_id=event_id, now=hoekstra.now)
        return event_id

    await hoekstra.database.transact(touch)

    def turn(user: User) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            assert user.account_id is not None
            account = accounts.lock(tx, user.account_id)
            assert account is not None
            for ended in accounts.stop_waiting(tx, account.id, account.revision):
                ending.finish(tx, ended.event_id, "succeeded", now=hoekstra.now, result="applied")

        return lingering(work)

    await together(hoekstra, *map(turn, everyone))
    assert (await hoekstra.states())[-1] == "succeeded"


async def test_a_door_and_a_lane_on_one_user_do_not_wait_for_each_other_in_a_circle(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN)
    attempts: list[str] = []

    def lane(tx: Transaction) -> None:
        attempts.append("lane")
        assert user.account_id is not None
        accounts.lock(tx, user.account_id)
        if tx.dialect.name == "postgresql":
            tx.execute(text("SELECT pg_sleep(0.1)"))
        people.store(tx, user.id, state="applied")

    def door(tx: Transaction) -> None:
        attempts.append("door")
        held = users.lock(tx, hoekstra.name, user.id)
        if tx.dialect.name == "postgresql":
            tx.execute(text("SELECT pg_sleep(0.1)"))
        resource = {**(held.resource or {}), "displayName": "Ann"}
        users.replace(tx, hoekstra.registered, held, resource, hoekstra.scim("replaced"))

    await together(hoekstra, lane, door)
    assert sorted(attempts) == ["door", "lane"]


async def test_doors_and_lanes_that_work_on_the_same_people_all_get_through(
    hoekstra: Customer,
) -> None:
    everyone = [
        await hoekstra.create(f"user{n}@hoekstra.example", externalId=f"w{n}") for n in range(3)
    ]

    async def door(n: int) -> None:
        for turn in range(6):
            await hoekstra.change(everyone[(n + turn) % 3], displayName=f"{n}.{turn}")
            await hoekstra.hr("changed", f"w{(n + turn) % 3}", title=f"{n}.{turn}")

    async def lanes() -> None:
        for _ in range(10):
            await hoekstra.apply()
            await asyncio.sleep(0.01)

    await asyncio.gather(*(door(n) for n in range(4)), lanes())
    await hoekstra.apply()
    assert set(await hoekstra.states()) == {"succeeded"}
    assert len(await hoekstra.events()) == 3 + 4 * 6 * 2


async def test_a_worker_whom_somebody_is_about_keeps_no_other_from_their_time(
    hoekstra: Customer,
) -> None:
    for worker in ("w1", "w2"):
        await hoekstra.hr("hired", worker, email=f"{worker}@hoekstra.example")
        await hoekstra.hr("terminated", worker, at=START.replace(hour=10))
    hoekstra.now = START.replace(hour=11)

    loop, held, done = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def hold(tx: Transaction) -> None:
        people.hold_key(tx, hoekstra.name, "w1")
        loop.call_soon_threadsafe(held.set)
        if tx.dialect.name == "postgresql":
            await_only(done.wait())

    holding = asyncio.create_task(hoekstra.database.transact(hold))
    await held.wait()
    await hoekstra.run_due()
    assert not await hoekstra.is_in("w2")
    assert holding.done() is not await hoekstra.is_in("w1")  # on SQLite nobody is in the middle
    done.set()
    await holding
    await hoekstra.run_due()
    assert not await hoekstra.is_in("w1")


async def test_batches_that_meet_each_other_and_scim_all_get_through(hoekstra: Customer) -> None:
    people_of_scim = [
        await hoekstra.create(f"user{n}@hoekstra.example", externalId=f"w{n}") for n in range(6)
    ]

    def batch(turn: int, order: Sequence[int]) -> list[Delivery]:
        return [
            Delivery(
                registered=hoekstra.registered,
                event=WorkerEvent(
                    type="worker.hired" if turn == 0 else "worker.changed",
                    worker_id=f"w{n}",
                    attributes={"title": f"{turn}", "email": f"user{n}@hoekstra.example"},
                ),
                received=hoekstra.from_hr(f"turn {turn}"),
            )
            for n in order
        ]

    async def intake(order: Sequence[int]) -> None:
        for turn in range(4):
            inputs = batch(turn, order)
            await hoekstra.database.transact(lambda tx, some=inputs: workers.accept_many(tx, some))

    async def door() -> None:
        for turn in range(4):
            for user in people_of_scim:
                await hoekstra.change(user, displayName=str(turn))

    await asyncio.gather(intake(range(12)), intake(range(11, -1, -1)), door())
    await hoekstra.apply()
    everyone = await hoekstra.everyone()
    assert sorted(str(user.worker_id) for user in everyone) == sorted(f"w{n}" for n in range(12))
    assert {user.state for user in everyone} == {"applied"}
    assert len(await hoekstra.events()) == 6 + 2 * 4 * 12 + 4 * 6
    assert set(await hoekstra.states()) <= {"succeeded", "superseded"}


async def test_what_is_discarded_as_it_falls_due_is_not_carried_out(hoekstra: Customer) -> None:
    """Nor does it keep others that are due from their turn."""
    planned: list[Admission] = []
    for number in range(3):
        await hoekstra.hr("hired", f"w{number}", email=f"w{number}@hoekstra.example")
        planned.append(await hoekstra.hr("terminated", f"w{number}", at=days(1)))
    hoekstra.now = days(2)

    def discarding(tx: Transaction) -> object:
        event_id = planned[1].event_id
        return discards.discard(tx, event_id, reason="Error.", actor="ann", now=hoekstra.now)

    discarded = asyncio.create_task(hoekstra.database.transact(lingering(discarding)))
    await asyncio.sleep(0.05)
    while await hoekstra.run_due():
        pass
    await discarded
    while await hoekstra.run_due():
        pass
    assert [await hoekstra.is_in(f"w{number}") for number in range(3)] == [False, True, False]
    assert [await hoekstra.state_of(each) for each in planned] == [
        "accepted",
        "discarded",
        "accepted",
    ]


async def test_what_is_due_as_its_organization_ends_is_ended_or_carried_out(
    hoekstra: Customer,
) -> None:
    planned: list[Admission] = []
    for number in range(3):
        await hoekstra.hr("hired", f"w{number}", email=f"w{number}@hoekstra.example")
        planned.append(await hoekstra.hr("terminated", f"w{number}", at=days(1)))
    hoekstra.now = days(2)

    def ending(tx: Transaction) -> int:
        return windingup.wind_up(tx, hoekstra.name, hoekstra.now)

    ended = asyncio.create_task(hoekstra.database.transact(lingering(ending)))
    await asyncio.sleep(0.05)
    await hoekstra.run_due()
    assert await ended == 3
    assert [await hoekstra.state_of(each) for each in planned] == ["discarded"] * 3
    assert all([await hoekstra.is_in(f"w{number}") for number in range(3)])
