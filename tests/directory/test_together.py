"""Writes of many users at once: what comes of them is what comes of each alone, and nobody waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from service.directory import accounts, events, people, together, users
from service.directory import tables as t
from service.directory.database import Alike, Database, Transaction
from service.directory.events import Filter
from service.directory.people import Groups
from service.directory.together import Change, New
from service.directory.turns import Turns
from service.errors import Refused, UniquenessConflict
from service.organizations import Connection, Organization
from service.people import User
from tests.directory.customer import Customer, registered

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What becomes of a resource. ``refuses``: it cannot."""

    said: Resource
    refuses: bool = False

    def __call__(self, user: User) -> Resource:
        if self.refuses:
            raise Refused("not like this")
        return {**(user.resource or {}), **self.said}


def creation(customer: Customer, resource: Resource) -> Alike[New, User]:
    received = customer.scim("created")
    new = together.new(customer.registered.organization, resource, received)
    return Alike(
        lambda tx: users.create(tx, customer.registered, resource, received), new, together.create
    )


def change(customer: Customer, user_id: str, wish: Wish) -> Alike[Change, tuple[User, Groups]]:
    received = customer.scim("patched")

    def alone(tx: Transaction) -> tuple[User, Groups]:
        user, groups = users.lock_with_groups(tx, customer.name, user_id)
        return users.replace(tx, customer.registered, user, wish(user), received), groups

    item = Change(organization=customer.name, user_id=user_id, changed=wish, received=received)
    return Alike(alone, item, together.change)


async def at_once(customer: Customer, works: Sequence[Alike[Any, Any]]) -> list[Any]:
    """What each returned, or raised."""
    asked = [customer.database.transact(work) for work in works]
    return list(await asyncio.gather(*asked, return_exceptions=True))


def named(*names: str) -> list[Resource]:
    return [{"userName": f"{name}@hoekstra.example", "externalId": name} for name in names]


async def test_all_who_join_at_once_are_stored(hoekstra: Customer) -> None:
    names = [f"p{number}" for number in range(40)]
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in named(*names)])
    assert {user.external_id for user in made} == set(names)
    assert {user.id: user for user in made} == {user.id: user for user in await hoekstra.everyone()}
    assert await hoekstra.states() == ["accepted"] * 40


async def test_of_two_with_one_name_at_once_one_is_refused_and_nobody_else(
    hoekstra: Customer,
) -> None:
    ann, bob = named("ann", "bob")
    again = {**ann, "externalId": "other", "emails": [{"value": "other@hoekstra.example"}]}
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in (ann, again, bob)])
    refused = [each for each in made if isinstance(each, Exception)]
    assert [type(each) for each in refused] == [UniquenessConflict]
    assert len(await hoekstra.everyone()) == 2
    assert len(await hoekstra.events()) == 2


async def test_who_has_a_name_that_is_taken_is_refused_and_nobody_beside_them(
    hoekstra: Customer,
) -> None:
    ann, bob, eve = named("ann", "bob", "eve")
    await at_once(hoekstra, [creation(hoekstra, ann)])
    taken = {**ann, "externalId": "x", "emails": [{"value": "x@hoekstra.example"}]}
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in (bob, taken, eve)])
    assert [type(each) for each in made] == [User, UniquenessConflict, User]
    assert len(await hoekstra.events()) == 3


async def test_of_two_with_one_address_at_once_one_has_the_account(hoekstra: Customer) -> None:
    shared = [{"value": "desk@hoekstra.example"}]
    both = [{"userName": name, "emails": shared} for name in ("ann", "bob")]
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in both])
    assert sorted(user.state for user in made) == ["failed", "pending"]


async def test_who_comes_back_among_others_has_their_account_again(hoekstra: Customer) -> None:
    (ann,) = await at_once(hoekstra, [creation(hoekstra, each) for each in named("ann")])
    await hoekstra.delete(ann)
    back, _ = await at_once(hoekstra, [creation(hoekstra, e) for e in named("ann", "bob")])
    assert (back.id == ann.id, back.account_id) == (False, ann.account_id)


async def test_whom_hr_knows_is_joined_among_others(hoekstra: Customer) -> None:
    await hoekstra.hr("hired", "ann", email="ann@hoekstra.example")
    made = await at_once(hoekstra, [creation(hoekstra, e) for e in named("ann", "bob")])
    assert [user.worker_id for user in made] == ["ann", None]
    assert len(await hoekstra.everyone()) == 2


