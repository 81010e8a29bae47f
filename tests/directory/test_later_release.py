"""While a release is rolled out, or back, processes read what one of a later release declared."""

from datetime import UTC, datetime

from sqlalchemy import update

from service.directory import organizations
from service.directory import tables as t
from service.directory.database import Database, Transaction
from service.organizations import Connection, EventSource, Organization, Tenant

ACME = Organization(name="acme", connections=(Connection(name="acme-users"),))
MAIN = Tenant(name="main", domain="acme.eu.auth0.example")
HR = EventSource(name="hr", organizations=("acme",), topic="hr")


async def test_keys_of_a_later_release_are_passed_over(database: Database) -> None:
    later = {"of_a_later_release": {"hue": 3}}
    connection = {**ACME.model_dump(mode="json")["connections"][0], **later}
    documents = (
        (t.organizations, {**ACME.model_dump(mode="json"), **later, "connections": [connection]}),
        (t.tenants, {**MAIN.model_dump(mode="json"), **later}),
        (t.sources, {**HR.model_dump(mode="json"), **later}),
    )

    def declare(tx: Transaction) -> None:
        organizations.apply_tenant(tx, MAIN)
        organizations.apply(tx, ACME, datetime(2026, 3, 2, tzinfo=UTC))
        organizations.apply_source(tx, HR)
        for table, document in documents:
            name = document["name"]
            tx.execute(update(table).where(table.c.name == name).values(document=document))

    await database.transact(declare)

    found = await database.read(lambda tx: organizations.find(tx, "acme"))
    assert found is not None
    assert found.organization == ACME
    assert await database.read(organizations.tenants) == [MAIN]
    assert await database.read(organizations.sources) == [HR]
