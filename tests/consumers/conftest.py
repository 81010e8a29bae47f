"""Databases for the doors' tests, with two organizations declared."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.directory import organizations
from service.directory.database import Database, open_database
from service.organizations import Connection, Organization
from tests.consumers.support import START
from tests.infrastructure.schema import migrated_sqlite


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "provisioner.db")
    return request.getfixturevalue("postgres_migrated")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    for name in ("acme", "globex"):
        declared = Organization(name=name, connections=(Connection(name=f"{name}-users"),))
        await opened.transact(
            lambda tx, declared=declared: organizations.apply(tx, declared, START)
        )
    yield opened
    await opened.close()
