"""The same rules on both databases: every test here that asks for `database` runs on each."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from service.directory import tables
from service.directory.database import Database, open_database

Kind = Literal["sqlite", "postgres"]


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind: Kind = request.param
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'provisioner.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url)
    await opened.transact(tables.metadata.create_all)
    yield opened
    await opened.close()
