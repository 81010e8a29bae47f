"""A change of many accounts and the lanes: roles end as the groups are now, and nobody is delayed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from service.directory import accounts, fanouts, groups
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.groups import Group, MemberChange
from service.people import User
from service.provisioning.fleet import FanOuts
from tests.directory.crowd import enrol, settle_in
from tests.provisioning.world import World

MANY = fanouts.AT_ONCE + 100
PLAIN, MAPPED = {"displayName": "Desk"}, {"displayName": "Bookkeeping"}


@dataclass(slots=True, kw_only=True)
class Office:
    """A group of many at ``hoekstra``, Ada among them. The others' tenant is worked by nobody."""

    world: World
    ada: User
    group: Group

    async def change(self, resource: dict[str, str], members: MemberChange | None = None) -> None:
        registered = await self.world.registered("hoekstra")

        def work(tx: Transaction) -> Group:
            held = groups.lock(tx, "hoekstra", self.group.id)
            received = self.world.received("group")
            return groups.change(
                tx, registered, held, resource, members or MemberChange(), received
            )

        self.group = await self.world.database.transact(work)

    async def portion(self, size: int) -> int:
        """The next so many of whoever is left of the only fan-out."""

        def work(tx: Transaction) -> int:
            event_id = fanouts.next_event(tx, "")
            if event_id is None:
                return 0
            return fanouts.carry_on(tx, event_id, self.world.clock.now(), portion=size)

        return await self.world.database.transact(work)

    async def rest(self) -> None:
        """Until no account of the tenant is due."""

        async def holds() -> bool:
            now = self.world.clock.now()
            due = await self.world.database.read(
                lambda tx: accounts.due(tx, "main", now=now, limit=1)
            )
            return not due and (await self.world.user(self.ada)).state == "applied"

        await self.world.until(holds)

    async def roles(self) -> list[str]:
        found = await self.world.auth0_user("ada@hoekstra.example")
        assert found is not None
        state = await self.world.state()
        (member,) = [m for m in state["members"] if m["user_id"] == found["user_id"]]
        return list(member["roles"])


@pytest.fixture(params=["world", "postgres_world"])
def somewhere(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)


@pytest.fixture
async def office(somewhere: World) -> Office:
    world = somewhere
    world.work()
    ada = await world.join("hoekstra", "ada@hoekstra.example")
    await world.settled()
    registered = await world.registered("hoekstra")
    now = world.clock.now()

    def work(tx: Transaction) -> Group:
        made = groups.create(tx, registered, PLAIN, [ada.id], world.received("group"))
        enrol(tx, made.id, settle_in(tx, "hoekstra", MANY, now))
        others = t.accounts.c.id != ada.account_id
        tx.execute(t.accounts.update().where(others).values(tenant="elsewhere"))
        return made

    return Office(world=world, ada=ada, group=await world.database.transact(work))


@pytest.mark.parametrize("portions_before", [0, 1], ids=["before her portion", "after her portion"])
async def test_who_is_removed_and_added_again_meanwhile_has_the_role_in_the_end(
    office: Office, portions_before: int
) -> None:
    await office.change(MAPPED)
    for _ in range(portions_before):
        assert await office.portion(10) == 10  # in order of ids, and hers is the first
    ada = frozenset({office.ada.id})
    await office.change(MAPPED, MemberChange(remove=ada))
    await office.rest()
    assert await office.roles() == []
    await office.change(MAPPED, MemberChange(add=ada))
    await office.rest()
    assert await office.roles() == ["billing"]
    while await office.portion(100):
        pass
    await office.rest()
    assert await office.roles() == ["billing"]


async def test_who_is_added_and_removed_again_meanwhile_has_no_role_in_the_end(
    office: Office,
) -> None:
    ada = frozenset({office.ada.id})
    await office.change(PLAIN, MemberChange(remove=ada))
    await office.change(MAPPED)
    await office.change(MAPPED, MemberChange(add=ada))
    await office.rest()
    await office.change(MAPPED, MemberChange(remove=ada))
    while await office.portion(100):
        pass
    await office.rest()
    assert await office.roles() == []


async def test_a_group_that_loses_its_role_while_it_is_still_gaining_it_has_none_in_the_end(
    office: Office,
) -> None:
    await office.change(MAPPED)
    assert await office.portion(50) == 50
    await office.rest()
    assert await office.roles() == ["billing"]
    await office.change(PLAIN)
    stop = asyncio.Event()
    worker = FanOuts(database=office.world.database, clock=office.world.clock)
    working = asyncio.create_task(worker.run(stop))

    async def carried_out() -> bool:
        return not await office.world.database.read(lambda tx: fanouts.next_event(tx, ""))

    await office.world.until(carried_out)
    stop.set()
    await working
    await office.rest()
    assert await office.roles() == []


async def test_a_leaver_goes_before_all_whom_a_fan_out_has_made_due(office: Office) -> None:
    world = office.world
    await world.rest()  # nobody works: what is due stays due
    await world.database.transact(lambda tx: tx.execute(t.accounts.update().values(tenant="main")))
    await office.change(MAPPED)
    assert await office.portion(150) == 150
    await world.change(office.ada, active=False)
    assert await office.portion(150) == 150
    now = world.clock.now()
    first = await world.database.read(lambda tx: accounts.due(tx, "main", now=now, limit=1))
    assert [(due.id, due.leaver) for due in first] == [(office.ada.account_id, True)]


async def test_another_customers_fan_out_ends_while_a_larger_one_goes_on(
    office: Office,
) -> None:
    world = office.world
    await world.apply(
        (await world.registered("hoekstra")).organization.model_copy(update={"name": "late"})
    )
    late = await world.registered("late")
    now = world.clock.now()

    def enlarge(tx: Transaction) -> None:
        enrol(tx, office.group.id, settle_in(tx, "hoekstra", 5_000, now, name="more"))
        tx.execute(
            t.accounts.update()
            .where(t.accounts.c.id != office.ada.account_id)
            .values(tenant="elsewhere")
        )

    await world.database.transact(enlarge)
    await office.change(MAPPED)

    def theirs(tx: Transaction) -> None:
        made = groups.create(tx, late, PLAIN, [], world.received("group"))
        enrol(tx, made.id, settle_in(tx, "late", MANY, now))
        held = groups.lock(tx, "late", made.id)
        groups.change(tx, late, held, MAPPED, MemberChange(), world.received("group"))

    await world.database.transact(theirs)
    (hers,) = [e.id for e in await world.events() if e.organization == "late"][-1:]
    ours = [e.id for e in await world.events() if e.organization == "hoekstra"][-1]
    stop = asyncio.Event()
    worker = FanOuts(database=world.database, clock=world.clock)
    working = asyncio.create_task(worker.run(stop))

    async def carried_out() -> bool:
        return await world.database.read(lambda tx: fanouts.left(tx, hers)) == 0

    await world.until(carried_out)
    assert await world.database.read(lambda tx: fanouts.left(tx, ours)) > 3_000
    stop.set()
    await working