async def test_who_joins_while_the_organization_changes_joins_it_as_it_is_then(
    hoekstra: Customer,
) -> None:
    before = hoekstra.registered.organization
    ann, bob = (
        together.new(before, each, hoekstra.scim("created")) for each in named("ann", "bob")
    )
    after = before.model_copy(update={"connections": (Connection(name="elsewhere"),)})
    await registered(hoekstra.database, after)

    made = await hoekstra.database.transact(lambda tx: together.create(tx, [ann, bob]))
    housed = [await hoekstra.account(user) for user in made if user is not None]
    assert [each.connection for each in housed if each is not None] == ["elsewhere"] * 2


async def test_nobody_joins_an_organization_that_has_ended_meanwhile(hoekstra: Customer) -> None:
    (ann,) = named("ann")
    new = together.new(hoekstra.registered.organization, ann, hoekstra.scim("created"))
    ended = t.organizations.update().values(decommissioned_at=hoekstra.now)
    await hoekstra.database.transact(lambda tx: tx.execute(ended))
    made = await hoekstra.database.transact(lambda tx: together.create(tx, [new]))
    assert made == [None]
    assert await hoekstra.everyone() == []


async def test_each_change_at_once_counts_those_of_one_user_too(hoekstra: Customer) -> None:
    made = await at_once(hoekstra, [creation(hoekstra, e) for e in named("ann", "bob", "eve")])
    ids = [user.id for user in made]
    wishes = [change(hoekstra, each, Wish({"title": "Analyst"})) for each in ids]
    wishes.append(change(hoekstra, ids[0], Wish({"displayName": "Ann"})))
    told = await at_once(hoekstra, wishes)
    ann = await hoekstra.user(ids[0])
    assert ann.version == 3
    assert ann.resource is not None
    assert (ann.resource["title"], ann.resource["displayName"]) == ("Analyst", "Ann")
    account = await hoekstra.account(ann)
    assert account is not None
    assert account.revision == 3
    assert told[1] == (await hoekstra.user(ids[1]), [])


async def test_a_change_that_is_refused_is_refused_alone(hoekstra: Customer) -> None:
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in named("ann", "bob")])
    wishes = [Wish({}, refuses=True), Wish({"title": "Analyst"})]
    told = await at_once(
        hoekstra, [change(hoekstra, user.id, each) for user, each in zip(made, wishes, strict=True)]
    )
    assert isinstance(told[0], Refused)
    assert told[1][0].version == 2
    assert len(await hoekstra.events()) == 3


async def test_what_no_database_can_hold_is_refused_alone(hoekstra: Customer) -> None:
    ann, bob = named("ann", "bob")
    unfit = {**ann, "title": "a\x00b"}
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in (unfit, bob)])
    assert isinstance(made[0], Refused)
    assert made[1].state == "pending"


async def test_another_organizations_user_is_not_changed_among_ones_own(
    clinics: tuple[Customer, Customer],
) -> None:
    one, other = clinics
    (mine,) = await at_once(one, [creation(one, {"userName": "ann@clinics.example"})])
    (theirs,) = await at_once(other, [creation(other, {"userName": "bob@clinics.example"})])
    wish = Wish({"title": "Mine"})
    told = await at_once(one, [change(one, each.id, wish) for each in (mine, theirs)])
    assert (told[0][0].version, type(told[1]).__name__) == (2, "NotFound")
    assert (await other.user(theirs)).version == 1


