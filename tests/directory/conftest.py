"""The same rules on both databases: every test here that asks for `database` runs on each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.directory.database import Database, open_database
from service.organizations import Connection, Organization
from tests.directory.customer import Customer, registered
from tests.infrastructure.schema import migrated_sqlite

KINDS = ["sqlite", "postgres"]


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'provisioner.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture(params=KINDS)
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "provisioner.db")
    return request.getfixturevalue("postgres_migrated")


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[Database]:
    """A migrated database of this test's own."""
    opened = open_database(migrated_url)
    yield opened
    await opened.close()


@pytest.fixture
async def hoekstra(database: Database) -> Customer:
    """A customer of the isolated model."""
    return await registered(
        database,
        Organization(name="hoekstra", connections=(Connection(name="hoekstra-users"),)),
    )


@pytest.fixture
async def clinics(database: Database) -> tuple[Customer, Customer]:
    """Two customers whose people share one connection."""
    pool = (Connection(name="pool"),)
    both = [
        Organization(name=name, model="shared", connections=pool)
        for name in ("clinic-a", "clinic-b")
    ]
    return await registered(database, both[0]), await registered(database, both[1])
