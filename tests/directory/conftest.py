"""The same rules on both databases: every test here that asks for `database` runs on each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.directory import migrate
from service.directory.database import Database, open_database
from service.organizations import Connection, Organization
from tests.directory.customer import Customer, registered
from tests.infrastructure.postgres import create_database, drop_database
from tests.infrastructure.processes import run_apart

KINDS = ["sqlite", "postgres"]


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'provisioner.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a migrated database, to be copied."""

    async def migrated() -> str:
        url = await create_database(postgres_url)
        await migrate.upgrade(url)
        return url

    url = run_apart(migrated())
    yield url.rpartition("/")[2]
    run_apart(drop_database(postgres_url, url))


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """A Postgres server and the database to copy there; None for SQLite."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("postgres_url"), request.getfixturevalue("postgres_template")


@pytest.fixture
async def database(server: tuple[str, str] | None, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database of this test's own."""
    if server is None:
        url = f"sqlite:///{tmp_path / 'provisioner.db'}"
        await migrate.upgrade(url)
    else:
        url = await create_database(server[0], template=server[1])
    opened = open_database(url)
    yield opened
    await opened.close()
    if server is not None:
        await drop_database(server[0], url)


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
