"""A Bulk in the middle of which the process is killed: whole operations stand, and it can be repeated."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.infrastructure.processes import RunningProcess, start
from tests.kill.conftest import ENVIRONMENT, dev
from tests.kill.test_dev import kept

OPERATIONS = [
    {
        "method": "POST",
        "path": "/Users",
        "bulkId": f"u{number}",
        "data": {"userName": f"user{number}@hoekstra.example"},
    }
    for number in range(1000)
]


@pytest.mark.kill
@pytest.mark.timeout(180)
def test_a_bulk_that_is_killed_leaves_whole_operations_and_can_be_repeated(
    tmp_path: Path, random: Random
) -> None:
    process = _started(tmp_path, "first")
    scim = process.ready_line(60)["organizations"]["hoekstra"]
    answers: list[httpx.Response] = []

    def send() -> None:
        with contextlib.suppress(httpx.TransportError):
            answers.append(_send(scim))

    sender = threading.Thread(target=send)
    sender.start()
    while _count(scim) == 0:
        time.sleep(0.01)
    time.sleep(random.uniform(0.0, 0.4))
    process.kill()
    sender.join()
    assert answers == []

    _, events = asyncio.run(kept(tmp_path))
    done = [event for event in events if event.type == "scim.user.created"]
    assert 0 < len(done) < len(OPERATIONS)

    process = _started(tmp_path, "second")
    try:
        scim = process.ready_line(60)["organizations"]["hoekstra"]
        repeated = _send(scim).json()["Operations"]
        found = Counter(entry["status"] for entry in repeated)
        assert found == {"409": len(done), "201": len(OPERATIONS) - len(done)}
        assert _count(scim) == len(OPERATIONS)
    finally:
        process.stop()


def _started(folder: Path, name: str) -> RunningProcess:
    return start(dev(folder, "--no-sample"), name=name, directory=folder, environment=ENVIRONMENT)


def _send(scim: dict[str, Any]) -> httpx.Response:
    body = {"Operations": OPERATIONS}
    return httpx.post(f"{scim['scim']}/Bulk", json=body, headers=_bearer(scim), timeout=60)


def _count(scim: dict[str, Any]) -> int:
    answer = httpx.get(f"{scim['scim']}/Users?count=1", headers=_bearer(scim), timeout=60)
    return answer.json()["totalResults"]


def _bearer(scim: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {scim['token']}"}
