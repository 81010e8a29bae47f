"""Databases for the doors' tests, with two organizations declared."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.directory import organizations, tables
from service.directory.database import Database, open_database
from service.organizations import Connection, Organization
from tests.consumers.support import START


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'provisioner.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    await opened.transact(tables.metadata.create_all)
    for name in ("acme", "globex"):
        declared = Organization(name=name, connections=(Connection(name=f"{name}-users"),))
        await opened.transact(
            lambda tx, declared=declared: organizations.apply(tx, declared, START)
        )
    yield opened
    await opened.close()
