"""The end of an organization is taken back whole or not at all, whoever else is at it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from service.directory import decommissions, fanouts, organizations, setups
from service.directory.database import Transaction
from service.directory.decommissions import Decommission
from service.errors import Refused
from service.organizations import Connection, Model, Organization, Policies
from tests.directory.customer import START, Customer, registered
from tests.directory.test_races import lingering

AT_ONCE = Policies(deletion="delete", deletion_hold=timedelta())


async def begin(customer: Customer) -> None:
    await customer.database.transact(
        lambda tx: decommissions.begin(tx, customer.name, actor="kim", now=START)
    )


def advancing(customer: Customer) -> Callable[[Transaction], Any]:
    return lambda tx: decommissions.advance(tx, customer.name, START + timedelta(seconds=1))


def undoing(customer: Customer) -> Callable[[Transaction], Any]:
    return lambda tx: decommissions.undo(tx, customer.name, actor="kim", now=START)


async def ending(customer: Customer) -> Decommission:
    found = await customer.database.read(lambda tx: decommissions.find(tx, customer.name))
    assert found is not None
    return found


async def declare(customer: Customer, organization: Organization) -> None:
    await customer.database.transact(lambda tx: organizations.apply(tx, organization, START))


async def test_nothing_comes_back_when_deletion_begins_meanwhile(hoekstra: Customer) -> None:
    await declare(
        hoekstra, hoekstra.registered.organization.model_copy(update={"policies": AT_ONCE})
    )
    await begin(hoekstra)
    await hoekstra.database.transact(advancing(hoekstra))
    assert (await ending(hoekstra)).stage == "held"

    async def shortly_after() -> str:
        await asyncio.sleep(0.05)
        return await hoekstra.database.transact(undoing(hoekstra))

    stage, refused = await asyncio.gather(
        hoekstra.database.transact(lingering(advancing(hoekstra))),
        shortly_after(),
        return_exceptions=True,
    )
    assert stage == "deleting"
    assert isinstance(refused, Refused)
    found = await hoekstra.database.read(lambda tx: organizations.find(tx, hoekstra.name))
    assert found is not None
    assert found.decommissioned


async def test_two_operators_end_it_once(hoekstra: Customer) -> None:
    def ending_it(tx: Transaction) -> Any:
        return decommissions.begin(tx, hoekstra.name, actor="kim", now=START)

    ended = await asyncio.gather(
        *(hoekstra.database.transact(lingering(ending_it)) for _ in range(2))
    )
    assert sorted(each.event_id is None for each in ended) == [False, True]


async def test_an_end_that_was_taken_back_half_way_did_not_succeed(hoekstra: Customer) -> None:
    await hoekstra.create("ann@hoekstra.example")
    await begin(hoekstra)
    event_id = (await ending(hoekstra)).event_id
    taken_back_by = await hoekstra.database.transact(undoing(hoekstra))
    (event,) = [each for each in await hoekstra.events() if each.id == event_id]
    assert event.state == "superseded"
    assert await hoekstra.database.read(lambda tx: fanouts.left(tx, event_id)) == 0
    (open_one,) = [each for each in await hoekstra.events() if each.id == taken_back_by]
    assert open_one.state == "accepted"


@pytest.mark.parametrize(("model", "taken"), [("isolated", True), ("shared", False)])
async def test_it_does_not_come_back_into_a_connection_that_is_anothers_own_by_now(
    clinics: tuple[Customer, Customer], model: Model, taken: bool
) -> None:
    a, b = clinics
    await begin(a)
    await declare(
        b, Organization(name="clinic-b", model=model, connections=(Connection(name="pool"),))
    )
    if taken:
        with pytest.raises(Refused, match="clinic-b has the connection pool"):
            await a.database.transact(undoing(a))
    else:
        await a.database.transact(undoing(a))


async def test_it_does_not_come_back_into_an_organization_that_is_anothers_by_now(
    hoekstra: Customer,
) -> None:
    await begin(hoekstra)
    heir = Organization(
        name="heir", auth0_organization="hoekstra", connections=(Connection(name="heir-users"),)
    )
    await registered(hoekstra.database, heir)
    with pytest.raises(Refused, match="heir has the Organization hoekstra"):
        await hoekstra.database.transact(undoing(hoekstra))


async def test_a_set_up_that_the_end_cut_off_goes_on_when_it_is_taken_back(
    hoekstra: Customer,
) -> None:
    asked = await hoekstra.database.transact(
        lambda tx: setups.ask(tx, hoekstra.name, "main", START)
    )
    await begin(hoekstra)
    await hoekstra.database.transact(lambda tx: setups.forget(tx, hoekstra.name))
    await hoekstra.database.transact(undoing(hoekstra))
    state = await hoekstra.database.read(lambda tx: setups.find(tx, hoekstra.name))
    assert state is not None
    assert state.due_at is not None
    assert state.revision > asked


async def test_a_hold_that_is_declared_anew_is_shown_as_it_is(hoekstra: Customer) -> None:
    def hold(days: int) -> Organization:
        policies = Policies(deletion="delete", deletion_hold=timedelta(days=days))
        return hoekstra.registered.organization.model_copy(update={"policies": policies})

    await declare(hoekstra, hold(1))
    await begin(hoekstra)
    await hoekstra.database.transact(advancing(hoekstra))
    await declare(hoekstra, hold(30))
    await hoekstra.database.transact(advancing(hoekstra))
    assert (await ending(hoekstra)).hold_until == START + timedelta(days=30)


async def test_what_was_kept_for_long_is_held_when_deletion_is_declared(
    hoekstra: Customer,
) -> None:
    await begin(hoekstra)
    await hoekstra.database.transact(advancing(hoekstra))
    assert (await ending(hoekstra)).stage == "kept"
    policies = Policies(deletion="delete", deletion_hold=timedelta(days=30))
    deleting = hoekstra.registered.organization.model_copy(update={"policies": policies})
    await declare(hoekstra, deleting)

    later = START + timedelta(days=365)

    def advance_at(moment: timedelta) -> Callable[[Transaction], Any]:
        return lambda tx: decommissions.advance(tx, hoekstra.name, later + moment)

    assert await hoekstra.database.transact(advance_at(timedelta())) == "held"
    assert await hoekstra.database.transact(advance_at(timedelta(days=29))) is None
    assert (await ending(hoekstra)).hold_until == later + timedelta(days=30)
    assert await hoekstra.database.transact(advance_at(timedelta(days=30))) == "deleting"
