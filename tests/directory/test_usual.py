"""Who joins and who changes: what is written, whichever course it takes, and in how few statements."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from service.directory import tables as t
from service.errors import UniquenessConflict
from service.people import User
from tests.directory.customer import START, Customer, days

ANN = "ann@hoekstra.example"


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is run meanwhile, without the steps of transactions."""
    run: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        run.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield run
    event.remove(Engine, "before_cursor_execute", note)


async def waits(customer: Customer, user: User) -> list[tuple[str, str, int]]:
    """Events that wait for a user's account, the account, and for which revision of it."""
    columns = t.waits.c.event_id, t.waits.c.account_id, t.waits.c.revision
    query = select(*columns).where(t.waits.c.user_id == user.id).order_by(t.waits.c.revision)
    return await customer.database.read(
        lambda tx: [(row[0], row[1], row[2]) for row in tx.execute(query)]
    )


async def test_who_joins_has_an_account_that_is_due_and_an_event_that_waits_for_it(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN, emails=[{"value": ANN}, {"value": "A@home.example"}])
    account = await hoekstra.account(user)
    (said,) = await hoekstra.events()
    assert account is not None
    assert (account.identifier, account.revision, account.applied_revision) == (ANN, 1, 0)
    assert (account.due_at, account.leaver, account.attempts) == (START, False, 0)
    assert (said.state, said.type, said.user_id) == ("accepted", "scim.user.created", user.id)
    assert said.id == said.correlation_id == user.last_event_id
    assert await waits(hoekstra, user) == [(said.id, account.id, 1)]
    addresses = select(t.user_emails.c.value_key).where(t.user_emails.c.user_id == user.id)
    found = await hoekstra.database.read(lambda tx: set(tx.execute(addresses).scalars()))
    assert found == {ANN, "a@home.example"}


async def test_a_change_waits_for_a_further_revision_and_keeps_the_place_of_who_is_due(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN)
    hoekstra.now = days(1)
    changed = await hoekstra.change(user, title="Analyst")
    account = await hoekstra.account(user)
    assert account is not None
    assert (account.revision, account.due_at) == (2, START)
    assert [wait[2] for wait in await waits(hoekstra, user)] == [1, 2]
    assert (await waits(hoekstra, user))[1][0] == changed.last_event_id
    assert changed == await hoekstra.user(user)


async def test_a_change_after_all_was_applied_makes_the_account_due_again(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN)
    await hoekstra.apply()
    hoekstra.now = days(1)
    changed = await hoekstra.change(user, title="Analyst")
    account = await hoekstra.account(user)
    assert account is not None
    assert (account.due_at, changed.state) == (days(1), "pending")
    assert await hoekstra.states() == ["succeeded", "accepted"]


async def test_a_change_of_one_whose_account_was_deleted_in_auth0_opens_another(
    hoekstra: Customer,
) -> None:
    user = await hoekstra.create(ANN)
    await hoekstra.apply()
    await hoekstra.close_account_of(user)
    changed = await hoekstra.change(user, title="Analyst")
    account = await hoekstra.account(user)
    assert account is not None
    assert (account.id == user.account_id, account.closed_at) == (False, None)
    assert await waits(hoekstra, user) == [(changed.last_event_id, account.id, 1)]


async def test_of_who_is_refused_for_a_taken_name_nothing_stays(hoekstra: Customer) -> None:
    await hoekstra.create("ann", emails=[{"value": ANN}])
    other = "other@hoekstra.example"
    with pytest.raises(UniquenessConflict):
        await hoekstra.create("ANN", emails=[{"value": other}])
    assert len(await hoekstra.events()) == 1
    assert len(await hoekstra.everyone()) == 1
    again = await hoekstra.create(other)
    assert again.state == "pending"


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
async def test_who_joins_takes_three_statements_on_postgres_and_a_change_takes_two(
    hoekstra: Customer, statements: list[str]
) -> None:
    user = await hoekstra.create(ANN, externalId="1", emails=[{"value": ANN}])
    joined = len(statements)
    await hoekstra.change(user, title="Analyst")
    assert joined == 3
    assert len(statements) - joined == 2
