"""Laws of Bulk: it does what its operations would do one by one, and always comes to an end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from scim.bulk_order import Agenda
from scim.bulk_references import references, resolve, without
from scim.bulk_request import BulkOperation, read_bulk
from service.directory import events, tables
from tests.infrastructure.examples import tried_on
from tests.infrastructure.schema import Lending
from tests.scim.bulk import entries
from tests.scim.client import PATCH_OP, Scim, opened, organization

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BASE = "http://scim.test/scim/v2/hoekstra"


# The order


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Run, Scim, Scim]]:
    """Two organizations that are alike: one is spoken to in Bulk, the other one by one."""
    with asyncio.Runner() as runner:
        if request.param == "sqlite":
            url, lending = f"sqlite:///{tmp_path_factory.mktemp('bulk') / 'directory.db'}", None
        else:
            lending = cast("Lending", request.getfixturevalue("postgres_lending"))
            url = runner.run(lending.borrow())
        context = opened(url, organization("bulk"), organization("single"))
        bulk, single = runner.run(context.__aenter__())
        yield runner.run, bulk, single
        runner.run(context.__aexit__(None, None, None))
        if lending is not None:
            runner.run(lending.give_back(url))


names = st.integers(0, 3)
known = st.integers(0, 2)
"""Users who were there before."""


def _user(run: int, name: int, address: int | None, person: int | None) -> dict[str, Any]:
    made: dict[str, Any] = {"userName": f"Name{name}-{run}"}
    if address is not None:
        made["emails"] = [{"value": f"a{address}-{run}@x.example", "primary": True}]
    if person is not None:
        made["externalId"] = f"p{person}-{run}"
    return made


bodies = st.tuples(names, st.none() | st.integers(0, 2), st.none() | st.integers(0, 1))
operations = st.one_of(
    st.tuples(st.just("create"), bodies),
    st.tuples(st.just("create"), bodies),
    st.tuples(st.just("delete"), known),
    st.tuples(st.just("put"), known, bodies),
    st.tuples(st.just("active"), known, st.booleans()),
    st.tuples(st.just("group"), names, st.lists(known, max_size=2)),
    st.tuples(st.just("member"), known),
)


def _sent(wanted: Any, run: int, users: list[str], group: str) -> tuple[str, str, Any]:
    """Method, path and data of a generated operation."""
    match wanted:
        case ("create", body):
            return "POST", "/Users", _user(run, *body)
        case ("delete", who):
            return "DELETE", f"/Users/{users[who]}", None
        case ("put", who, body):
            return "PUT", f"/Users/{users[who]}", _user(run, *body)
        case ("active", who, active):
            change = {"op": "replace", "path": "active", "value": active}
            return "PATCH", f"/Users/{users[who]}", _patch(change)
        case ("group", name, members):
            listed = [{"value": users[who]} for who in members]
            return "POST", "/Groups", {"displayName": f"Group{name}-{run}", "members": listed}
        case (_, who):
            add = {"op": "add", "path": "members", "value": [{"value": users[who]}]}
            return "PATCH", f"/Groups/{group}", _patch(add)
        case _:
            raise AssertionError(wanted)


def _patch(*changes: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(changes)}


_runs = itertools.count()


@tried_on(40)
@given(wanted=st.lists(operations, min_size=2, max_size=14), limit=st.none() | st.integers(1, 3))
def test_a_bulk_does_what_its_operations_do_one_by_one(
    pair: tuple[Run, Scim, Scim], wanted: list[Any], limit: int | None
) -> None:
    run, bulk, single = pair
    number = next(_runs)

    async def both() -> None:
        there = [await _prepared(scim, number) for scim in (bulk, single)]
        in_bulk = [_sent(each, number, *there[0]) for each in wanted]
        one_by_one = [_sent(each, number, *there[1]) for each in wanted]
        expected = await _single_statuses(single, one_by_one, limit)
        told = await entries(
            bulk,
            *({"method": method, "path": path, "data": data} for method, path, data in in_bulk),
            failOnErrors=limit,
        )
        assert [entry["status"] for entry in told] == expected
        assert await _picture(bulk, number) == await _picture(single, number)

    run(both())


async def _prepared(scim: Scim, run: int) -> tuple[list[str], str]:
    users = [await scim.post_user(**_named(_user(run, 10 + who, who, who))) for who in range(3)]
    group = await scim.post_group(f"Known-{run}")
    return [user["id"] for user in users], group["id"]


def _named(body: dict[str, Any]) -> dict[str, Any]:
    return {"user_name": body.pop("userName"), **body}


async def _single_statuses(
    scim: Scim, sent: list[tuple[str, str, Any]], limit: int | None
) -> list[str]:
    found: list[str] = []
    for method, path, data in sent:
        answer: httpx.Response = await scim.http.request(method, path.lstrip("/"), json=data)
        found.append(str(answer.status_code))
        if limit is not None and sum(status >= "400" for status in found) == limit:
            break
    return found


async def _picture(scim: Scim, run: int) -> list[Any]:
    """Who there is with which address, in which groups, and how each event stands."""

    def work(transaction: Connection) -> list[Any]:
        users = transaction.execute(
            select(tables.users).where(tables.users.c.organization == scim.organization)
        ).all()
        ours = [row for row in users if str(row.resource["userName"]).endswith(f"-{run}")]
        order = {row.id: number for number, row in enumerate(sorted(ours, key=_age))}
        groups = transaction.execute(
            select(tables.groups.c.display_name_key, tables.members.c.user_id)
            .select_from(tables.groups)
            .outerjoin(tables.members, tables.members.c.group_id == tables.groups.c.id)
            .where(tables.groups.c.organization == scim.organization)
        ).all()
        told = events.listing(
            transaction, events.Filter(organization=scim.organization), limit=100_000
        )
        return [
            sorted(
                repr([row.resource["userName"], row.active, row.deleted_at is None, row.version])
                + repr([row.identifier, row.account_id is not None, row.state])
                for row in ours
            ),
            sorted(
                (name, -1 if member is None else order[member])
                for name, member in groups
                if name.endswith(f"-{run}")
            ),
            sorted((event.type, event.state) for event in told if event.user_id in order),
        ]

    return await scim.database.read(work)


def _age(row: Any) -> tuple[Any, ...]:
    return (row.resource["userName"], row.created_at)


# References


@st.composite
def webs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Operations that refer to each other at random, in circles too, and to nothing."""
    size = draw(st.integers(1, 9))
    made: list[dict[str, Any]] = []
    for number in range(size):
        to = draw(st.lists(st.integers(0, size), max_size=3))  # one past the end is nobody
        data = {"displayName": f"g{number}", "members": [{"value": f"bulkId:{n}"} for n in to]}
        if draw(st.booleans()):
            made.append({"method": "POST", "path": "/Groups", "bulkId": str(number), "data": data})
        else:
            target = draw(st.sampled_from(["known", *(f"bulkId:{n}" for n in to)]))
            made.append({"method": "PUT", "path": f"/Groups/{target}", "data": data})
    return made


