"""Requests as Prometheus sees them: by door, method and status class, and by nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from operators import composition
from operators.installation import settings_of
from service.clock import SystemClock
from service.directory.database import open_database
from tests.infrastructure.schema import migrated_where_new


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/scim/v2/acme/Users", 'door="scim",method="GET",status="4xx"'),
        ("POST", "/events/acme", 'door="events",method="POST",status="4xx"'),
        ("GET", "/console/", 'door="console",method="GET",status="2xx"'),
        ("GET", "/healthz", 'door="other",method="GET",status="2xx"'),
        ("BREW", "/ada@hoekstra.example", 'door="other",method="other",status="4xx"'),
    ],
)
async def test_every_request_is_timed_under_a_few_words(
    tmp_path: Path, method: str, path: str, labels: str
) -> None:
    settings = settings_of(tmp_path, create=True)
    database = open_database(migrated_where_new(settings.database_url.get_secret_value()))
    parts = composition.assemble(
        settings,
        roles=composition.ROLES,
        database=database,
        clock=SystemClock(),
        open_console=True,
    )
    transport = httpx.ASGITransport(parts.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        await http.request(method, path)
        page = (await http.get("/metrics")).text
    await database.close()
    assert f"provisioner_http_request_seconds_count{{{labels}}} 1.0" in page
    assert "hoekstra" not in page
