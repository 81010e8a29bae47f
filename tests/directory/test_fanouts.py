"""A change of many accounts: accepted at once, carried on in portions, ended with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select

from operators import showing
from service.clock import SystemClock
from service.directory import (
    accounts,
    depths,
    discards,
    ending,
    events,
    fanouts,
    groups,
    inbox,
    locks,
    overview,
    replays,
    waits,
)
from service.directory import tables as t
from service.directory.database import Database, Transaction, open_database
from service.directory.events import Event, Problem
from service.directory.groups import Group, MemberChange
from service.directory.inbox import Received
from service.organizations import Connection, Organization
from service.provisioning.fleet import FanOuts
from tests.directory.crowd import enrol, settle_in
from tests.directory.customer import ENDINGS, Customer, days, registered

MANY = fanouts.AT_ONCE + 60
PORTION = 100
CREW = {"displayName": "Crew"}
PILOTS = {"displayName": "Pilots"}
FAILED = Problem(kind="permanent", code="refused", message="Auth0 refused it.")


@dataclass(slots=True, kw_only=True)
class Airline:
    """A customer whose group ``Pilots`` stands for a role, with many people in one group."""

    customer: Customer
    crowd: list[str]
    group: Group

    @property
    def database(self) -> Database:
        return self.customer.database

    async def rename(self, resource: dict[str, str]) -> str:
        """Gives the group another name; the id of the event."""
        return await self.change(resource, MemberChange())

    async def change(self, resource: dict[str, str], members: MemberChange) -> str:
        def work(tx: Transaction) -> Group:
            held = groups.lock(tx, self.customer.name, self.group.id)
            return groups.change(
                tx, self.customer.registered, held, resource, members, self.received()
            )

        self.group = await self.database.transact(work)
        return (await self.customer.events())[-1].id

    async def delete(self) -> str:
        await self.database.transact(
            lambda tx: groups.remove(tx, self.customer.registered, self.group.id, self.received())
        )
        return (await self.customer.events())[-1].id

    def received(self) -> Received:
        return Received(door="scim", source="scim", type="scim.group", at=self.customer.now)

    async def carry_on(self, event_id: str) -> int:
        """One portion of it."""
        return await self.database.transact(
            lambda tx: fanouts.carry_on(tx, event_id, self.customer.now, portion=PORTION)
        )

    async def carry_out(self, event_id: str) -> None:
        while await self.carry_on(event_id):
            pass

    async def event(self, event_id: str) -> Event:
        found = await self.database.read(lambda tx: events.get(tx, event_id))
        assert found is not None
        return found

    async def left(self, event_id: str) -> int:
        return await self.database.read(lambda tx: fanouts.left(tx, event_id))

    async def revisions(self) -> dict[int, int]:
        """How many accounts of the crowd are at which revision: each change of one adds one."""
        return await self.database.read(lambda tx: revisions_of(tx, self.customer.name))

    async def waits(self, event_id: str) -> set[str]:
        """Ids of the users whose accounts an event waits for."""
        query = select(t.waits.c.user_id).where(t.waits.c.event_id == event_id)
        return await self.database.read(lambda tx: set(tx.execute(query).scalars()))

    async def endings(self, event_id: str) -> int:
        return sum(
            outcome.event_id == event_id and outcome.type in ENDINGS
            for outcome in await self.customer.outcomes()
        )


def revisions_of(tx: Transaction, organization: str) -> dict[int, int]:
    rows = tx.execute(
        select(t.accounts.c.revision, func.count())
        .where(t.accounts.c.connection == f"{organization}-users")
        .group_by(t.accounts.c.revision)
    )
    return dict(rows.tuples().all())


async def founded(database: Database, name: str, count: int, roles: dict[str, str]) -> Airline:
    customer = await registered(
        database,
        Organization(name=name, connections=(Connection(name=f"{name}-users"),), roles=roles),
    )

    def work(tx: Transaction) -> tuple[Group, list[str]]:
        made = groups.create(tx, customer.registered, CREW, (), customer.scim("created"))
        crowd = settle_in(tx, name, count, customer.now)
        enrol(tx, made.id, crowd)
        return made, crowd

    group, crowd = await database.transact(work)
    return Airline(customer=customer, crowd=crowd, group=group)


@pytest.fixture
async def airline(database: Database) -> Airline:
    return await founded(database, "airline", MANY, {"Pilots": "pilot"})


async def test_a_change_of_many_is_noted_down_and_touches_nobody_yet(airline: Airline) -> None:
    event_id = await airline.rename(PILOTS)
    assert await airline.left(event_id) == MANY
    assert await airline.revisions() == {1: MANY}
    assert (await airline.event(event_id)).state == "accepted"


async def test_a_change_of_few_touches_them_at_once(database: Database) -> None:
    airline = await founded(database, "airline", fanouts.AT_ONCE, {"Pilots": "pilot"})
    event_id = await airline.rename(PILOTS)
    assert await airline.left(event_id) == 0
    assert await airline.waits(event_id) == set(airline.crowd)


async def test_every_member_is_touched_once_and_waited_for(airline: Airline) -> None:
    event_id = await airline.rename(PILOTS)
    done = [await airline.carry_on(event_id) for _ in range(4)]
    assert done == [PORTION, PORTION, MANY - 2 * PORTION, 0]
    assert await airline.revisions() == {2: MANY}
    assert await airline.waits(event_id) == set(airline.crowd)
    assert {user.state for user in await airline.customer.everyone()} == {"pending"}


async def test_the_event_ends_with_the_last_of_them_and_not_before(airline: Airline) -> None:
    event_id = await airline.rename(PILOTS)
    for _ in range(3):
        assert await airline.carry_on(event_id)
        assert (await airline.event(event_id)).state == "accepted"
        await airline.customer.apply()
    assert (await airline.event(event_id)).state == "succeeded"
    assert await airline.endings(event_id) == 1


async def test_an_event_whose_last_portion_has_no_accounts_ends_with_that_portion(
    airline: Airline,
) -> None:
    def without_account(tx: Transaction) -> None:
        late = t.users.c.id.in_(airline.crowd[-50:])
        tx.execute(t.users.update().where(late).values(account_id=None))

    await airline.database.transact(without_account)
    event_id = await airline.rename(PILOTS)
    for _ in range(2):
        await airline.carry_on(event_id)
    await airline.carry_on(event_id)
    assert await airline.waits(event_id) == set(airline.crowd[:-50])
    await airline.customer.apply()
    assert (await airline.event(event_id)).state == "succeeded"


async def test_people_without_accounts_are_a_change_that_is_applied_by_the_last_portion(
    airline: Airline,
) -> None:
    await airline.database.transact(lambda tx: tx.execute(t.users.update().values(account_id=None)))
    event_id = await airline.rename(PILOTS)
    await airline.carry_out(event_id)
    event = await airline.event(event_id)
    assert (event.state, event.result) == ("succeeded", "applied")


async def test_one_failure_among_many_dead_letters_the_event_with_its_end(
    airline: Airline,
) -> None:
    event_id = await airline.rename(PILOTS)
    await airline.carry_on(event_id)
    await airline.database.transact(
        lambda tx: accounts.note_failure(tx, event_id, FAILED.as_document())
    )
    await airline.customer.apply()
    assert (await airline.event(event_id)).state == "accepted"
    await airline.carry_out(event_id)
    await airline.customer.apply()
    event = await airline.event(event_id)
    assert event.state == "deadlettered"
    assert event.error is not None
    assert event.error["code"] == "refused"


@pytest.mark.parametrize("members", [MemberChange(replace=True), None], ids=["replace", "remove"])
async def test_who_leaves_a_role_in_a_crowd_is_touched(
    airline: Airline, members: MemberChange | None
) -> None:
    await airline.carry_out(await airline.rename(PILOTS))
    await airline.customer.apply()
    stays = airline.crowd[7]
    leaving = frozenset(airline.crowd) - {stays}
    change = members or MemberChange(remove=leaving)
    if change.replace:
        change = MemberChange(replace=True, add=frozenset({stays}))
    event_id = await airline.change(PILOTS, change)
    assert await airline.left(event_id) == MANY - 1
    await airline.carry_out(event_id)
    assert await airline.waits(event_id) == leaving
    found = await airline.database.read(lambda tx: groups.members_of(tx, [airline.group.id]))
    assert found == {airline.group.id: [stays]}


async def test_who_joins_a_role_in_a_crowd_is_touched_and_who_was_in_it_is_not(
    airline: Airline,
) -> None:
    await airline.change(PILOTS, MemberChange(replace=True))
    before = (await airline.customer.events())[-1].id
    await airline.carry_out(before)
    await airline.customer.apply()
    await airline.change(PILOTS, MemberChange(add=frozenset(airline.crowd[:5])))
    await airline.customer.apply()
    event_id = await airline.change(PILOTS, MemberChange(add=frozenset(airline.crowd)))
    await airline.carry_out(event_id)
    assert await airline.waits(event_id) == set(airline.crowd[5:])


async def test_a_deleted_group_touches_all_who_were_in_it(airline: Airline) -> None:
    await airline.carry_out(await airline.rename(PILOTS))
    await airline.customer.apply()
    event_id = await airline.delete()
    await airline.carry_out(event_id)
    assert await airline.waits(event_id) == set(airline.crowd)


async def test_a_new_group_with_a_role_touches_all_its_members(airline: Airline) -> None:
    def work(tx: Transaction) -> None:
        groups.create(
            tx, airline.customer.registered, PILOTS, airline.crowd, airline.customer.scim("created")
        )

    await airline.database.transact(work)
    event_id = (await airline.customer.events())[-1].id
    assert await airline.left(event_id) == MANY


async def test_a_role_is_found_by_name_whatever_its_letter_case(airline: Airline) -> None:
    assert await airline.left(await airline.rename({"displayName": "PILOTS"})) == MANY


async def test_a_decommissioned_organization_is_carried_out_in_portions(airline: Airline) -> None:
    ended = await airline.database.transact(
        lambda tx: locks.decommission(tx, "airline", actor="kim", now=airline.customer.now)
    )
    assert ended.accounts == MANY
    assert ended.event_id is not None
    assert await airline.left(ended.event_id) == MANY
    await airline.carry_out(ended.event_id)
    await airline.customer.apply()
    assert (await airline.event(ended.event_id)).state == "succeeded"


async def test_a_large_end_leaves_room_for_others(airline: Airline) -> None:
    """Its users are touched as their tenant has room: whoever comes stands behind few of them."""
    ended = await airline.database.transact(
        lambda tx: locks.decommission(tx, "airline", actor="kim", now=airline.customer.now)
    )
    event_id = ended.event_id
    assert event_id is not None

    async def room() -> int:
        return await airline.database.read(
            lambda tx: fanouts.room(tx, event_id, airline.customer.now)
        )

    first = await room()
    assert 0 < first < PORTION
    await airline.database.transact(
        lambda tx: fanouts.carry_on(tx, event_id, airline.customer.now, portion=first)
    )
    assert await room() == 0
    await airline.customer.apply()
    assert await room() == first


async def test_a_large_end_gets_on_where_its_tenant_is_never_idle(airline: Airline) -> None:
    class Hasty(SystemClock):
        """Eleven seconds pass between two looks at it."""

        at = 0.0

        def monotonic(self) -> float:
            self.at += 11.0
            return self.at

    await airline.rename(PILOTS)
    await airline.carry_out((await airline.customer.events())[-1].id)  # nobody works these
    ended = await airline.database.transact(
        lambda tx: locks.decommission(tx, "airline", actor="kim", now=airline.customer.now)
    )
    assert ended.event_id is not None
    stop = asyncio.Event()
    worker = asyncio.create_task(FanOuts(database=airline.database, clock=Hasty()).run(stop))
    async with asyncio.timeout(10):
        while await airline.left(ended.event_id) == MANY:  # noqa: ASYNC110 - it tells no event
            await asyncio.sleep(0.01)
    stop.set()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert (MANY - await airline.left(ended.event_id)) % 10 == 0


async def test_a_replay_for_many_failed_users_is_carried_out_in_portions(airline: Airline) -> None:
    event_id = await airline.rename(PILOTS)
    await airline.carry_out(event_id)

    def fail(tx: Transaction) -> None:
        accounts.note_failure(tx, event_id, FAILED.as_document())
        tx.execute(t.accounts.update().values(due_at=None))
        tx.execute(t.users.update().values(state="failed"))
        tx.execute(t.waits.delete())
        ending.conclude(tx, event_id, now=airline.customer.now, result="applied")

    await airline.database.transact(fail)

    def replay(tx: Transaction) -> replays.Result:
        return replays.replay(
            tx, event_id, read=_unread, actor="kim", now=airline.customer.now, force=True
        )

    result = await airline.database.transact(replay)
    assert result.replay_id is not None
    assert await airline.left(result.replay_id) == MANY
    again = await airline.database.transact(replay)
    assert (again.verdict, "under way" in again.reason) == ("skipped", True)


def _unread(*_: object) -> replays.Reading:
    raise AssertionError("a change of a group is not read again")


async def test_a_discarded_event_ends_and_its_accounts_follow_all_the_same(
    airline: Airline,
) -> None:
    event_id = await airline.rename(PILOTS)
    await airline.carry_on(event_id)
    await airline.database.transact(
        lambda tx: discards.discard(
            tx, event_id, reason="too many", actor="kim", now=airline.customer.now
        )
    )
    await airline.carry_out(event_id)
    assert await airline.revisions() == {2: MANY}
    assert await airline.waits(event_id) == set()
    await airline.customer.apply()
    assert (await airline.event(event_id)).state == "discarded"
    assert await airline.endings(event_id) == 1


async def test_a_user_deleted_meanwhile_stays_a_leaver_and_keeps_their_place(
    airline: Airline,
) -> None:
    event_id = await airline.rename(PILOTS)
    await airline.carry_on(event_id)
    for user_id in (airline.crowd[0], airline.crowd[-1]):
        await airline.customer.delete(await airline.customer.user(user_id))
    deleted_at = airline.customer.now
    airline.customer.now = days(0.01)
    await airline.carry_out(event_id)
    due = await airline.database.read(
        lambda tx: accounts.due(tx, "main", now=airline.customer.now, limit=3)
    )
    assert [(each.leaver, each.due_at) for each in due[:2]] == [(True, deleted_at)] * 2
    assert not due[2].leaver
    await airline.customer.apply()
    assert (await airline.event(event_id)).state == "succeeded"


async def test_an_account_that_went_to_another_user_is_not_waited_for(airline: Airline) -> None:
    """As after a deletion and a return with the same externalId."""
    event_id = await airline.rename(PILOTS)
    gone = airline.crowd[-1]
    former = await airline.customer.user(gone)
    await airline.customer.delete(former)
    back = await airline.customer.create("crowd-back", externalId=former.external_id)
    assert back.account_id == former.account_id
    await airline.carry_out(event_id)
    assert await airline.waits(event_id) == set(airline.crowd[:-1])


async def test_events_take_turns(database: Database) -> None:
    first = await founded(database, "airline", MANY, {"Pilots": "pilot"})
    second = await founded(database, "railway", MANY, {"Pilots": "driver"})
    ids = [await each.rename(PILOTS) for each in (first, second)]
    turns: list[str] = []
    last = ""
    for _ in range(6):
        turn = await database.read(lambda tx, after=last: fanouts.next_event(tx, after))
        assert turn is not None
        assert await first.carry_on(turn)
        turns.append(turn)
        last = turn
    assert turns == sorted(ids) * 3
    assert await database.read(lambda tx: fanouts.next_event(tx, last)) is None


async def test_who_is_left_is_told_to_operators(airline: Airline) -> None:
    event_id = await airline.rename(PILOTS)
    await airline.carry_on(event_id)
    await airline.carry_on(event_id)
    shown = await airline.database.read(lambda tx: showing.event(tx, event_id))
    assert shown.untouched_users == MANY - 2 * PORTION
    told = await airline.database.read(lambda tx: overview.waits_for(tx, event_id))
    assert told[-2:] == ["100 more accounts", "60 users whom it has not touched yet"]
    measured = await airline.database.read(lambda tx: depths.measure(tx, airline.customer.now))
    assert measured.untouched_users == MANY - 2 * PORTION


@pytest.fixture
async def again(database: Database, migrated_url: str) -> AsyncIterator[Callable[[], Database]]:
    """Opens the same database once more, as another process does."""
    opened: list[Database] = []

    def open_again() -> Database:
        opened.append(open_database(migrated_url))
        return opened[-1]

    yield open_again
    for each in opened:
        await each.close()


async def test_several_processes_touch_everyone_once_and_end_the_event_once(
    airline: Airline, again: Callable[[], Database]
) -> None:
    event_id = await airline.rename(PILOTS)
    clock, stop = SystemClock(), asyncio.Event()
    working = [
        asyncio.create_task(FanOuts(database=each, clock=clock).run(stop))
        for each in (airline.database, again(), again())
    ]
    applying = asyncio.create_task(_apply_until_ended(airline, event_id))
    await applying
    stop.set()
    await asyncio.gather(*working)
    assert await airline.revisions() == {2: MANY}
    assert await airline.endings(event_id) == 1


async def _apply_until_ended(airline: Airline, event_id: str) -> None:
    airline.customer.now = SystemClock().now()
    async with asyncio.timeout(20):
        while (await airline.event(event_id)).state == "accepted":
            airline.customer.now = SystemClock().now()
            await airline.customer.apply()
            await asyncio.sleep(0.01)


async def test_touching_waits_for_nobody_in_a_circle(
    airline: Airline, again: Callable[[], Database]
) -> None:
    """Doors change people whom portions and lanes are at."""
    event_id = await airline.rename(PILOTS)
    other = again()

    async def portions() -> None:
        while await other.transact(
            lambda tx: fanouts.carry_on(tx, event_id, airline.customer.now, portion=20)
        ):
            await airline.customer.apply()

    async def door() -> None:
        for user_id in airline.crowd[::7]:
            user = await airline.customer.user(user_id)
            await airline.customer.change(user, title="Captain")

    async with asyncio.timeout(20):
        await asyncio.gather(portions(), door())
    await airline.customer.apply()
    assert (await airline.event(event_id)).state == "succeeded"


async def test_intent_touches_each_of_some_users_once(airline: Airline) -> None:
    def touch(tx: Transaction) -> int:
        event_id = inbox.admit(tx, airline.received(), "airline").event_id
        ids = [airline.crowd[0], airline.crowd[1], airline.crowd[0]]
        return waits.touch_users(tx, ids, event_id=event_id, now=airline.customer.now)

    assert await airline.database.transact(touch) == 2


@pytest.mark.parametrize("after", [0.0, 0.05, 0.2])
async def test_whatever_happens_meanwhile_each_event_ends_once_and_nothing_is_left_over(
    airline: Airline, again: Callable[[], Database], after: float
) -> None:
    """Renames, deletions, an operator's discard and the organization's end, in the middle of it."""
    customer, other = airline.customer, again()
    first = await airline.rename(PILOTS)
    ready = asyncio.Event()

    async def portions(database: Database) -> None:
        turn, is_last_look = "", False
        while turn or not is_last_look:
            is_last_look = ready.is_set()  # before it looks: what comes later is not seen
            turn = await database.read(lambda tx, it=turn: fanouts.next_event(tx, it)) or ""
            if turn:
                await database.transact(
                    lambda tx, it=turn: fanouts.carry_on(tx, it, customer.now, portion=20)
                )
            await asyncio.sleep(0)

    async def lanes() -> None:
        while not ready.is_set():
            await customer.apply()
            await asyncio.sleep(0.01)

    async def others() -> None:
        await asyncio.sleep(after)
        await other.transact(
            lambda tx: discards.discard(tx, first, reason="r", actor="kim", now=customer.now)
        )
        for user_id in airline.crowd[::40]:
            await customer.delete(await customer.user(user_id))
        await airline.rename(CREW)
        await other.transact(
            lambda tx: locks.decommission(tx, customer.name, actor="kim", now=customer.now)
        )
        ready.set()

    async with asyncio.timeout(120):
        await asyncio.gather(portions(airline.database), portions(other), lanes(), others())
    await customer.apply()
    endings = [each.event_id for each in await customer.outcomes() if each.type in ENDINGS]
    assert sorted(filter(None, endings)) == sorted(each.id for each in await customer.events())
    for table in (t.waits, t.fanouts):
        rows = select(func.count()).select_from(table)
        assert await airline.database.read(lambda tx, it=rows: tx.execute(it).scalar_one()) == 0
    states = select(t.users.c.state).where(t.users.c.organization == customer.name).distinct()
    found = await airline.database.read(lambda tx: set(tx.execute(states).scalars()))
    assert found == {"applied"}