async def test_two_organizations_users_of_one_account_change_at_once(
    clinics: tuple[Customer, Customer],
) -> None:
    resource = {"userName": "ann@clinics.example"}
    both = [(await at_once(each, [creation(each, resource)]))[0] for each in clinics]
    wish = Wish({"title": "Nurse"})
    told = await at_once(
        clinics[0], [change(c, u.id, wish) for c, u in zip(clinics, both, strict=True)]
    )
    assert [user.version for user, _ in told] == [2, 2]
    account = await clinics[0].account(both[0])
    assert account is not None
    assert (account.id, account.revision) == (both[1].account_id, 4)


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
async def test_one_whom_another_transaction_holds_keeps_nobody_else_waiting(
    hoekstra: Customer,
) -> None:
    made = await at_once(hoekstra, [creation(hoekstra, e) for e in named("ann", "bob", "eve")])
    loop, held, released = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def hold(tx: Transaction) -> None:
        people.lock(tx, made[0].id)
        driver = cast("Any", tx.connection.dbapi_connection)
        loop.call_soon(held.set)
        driver.await_(released.wait())

    holding = asyncio.create_task(hoekstra.database.transact(hold))
    await held.wait()
    wish = Wish({"title": "Analyst"})
    asked = [
        asyncio.create_task(hoekstra.database.transact(change(hoekstra, user.id, wish)))
        for user in made
    ]
    async with asyncio.timeout(10):
        for each in asked[1:]:
            assert (await each)[0].version == 2
    assert not asked[0].done()
    released.set()
    await holding
    assert (await asked[0])[0].version == 2


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is run meanwhile, without the steps of transactions."""
    run: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        run.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield run
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
async def test_any_number_who_join_or_change_at_once_take_nine_statements(
    hoekstra: Customer, statements: list[str]
) -> None:
    names = [f"p{number}" for number in range(30)]
    made = await at_once(hoekstra, [creation(hoekstra, each) for each in named(*names)])
    joined = len(statements)
    wish = Wish({"title": "Analyst"})
    await at_once(hoekstra, [change(hoekstra, user.id, wish) for user in made])
    assert joined <= 9
    assert len(statements) - joined <= 9


# The law


def _resources() -> st.SearchStrategy[list[Resource]]:
    people_ = st.integers(0, 5)
    return st.lists(
        st.builds(
            lambda name, mail, key, active, title: {
                "userName": f"u{name}@x.example",
                **({"emails": [{"value": f"m{mail}@x.example"}]} if mail is not None else {}),
                **({"externalId": f"e{key}"} if key is not None else {}),
                **({"active": active} if active is not None else {}),
                **({"title": title} if title else {}),
            },
            people_,
            st.none() | people_,
            st.none() | people_,
            st.none() | st.booleans(),
            st.none() | st.sampled_from(["Clerk", "Analyst"]),
        ),
        min_size=2,
        max_size=6,
    )


def _wishes() -> st.SearchStrategy[list[tuple[int, Wish]]]:
    said = st.fixed_dictionaries(
        {},
        optional={
            "title": st.sampled_from(["Clerk", "Analyst"]),
            "active": st.booleans(),
            "emails": st.integers(0, 5).map(lambda n: [{"value": f"m{n}@x.example"}]),
            "userName": st.integers(0, 5).map(lambda n: f"u{n}@x.example"),
            "externalId": st.integers(0, 5).map(lambda n: f"e{n}"),
        },
    )
    wish = st.builds(Wish, said, st.integers(0, 9).map(lambda n: n == 0))
    return st.lists(st.tuples(st.integers(0, 9), wish), min_size=2, max_size=6)


_FRESH = itertools.count(1)


async def _fresh(database: Database) -> Customer:
    number = next(_FRESH)
    return await registered(
        database,
        Organization(name=f"o{number}", connections=(Connection(name=f"o{number}-users"),)),
    )


async def _by_name(customer: Customer) -> list[User]:
    known = await customer.everyone()
    return sorted(known, key=lambda user: str((user.resource or {})["userName"]))


def _together(tx: Transaction, works: Sequence[Alike[Any, Any]]) -> Sequence[Any]:
    return works[0].together(tx, [work.item for work in works])


async def _alone(customer: Customer, work: Alike[Any, Any]) -> str:
    try:
        await customer.database.transact(work.alone)
    except (Refused, UniquenessConflict) as error:
        return type(error).__name__
    return "done"


async def _state(customer: Customer) -> Any:
    """Everything that is stored of an organization, with names in the place of random ids."""

    def work(tx: Transaction) -> Any:
        rows = tx.execute(select(t.users).where(t.users.c.organization == customer.name))
        users_ = {user.id: user for user in map(people.as_user, rows)}
        told = events.listing(tx, Filter(organization=customer.name), 1000)
        spoken_of = dict.fromkeys(each.user_id or "" for each in told)
        known = [users_[user_id] for user_id in spoken_of]  # two ids of one moment have no order
        assert len(known) == len(users_)
        names = {user.id: f"user {n}" for n, user in enumerate(known)}
        names |= {u.account_id: f"account of {n}" for n, u in enumerate(known) if u.account_id}
        names |= {each.id: f"event {n}" for n, each in enumerate(told)}
        waits = tx.execute(select(t.waits).where(t.waits.c.event_id.in_(names)))
        mails = tx.execute(
            select(t.user_emails).where(t.user_emails.c.organization == customer.name)
        )
        return (
            [
                replace(
                    user,
                    id=names[user.id],
                    organization="",
                    account_id=names.get(user.account_id or "", None),
                    last_event_id=names.get(user.last_event_id or "", None),
                )
                for user in known
            ],
            [
                replace(account, id="", connection="", user_id="")
                for user in known
                if user.account_id and (account := accounts.get(tx, user.account_id))
            ],
            [
                (
                    each.type,
                    each.state,
                    each.error,
                    names.get(each.user_id or ""),
                    each.correlation_id in names,
                )
                for each in told
            ],
            sorted(
                (names[w.event_id], names[w.account_id], names[w.user_id], w.revision)
                for w in waits
            ),
            sorted((names[mail.user_id], mail.value_key) for mail in mails),
        )

    return await customer.database.read(work)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(resources=_resources(), wishes=_wishes())
async def test_together_is_as_each_alone(
    database: Database, resources: list[Resource], wishes: list[tuple[int, Wish]]
) -> None:
    """Whoever was done together first, in order, then the rest."""
    one, other = await _fresh(database), await _fresh(database)
    for steps in (0, 1):
        if steps == 0:
            here: list[Alike[Any, Any]] = [creation(one, each) for each in resources]
            there: list[Alike[Any, Any]] = [creation(other, each) for each in resources]
        else:
            mine, theirs = await _by_name(one), await _by_name(other)
            chosen = [(at % len(mine), wish) for at, wish in wishes if mine]
            here = [change(one, mine[at].id, wish) for at, wish in chosen]
            there = [change(other, theirs[at].id, wish) for at, wish in chosen]
        if not here:
            return
        results = await database.transact(lambda tx, works=here: _together(tx, works))
        done = [at for at, result in enumerate(results) if result is not None]
        rest = [at for at in range(len(here)) if at not in done]
        told_here = [await _alone(one, here[at]) for at in rest]
        assert [await _alone(other, there[at]) for at in done] == ["done"] * len(done)
        assert [await _alone(other, there[at]) for at in rest] == told_here
        assert await _state(one) == await _state(other)


# Turns


async def test_what_may_have_been_committed_is_not_done_again() -> None:
    transactions: list[Any] = []

    async def lost(work: Any) -> Any:
        transactions.append(work)
        raise OSError("the connection was lost")

    turns = Turns(_each_alone, lost)
    asked = [turns.take(Alike(_done, number, _each_alone)) for number in range(3)]
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in told] == [OSError] * 3
    assert len(transactions) == 1


async def test_a_turn_that_waits_for_something_keeps_nobody_else_waiting() -> None:
    ended = asyncio.Event()

    async def transact(work: Any) -> str:
        if work is _stuck:
            await ended.wait()
        return "done"

    turns = Turns(_each_alone, transact)
    stuck = [asyncio.create_task(turns.take(Alike(_stuck, 0, _each_alone)))]
    await asyncio.sleep(0.01)  # each by itself, so that both turns are taken
    stuck.append(asyncio.create_task(turns.take(Alike(_stuck, 0, _each_alone))))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        assert await turns.take(Alike(_done, 1, _each_alone)) == "done"
    assert not any(each.done() for each in stuck)
    ended.set()
    assert await asyncio.gather(*stuck) == ["done", "done"]


def _done(_: Transaction) -> str:
    return "done"


def _stuck(_: Transaction) -> str:
    return "done"


def _each_alone(_: Transaction, items: Sequence[int]) -> list[str | None]:
    return [None for _ in items]


async def test_a_database_that_closes_ends_what_was_asked_for(
    database: Database, hoekstra: Customer
) -> None:
    asked = [
        asyncio.create_task(database.transact(creation(hoekstra, each)))
        for each in named(*"abcdef")
    ]
    await asyncio.sleep(0)
    await database.close()
    assert [(await each).state for each in asked] == ["pending"] * 6