@tried_on(400)
@given(web=webs(), failing=st.sets(st.integers(0, 8)), most=st.integers(1, 5))
def test_every_operation_is_settled_once_with_nothing_unresolved(
    web: list[dict[str, Any]], failing: set[int], most: int
) -> None:
    listed = read_bulk({"Operations": web}, tolerant=True, base_url=BASE).operations
    creators = {each.bulk_id for each in listed if each.creates and each.bulk_id is not None}
    agenda = Agenda(listed)
    settled: list[int] = []
    made: set[str] = set()
    while steps := agenda.next(most):
        assert len(steps) <= most
        for step in steps:
            operation = step.operation
            fails = step.refused is not None or operation.index in failing
            if step.refused is None:
                assert references([step.data, *step.segments], creators) == set()
            if step.final or fails:
                settled.append(operation.index)
            if not fails and operation.creates:
                made.add(operation.bulk_id or "")
            path = step.segments if len(step.segments) > 1 else ("Groups", f"id{operation.index}")
            agenda.settle(step, None if fails else path)
    assert sorted(settled) == list(range(len(listed)))
    assert agenda.left() == []
    if not failing:
        unknown = _hopeless(listed, creators)
        assert made == {name for name in creators if name not in unknown}


def _hopeless(listed: tuple[BulkOperation, ...], creators: set[str]) -> set[str]:
    """Creators that refer to nobody, and whoever refers to them outside a circle of good ones."""
    needs = {
        each.bulk_id or "": references([each.data, *each.segments], creators)
        for each in listed
        if each.creates
    }
    lost: set[str] = set()
    while more := {
        name
        for name, needed in needs.items()
        if name not in lost and any(other not in creators or other in lost for other in needed)
    }:
        lost |= more
    return lost


@given(
    st.recursive(
        st.sampled_from(
            ["bulkId:a", "BULKID:b", "x/bulkId:a", 'v eq "bulkId:b"', "plain", 7, None]
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["value", "$ref", "display", "x"]), inner, max_size=3)
        ),
    )
)
def test_what_is_resolved_or_taken_out_refers_to_nothing_any_more(value: Any) -> None:
    known = {"a": "1", "b": "2"}
    assert references(value, known) <= known.keys()
    assert references(resolve(value, known), known) == set()
    assert references(without(value, known), known) == set()
    if not references(value, known):
        assert resolve(value, known) == without(value, known) == value
