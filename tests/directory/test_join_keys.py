"""By which of SCIM's attributes HR's and SCIM's records of one person meet, whichever comes first."""

import asyncio
from collections.abc import Mapping
from typing import Any, get_args

import pytest

from service.directory import users, workers
from service.directory.database import Database
from service.organizations import Connection, JoinKey, Organization
from service.people import ENTERPRISE
from service.workers import WorkerEvent
from tests.directory.customer import Customer, registered
from tests.directory.test_races import lingering

ANN = "ann@hoekstra.example"
OLD = "ann@old.example"


def resource(join: str, key: str) -> Mapping[str, Any]:
    """Ann's SCIM resource, with this key where the organization looks for it."""
    known = {"userName": "ann", "emails": [{"value": ANN}]}
    if join == "employeeNumber":
        return {**known, ENTERPRISE: {"employeeNumber": key}}
    return {**known, join: key}


@pytest.fixture(params=get_args(JoinKey))
def join(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def customer(database: Database, join: str) -> Customer:
    organization = Organization.model_validate(
        {"name": "hoekstra", "connections": [Connection(name="users")], "join": join}
    )
    return await registered(database, organization)


async def test_hr_joins_whom_scim_knows(customer: Customer, join: str) -> None:
    known = await customer.create("ann", **resource(join, "w1"))
    await customer.hr("terminated", "w1")
    assert (await customer.user("w1")).id == known.id
    assert not await customer.is_in(known)


async def test_scim_joins_whom_hr_knows(customer: Customer, join: str) -> None:
    await customer.hr("hired", "w1", email=ANN)
    known = await customer.user("w1")
    joined = await customer.create("ann", **resource(join, "w1"))
    assert (joined.id, joined.account_id) == (known.id, known.account_id)
    assert len(await customer.everyone()) == 1


async def test_keys_are_compared_as_their_attribute_is(customer: Customer, join: str) -> None:
    known = await customer.create("ann", **resource(join, "W-1a"))
    await customer.hr("terminated", "w-1A")
    assert await customer.is_in(known) is (join == "externalId")
    assert len(await customer.everyone()) == (2 if join == "externalId" else 1)


async def test_a_key_that_comes_later_joins_and_takes_the_account_that_hr_had_made(
    customer: Customer, join: str
) -> None:
    await customer.hr("hired", "W1", email=ANN)
    of_hr = await customer.user("W1")
    stranger = await customer.create("someone", emails=[{"value": ANN}])
    assert stranger.state == "failed"
    joined = await customer.change(stranger, **resource(join, "W1"))
    assert (joined.worker_id, joined.account_id) == ("W1", of_hr.account_id)
    await customer.hr("terminated", "W1")
    assert not await customer.is_in(joined)
    assert (await customer.user(of_hr.id)).account_id is None


async def test_of_two_rows_that_turn_out_to_be_one_person_one_account_is_blocked(
    customer: Customer, join: str
) -> None:
    await customer.hr("hired", "w1", email=OLD)
    of_hr = await customer.user("w1")
    of_scim = await customer.create("someone", emails=[{"value": ANN}])
    await customer.apply()
    joined = await customer.change(of_scim, **resource(join, "w1"))
    assert joined.account_id == of_scim.account_id
    assert not await customer.is_in(of_hr.id)
    assert set(await customer.apply()) == {of_hr.account_id, of_scim.account_id}


async def test_who_is_joined_cannot_shake_off_what_hr_said(customer: Customer, join: str) -> None:
    known = await customer.create("ann", **resource(join, "w1"))
    await customer.hr("terminated", "w1")
    await customer.hr("hired", "w2", email=OLD)
    changed = await customer.change(known, **resource(join, "w2"))
    assert changed.worker_id == "w1"
    assert not await customer.is_in(known)


async def test_who_was_terminated_does_not_come_back_as_a_new_resource(
    customer: Customer, join: str
) -> None:
    known = await customer.create("ann", **resource(join, "w1"))
    await customer.hr("terminated", "w1")
    await customer.delete(known)
    again = await customer.create("ann", **resource(join, "w1"))
    assert (again.worker_id, again.account_id) == ("w1", known.account_id)
    assert not await customer.is_in(again)
    await customer.hr("rehired", "w1")
    assert await customer.is_in(again)


async def test_hr_and_scim_that_speak_at_once_meet_in_one_row(
    customer: Customer, join: str
) -> None:
    hired = WorkerEvent(type="worker.hired", worker_id="W1", attributes={"email": ANN})
    received = customer.from_hr(hired.type)
    said, told = dict(resource(join, "W1")), customer.scim("created")
    await asyncio.gather(
        customer.database.transact(
            lingering(lambda tx: users.create(tx, customer.registered, said, told))
        ),
        customer.database.transact(
            lingering(lambda tx: workers.accept(tx, customer.registered, hired, received))
        ),
    )
    everyone = await customer.everyone()
    assert [(user.worker_id, user.in_scim) for user in everyone] == [("W1", True)]


async def test_an_external_id_still_tells_who_comes_back(customer: Customer) -> None:
    known = await customer.create(ANN, externalId="e1")
    await customer.delete(known)
    again = await customer.create(ANN, externalId="e1")
    assert again.account_id == known.account_id


async def test_an_external_id_and_a_key_that_name_two_rows_name_one_person(
    database: Database,
) -> None:
    organization = Organization(
        name="hoekstra", connections=(Connection(name="users"),), join="employeeNumber"
    )
    customer = await registered(database, organization)
    before = await customer.create(ANN, externalId="e1")
    await customer.delete(before)
    await customer.hr("hired", "w1", email=OLD)
    both = {**resource("employeeNumber", "w1"), "externalId": "e1"}
    again = await customer.create("ann", **both)
    assert (again.worker_id, again.account_id) == ("w1", before.account_id)
    await customer.hr("terminated", "w1")
    assert not await customer.is_in(again)
