"""Requests as identity providers send them, their oddities kept, behave as they expect."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.recorded.samples import play
from tests.scim.client import Scim, opened, organization

_LINES: list[dict[str, Any]] = [
    json.loads(line)
    for line in Path(__file__).with_name("samples.jsonl").read_text().splitlines()
    if line.strip()
]


@pytest.fixture
async def scim(tmp_path: Path) -> AsyncIterator[Scim]:
    async with opened(f"sqlite:///{tmp_path / 'directory.db'}", organization()) as clients:
        yield clients[0]


@pytest.mark.parametrize("line", _LINES, ids=[f"{line['idp']}: {line['case']}" for line in _LINES])
async def test_recorded_request_behaves_as_its_provider_expects(
    scim: Scim, line: Mapping[str, Any]
) -> None:
    await play(scim, line)


async def test_recorded_requests_behave_on_postgres_too(postgres_migrated: str) -> None:
    async with opened(postgres_migrated, organization()) as clients:
        for line in _LINES:
            await play(clients[0], line)
