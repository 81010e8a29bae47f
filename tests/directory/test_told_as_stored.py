"""What a write returns is what is stored, whatever led there; and a look-up by key is the search."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.directory import keys, locks, people, search, users, workers
from service.directory.database import Database, Transaction
from service.directory.pages import Query
from service.directory.predicates import And, Compare, Target
from service.errors import ProvisionerError
from service.organizations import Connection, Organization
from service.people import User
from service.workers import WorkerEvent
from tests.directory.customer import Customer, registered
from tests.infrastructure.examples import tried_on

NAMES = ["ada@a.example", "ADA@A.example", "bob@a.example", "Straße", "strasse", "no address", "é"]
KEYS = ["1", "2", "Ä", "ä"]
resources = st.fixed_dictionaries(
    {"userName": st.sampled_from(NAMES)},
    optional={
        "externalId": st.sampled_from(KEYS),
        "active": st.booleans() | st.none(),
        "displayName": st.sampled_from(NAMES),
        "emails": st.lists(
            st.fixed_dictionaries({"value": st.sampled_from(NAMES)}), min_size=1, max_size=2
        ),
        "x": st.floats(-1e15, 1e15) | st.text("a\\\"'\x01é😀", max_size=4),
    },
)
who = st.integers(0, 30)
steps = st.one_of(
    st.tuples(st.just("create"), resources),
    st.tuples(st.just("replace"), who, resources),
    st.tuples(st.just("delete"), who),
    st.tuples(st.sampled_from(["block", "unblock"]), who),
    st.tuples(
        st.just("hr"),
        st.sampled_from(["hired", "changed", "terminated", "rehired"]),
        st.sampled_from(KEYS),
        st.dictionaries(st.sampled_from(["email", "given_name"]), st.sampled_from(NAMES)),
    ),
    st.tuples(st.just("apply")),
)
TARGETS = [
    Target(keys=("id",), exact=True),
    Target(keys=("userName",)),
    Target(keys=("externalId",), exact=True),
    Target(keys=("displayName",)),
    Target(keys=("emails",), many=True, sub="value"),
]


@pytest.mark.examples
@pytest.mark.parametrize("model", ["isolated", "shared"])
async def test_what_a_write_returns_is_what_is_stored(
    database: Database, model: Literal["isolated", "shared"]
) -> None:
    drawn: list[list[Any]] = []

    @tried_on(24)
    @given(st.lists(steps, min_size=4, max_size=14))
    def draw(some: list[Any]) -> None:
        drawn.append(some)

    draw()
    for number, some in enumerate(drawn):
        name = f"customer-{number}"
        customer = await registered(
            database,
            Organization(name=name, model=model, connections=(Connection(name=f"{name}-users"),)),
        )
        for step in some:
            await _take(customer, step)
        await _find(customer, [user.id for user in await customer.everyone()])


async def _take(customer: Customer, step: Any) -> None:
    there = await customer.everyone()
    if step[0] == "apply":
        await customer.apply()
        return

    def work(tx: Transaction) -> User | None:
        told = _write(tx, customer, step, there)
        if told is not None:
            assert told == people.get(tx, told.id)
        return told

    try:
        told = await customer.database.transact(work)
    except ProvisionerError:
        assert await customer.everyone() == there
        return
    if told is not None:
        assert told == await customer.user(told.id)
        found = await customer.database.look_up(lambda tx: people.get(tx, told.id))
        assert told == found


def _write(tx: Transaction, customer: Customer, step: Any, there: list[User]) -> User | None:
    kind, *said = step
    who = customer.registered
    if kind == "create":
        return users.create(tx, who, said[0], customer.scim("created"))
    if kind == "hr":
        event = WorkerEvent(type=f"worker.{said[0]}", worker_id=said[1], attributes=said[2])
        workers.accept(tx, who, event, customer.from_hr(event.type))
        return None
    if not there:
        return None
    user = there[said[0] % len(there)]
    match kind:
        case "replace":
            held = users.lock(tx, customer.name, user.id)
            return users.replace(tx, who, held, said[1], customer.scim("replaced"))
        case "delete":
            users.delete(tx, who, user.id, customer.scim("deleted"))
            return None
        case "block":
            return locks.block(tx, user.id, actor="op", reason="r", now=customer.now).user
        case _:
            return locks.unblock(tx, user.id, actor="op", now=customer.now).user


async def _find(customer: Customer, ids: list[str]) -> None:
    """Every key by the short way and by the general one."""

    def work(tx: Transaction) -> None:
        for target in TARGETS:
            for value in [*NAMES, *KEYS, *ids, ids[0].upper() if ids else "", ""]:
                compare = Compare(target=target, operator="eq", value=value)
                for limit in (1, 2, 100):
                    short = keys.find(tx, customer.name, Query(where=compare, limit=limit))
                    whole = Query(where=And((compare,)), limit=limit)
                    general = search.users_and_groups(tx, customer.name, whole)
                    assert short is None or short == general
                    assert short is not None or (general[0].total or 0) > limit

    await customer.database.read(work)
