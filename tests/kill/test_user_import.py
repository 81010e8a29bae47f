"""``provisioner user import`` killed in the middle, and the installation too: nobody lost, nobody twice."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.infrastructure.processes import provisioner, start
from tests.kill.conftest import ENVIRONMENT, dev

PEOPLE = 400
BCRYPT = "$2b$10$" + "k" * 53


def _command(folder: Path) -> list[str]:
    return provisioner(
        *("user", "import", "hoekstra", folder / "people.jsonl"),
        *("--results", folder / "results.jsonl", "--data-dir", folder / "data"),
    )


@pytest.mark.kill
@pytest.mark.timeout(240)
def test_who_comes_with_a_password_comes_once_whatever_is_killed(
    tmp_path: Path, random: Random
) -> None:
    rows = [
        {"email": f"m{n}@hoekstra.example", "external_id": f"m{n}", "password_hash": BCRYPT}
        for n in range(PEOPLE)
    ]
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        process = start(
            dev(tmp_path, "--no-sample"), name="dev", directory=tmp_path, environment=ENVIRONMENT
        )
        process.ready_line(60)
        command = start(
            _command(tmp_path), name="import", directory=tmp_path, environment=ENVIRONMENT
        )
        time.sleep(random.uniform(0.8, 3.0))
        command.kill()
        process.kill()
    process = start(
        dev(tmp_path, "--no-sample"), name="dev", directory=tmp_path, environment=ENVIRONMENT
    )
    try:
        auth0 = process.ready_line(60)["auth0"]
        command = start(
            _command(tmp_path), name="import", directory=tmp_path, environment=ENVIRONMENT
        )
        assert command.wait(150) == 0, str(command)
        users = httpx.get(f"{auth0}/simulator/state", timeout=30).json()["users"]
        came = [user for user in users if user["email"].startswith("m")]
        assert Counter(user["email"] for user in came) == Counter(row["email"] for row in rows)
        assert all(user["keeps_imported_password"] for user in came)
    finally:
        process.stop()
    told = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert Counter(row["email"] for row in told) == Counter(row["email"] for row in rows)
    assert {row["status"] for row in told} == {"created"}
    for path in (tmp_path / "data").rglob("directory.db*"):
        assert BCRYPT[7:].encode() not in path.read_bytes()
