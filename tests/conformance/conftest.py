"""A production process that serves SCIM on either database, with one fresh organization."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from service.directory.database import open_database
from tests.conftest import StartProcess
from tests.infrastructure.processes import RunningProcess, provisioner
from tests.infrastructure.schema import migrated_sqlite
from tests.scim.client import PEPPER, organization, register
from tests.scim.declared import schemas

# What scim2-tester can fill: it writes text into decimals and times, adds to a list twice and expects
# one entry, and looks for immutable, writeOnly and request-only values like for any other.
_DECLARED: Final[dict[str, Any]] = {
    "id": "urn:example:scim:schemas:1.0:Staff",
    "name": "Staff",
    "resourceTypes": ["User", "Group"],
    "attributes": [
        {"name": "badgeNumber", "type": "integer"},
        {"name": "cleared", "type": "boolean"},
        {"name": "site", "canonicalValues": ["Amsterdam", "Utrecht"]},
        {"name": "code", "caseExact": True},
        {"name": "page", "type": "reference"},
        {
            "name": "desk",
            "type": "complex",
            "subAttributes": [{"name": "room"}, {"name": "floor", "type": "integer"}],
        },
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An organization's SCIM base URL and a token for it."""

    url: str
    token: str


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path / "directory.db")
    return request.getfixturevalue("postgres_migrated")


@pytest.fixture
async def served(database_url: str, start_process: StartProcess) -> Served:
    database = open_database(database_url)
    token = await register(database, organization(scim_schemas=schemas(_DECLARED)))
    await database.close()
    process = start_process(
        provisioner("serve", "--host", "127.0.0.1", "--port", "0", "--roles", "scim"),
        name="serve",
        environment=_environment(database_url),
    )
    return Served(url=f"{await _url_of(process)}/scim/v2/hoekstra", token=token)


def _environment(database_url: str) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PROVISIONER_DATABASE_URL": database_url,
        "PROVISIONER_TOKEN_PEPPER": PEPPER.decode(),
        "PROVISIONER_LOG_FORMAT": "json",
        "PROVISIONER_SCIM_RATE": "0",  # suites do not wait when told to
    }


async def _url_of(process: RunningProcess, within: float = 30) -> str:
    """Where it listens, once it does: its log says so."""
    async with asyncio.timeout(within):
        while True:
            assert process.exit_status is None, str(process)
            for line in process.stderr.read_text().splitlines():
                entry = json.loads(line)
                if entry["event"] == "process.ready":
                    return entry["url"]
            await asyncio.sleep(0.05)
