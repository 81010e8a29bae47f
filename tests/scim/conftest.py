"""The SCIM door on SQLite and on Postgres; what needs no database's own SQL runs on SQLite alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.scim.client import Scim, opened, organization


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'directory.db'}"
    return request.getfixturevalue("postgres_migrated")


@pytest.fixture
async def scim(database_url: str) -> AsyncIterator[Scim]:
    """A tolerant organization, on either database."""
    async with opened(database_url, organization()) as clients:
        yield clients[0]


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Scim]:
    """An organization with the strict profile."""
    url = f"sqlite:///{tmp_path / 'directory.db'}"
    async with opened(url, organization("strict", scim_profile="strict")) as clients:
        yield clients[0]


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Scim]:
    """A tolerant organization on SQLite."""
    async with opened(f"sqlite:///{tmp_path / 'directory.db'}", organization()) as clients:
        yield clients[0]
