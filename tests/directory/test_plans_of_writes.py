"""No write looks at more rows than it is about, however many people an organization has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from service.directory import accounts, discards, fanouts, groups, locks, migrate, outbox, replays
from service.directory.accounts import Due
from service.directory.database import Transaction, open_database
from service.directory.events import Event
from service.directory.groups import MemberChange
from service.directory.replays import Reading
from service.errors import UniquenessConflict
from service.organizations import Connection, EventSource, Organization
from service.provisioning import settling
from service.provisioning.observed import Observed
from service.provisioning.residents import residents_of
from tests.directory.crowd import settle_in
from tests.directory.customer import Customer, days, registered

LARGE = (
    *("users", "user_emails", "groups", "members", "accounts", "events", "waits", "outcomes"),
    *("fanouts", "outcome_keys", "effects"),
)
WIDE = ("(organization=?)", "(tenant=?)", "(state=? AND organization=?)", "(state=?)")
"""What is left of an index's columns where all of an organization or a tenant is read."""


@pytest.fixture
def told() -> Iterator[dict[str, list[str]]]:
    """The steps in which SQLite carries out each statement."""
    steps: dict[str, list[str]] = {}

    def explain(
        _: object, cursor: sqlite3.Cursor, statement: str, values: Any, __: object, many: bool
    ) -> None:
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            given = values[0] if many else values
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)
            steps[statement] = [str(row[3]) for row in plan]

    event.listen(Engine, "before_cursor_execute", explain)
    yield steps
    event.remove(Engine, "before_cursor_execute", explain)


async def test_no_write_reads_a_whole_table_or_a_whole_organization(
    tmp_path: Path, told: dict[str, list[str]]
) -> None:
    url = f"sqlite:///{tmp_path / 'provisioner.db'}"
    await migrate.upgrade(url)
    database = open_database(url)
    users = Connection(name="hoekstra-users")
    everyone = Organization(name="hoekstra", connections=(users,), roles={"Billing": "billing"})
    try:
        customer = await registered(database, everyone)
        told.clear()
        await _live(customer)
    finally:
        await database.close()
    assert len(told) > 40
    assert not _wide(told)


async def test_nothing_that_lanes_and_publishers_ask_reads_a_whole_table_or_tenant(
    tmp_path: Path, told: dict[str, list[str]]
) -> None:
    url = f"sqlite:///{tmp_path / 'provisioner.db'}"
    await migrate.upgrade(url)
    database = open_database(url)
    users = Connection(name="hoekstra-users")
    everyone = Organization(name="hoekstra", connections=(users,), roles={"Billing": "billing"})
    try:
        customer = await registered(database, everyone)
        many = await database.transact(
            lambda tx: settle_in(tx, customer.name, fanouts.AT_ONCE + 10, customer.now)
        )
        told.clear()
        await _work(customer, many)
    finally:
        await database.close()
    assert len(told) > 40
    assert not _wide(told)


def _wide(told: dict[str, list[str]]) -> dict[str, str]:
    return {
        step: statement
        for statement, steps in told.items()
        for step in steps
        for table in LARGE
        if step == f"SCAN {table}"
        or step.startswith(f"SCAN {table} ")
        or (step.startswith(f"SEARCH {table} ") and step.endswith(WIDE))
    }


async def _work(customer: Customer, many: list[str]) -> None:
    """A change of many carried out, ended, published, replayed and discarded."""
    database, who = customer.database, customer.registered
    billing = {"displayName": "Billing"}

    def enrolled(tx: Transaction) -> None:
        groups.create(tx, who, billing, many, customer.scim("created"))

    async def carry_on() -> int:
        def portion(tx: Transaction) -> int:
            turn = fanouts.next_event(tx, "")
            return fanouts.carry_on(tx, turn, customer.now, portion=100) if turn else 0

        return await database.transact(portion)

    await database.transact(enrolled)
    event = (await customer.events())[-1]
    while await carry_on():
        assert await database.read(lambda tx: fanouts.left(tx, event.id)) < len(many)
    ada = await customer.create("ada@hoekstra.example")
    account_id = (await customer.user(ada)).account_id
    assert account_id is not None
    await database.read(lambda tx: accounts.leavers_among(tx, [account_id]))
    await database.transact(
        lambda tx: [_settle(tx, each.id, customer) for each in _due(tx, customer, account_id)]
    )
    assert [each.state for each in await customer.events()] == ["succeeded"] * 2
    joined = (await customer.events())[-1].id
    await database.transact(
        lambda tx: replays.replay(
            tx, joined, read=_unread, actor="op", now=customer.now, force=True
        )
    )
    replay = (await customer.events())[-1].id
    await database.transact(
        lambda tx: discards.discard(tx, replay, reason="r", actor="op", now=customer.now)
    )
    await customer.hr("hired", "7", at=days(1), email="cy@hoekstra.example")
    customer.now = days(2)
    assert await customer.run_due() == 1
    unpublished = await database.read(lambda tx: outbox.unpublished(tx, [0, 1, 2], 100))
    await database.transact(
        lambda tx: outbox.mark_published(tx, [each.number for each in unpublished], customer.now)
    )


def _due(tx: Transaction, customer: Customer, busy: str) -> list[Due]:
    found = accounts.due(tx, "main", now=customer.now, limit=1000, busy=[busy])
    return found + accounts.due(tx, "main", now=customer.now, limit=1000, busy=())


def _settle(tx: Transaction, account_id: str, customer: Customer) -> None:
    account = accounts.lock(tx, account_id)
    assert account is not None
    settling.settle(tx, account, Observed(), residents_of(tx, account), customer.now)


def _unread(event: Event, sources: Sequence[EventSource], declared: object) -> Reading:
    raise AssertionError("SCIM events are not read anew")


async def _live(customer: Customer) -> None:
    """Joiners, movers, leavers and groups, through both doors."""
    emails = [{"value": "ada@hoekstra.example", "primary": True}]
    ada = await customer.create("ada@hoekstra.example", externalId="1", emails=emails)
    bob = await customer.create("bob@hoekstra.example")
    with pytest.raises(UniquenessConflict):
        await customer.create("bob@hoekstra.example")
    await customer.change(ada, displayName="Ada", emails=[{"value": "a@hoekstra.example"}])
    await customer.change(bob, userName="robert@hoekstra.example", externalId="2")
    await customer.hr("hired", "3", email="cy@hoekstra.example")
    await customer.create("cy@hoekstra.example", externalId="3")
    await customer.hr("terminated", "3")
    await customer.hr("changed", "1", title="Analyst")
    await customer.delete(ada)
    await customer.create("ada@hoekstra.example", externalId="1")
    await customer.database.transact(
        lambda tx: locks.block(tx, bob.id, actor="op", reason="", now=customer.now)
    )
    await customer.database.transact(lambda tx: _change_groups(tx, customer, bob.id))


def _change_groups(transaction: Transaction, customer: Customer, user_id: str) -> None:
    who = customer.registered
    billing = {"displayName": "Billing"}
    group = groups.create(transaction, who, billing, [], customer.scim("created"))
    for change in (
        MemberChange(add=frozenset([user_id])),
        MemberChange(remove=frozenset([user_id])),
        MemberChange(replace=True, add=frozenset([user_id])),
    ):
        held = groups.lock(transaction, customer.name, group.id)
        groups.change(transaction, who, held, billing, change, customer.scim("patched"))
    groups.remove(transaction, who, group.id, customer.scim("deleted"))
