"""No write looks at more rows than it is about, however many people an organization has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from service.directory import groups, locks, migrate
from service.directory.database import Transaction, open_database
from service.directory.groups import MemberChange
from service.errors import UniquenessConflict
from service.organizations import Connection, Organization
from tests.directory.customer import Customer, registered

LARGE = ("users", "user_emails", "groups", "members", "accounts", "events", "waits", "outcomes")


@pytest.fixture
def told() -> Iterator[dict[str, list[str]]]:
    """The steps in which SQLite carries out each statement."""
    steps: dict[str, list[str]] = {}

    def explain(
        _: object, cursor: sqlite3.Cursor, statement: str, values: Any, __: object, many: bool
    ) -> None:
        if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")):
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
    wide = {
        step: statement
        for statement, steps in told.items()
        for step in steps
        for table in LARGE
        if step == f"SCAN {table}"
        or step.startswith(f"SCAN {table} ")
        or (step.startswith(f"SEARCH {table} ") and "(organization=?)" in step)
    }
    assert not wide


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
