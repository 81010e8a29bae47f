"""Rules of imports, exports and verification mails."""

import csv
import gzip
import io
import json
from typing import Any

import httpx
import pytest

from service.auth0.simulator.lag import Lag
from tests.simulator.conftest import OpenTenant
from tests.simulator.driver import Auth0, Clock

ANN = "ann@hoekstra.example"


@pytest.fixture
async def auth0(open_tenant: OpenTenant) -> Auth0:
    return await open_tenant(lag=Lag(jobs=(5.0, 5.0), search=(0.0, 0.0)))


async def imported(auth0: Auth0, rows: object, **form: str) -> httpx.Response:
    return await auth0.http.post(
        "/api/v2/jobs/users-imports",
        data={"connection_id": await auth0.connection(), **form},
        files={"users": ("users.json", json.dumps(rows).encode(), "application/json")},
        headers={"authorization": f"Bearer {auth0.token}"},
    )


async def job(auth0: Auth0, answer: httpx.Response) -> dict[str, Any]:
    return await auth0.get(f"/jobs/{answer.json()['id']}")


async def test_import_runs_when_its_time_has_come(auth0: Auth0, clock: Clock) -> None:
    answer = await imported(auth0, [{"email": "Ann@Hoekstra.example", "user_id": "k"}])
    assert answer.status_code == 202
    assert (await job(auth0, answer))["status"] == "pending"
    assert (await auth0.state())["users"] == []
    clock.advance(5)
    done = await job(auth0, answer)
    assert done["status"] == "completed"
    assert done["summary"] == {"failed": 0, "updated": 0, "inserted": 1, "total": 1}
    profile = await auth0.user("auth0|k")
    assert (profile["email"], profile["email_verified"]) == (ANN, False)
    errors = await auth0.send("GET", f"/jobs/{answer.json()['id']}/errors")
    assert errors.status_code == 204


async def test_job_with_bad_rows_still_ends_as_completed(auth0: Auth0, clock: Clock) -> None:
    await auth0.create_user(ANN)
    rows = [{"email": ANN}, {"email": "nonsense"}, {"email": "b@x.example", "shoe": 43}, 7]
    answer = await imported(auth0, rows)
    clock.advance(5)
    done = await job(auth0, answer)
    assert (done["status"], done["summary"]["failed"]) == ("completed", 4)
    errors = await auth0.get(f"/jobs/{answer.json()['id']}/errors")
    assert errors[0] == {
        "user": {"email": ANN},
        "errors": [
            {
                "code": "DUPLICATED_USER",
                "message": "The user already exist and upsert parameter is false",
            }
        ],
    }


async def test_import_adds_the_prefix_to_an_id_that_has_it(auth0: Auth0, clock: Clock) -> None:
    await imported(auth0, [{"email": ANN, "user_id": "auth0|k"}])
    clock.advance(5)
    assert [row["user_id"] for row in (await auth0.state())["users"]] == ["auth0|auth0|k"]


async def test_upsert_replaces_metadata_and_cannot_block(auth0: Auth0, clock: Clock) -> None:
    user = await auth0.create_user(ANN, app_metadata={"a": 1, "b": 2}, email_verified=True)
    row = {"email": ANN, "app_metadata": {"c": 3}, "name": "Ann", "blocked": True}
    await imported(auth0, [row], upsert="true")
    clock.advance(5)
    profile = await auth0.user(user["user_id"])
    assert (profile["app_metadata"], profile["name"]) == ({"c": 3}, "Ann")
    assert not profile.get("blocked")
    assert profile["email_verified"] is False


async def test_two_imports_at_a_time(auth0: Auth0, clock: Clock) -> None:
    statuses = [(await imported(auth0, [])).status_code for _ in range(3)]
    assert statuses == [202, 202, 429]
    clock.advance(5)
    assert (await imported(auth0, [])).status_code == 202


async def test_import_file_is_limited_to_500_kilobytes(auth0: Auth0) -> None:
    answer = await imported(auth0, [{"email": ANN, "name": "x" * 512_000}])
    assert answer.status_code == 413
    assert answer.json()["message"].endswith("512000")


@pytest.mark.parametrize("rows", [{}, "x"])
async def test_import_needs_an_array(auth0: Auth0, rows: object) -> None:
    assert (await imported(auth0, rows)).status_code == 400


async def test_import_needs_a_database_and_multipart(auth0: Auth0) -> None:
    assert (await imported(auth0, [], connection_id="con_none")).status_code == 400
    enterprise = await auth0.connection("metahexa-ad")
    assert (await imported(auth0, [], connection_id=enterprise)).status_code == 400
    assert (await auth0.refused("POST", "/jobs/users-imports", {"users": []}))["statusCode"] == 400


async def test_export_is_a_link_for_a_minute(auth0: Auth0, clock: Clock) -> None:
    for name in ("ann", "bob"):
        await auth0.create_user(f"{name}@hoekstra.example")
    started = await auth0.post("/jobs/users-exports", {"format": "json"})
    clock.advance(5)
    location = (await auth0.get(f"/jobs/{started['id']}"))["location"]
    file = await auth0.http.get(location)
    lines = gzip.decompress(file.content).decode().splitlines()
    assert {json.loads(line)["email"][:3] for line in lines} == {"ann", "bob"}
    clock.advance(60)
    assert (await auth0.http.get(location)).status_code == 404
    assert (await auth0.get(f"/jobs/{started['id']}"))["location"] != location


async def test_export_as_csv_projects_fields(auth0: Auth0, clock: Clock) -> None:
    await auth0.create_user(ANN, app_metadata={"key": "k1"})
    fields = [{"name": "email"}, {"name": "app_metadata.key", "export_as": "key"}]
    started = await auth0.post("/jobs/users-exports", {"format": "csv", "fields": fields})
    clock.advance(5)
    location = (await auth0.get(f"/jobs/{started['id']}"))["location"]
    content = gzip.decompress((await auth0.http.get(location)).content).decode()
    assert list(csv.DictReader(io.StringIO(content))) == [{"email": ANN, "key": "k1"}]


async def test_verification_mail_can_be_repeated(auth0: Auth0) -> None:
    user = await auth0.create_user(ANN)
    for _ in range(2):
        done = await auth0.post("/jobs/verification-email", {"user_id": user["user_id"]})
        assert (done["type"], done["status"]) == ("verification_email", "completed")
    assert len((await auth0.state())["mails"]) == 2


async def test_unknown_job_is_a_404(auth0: Auth0) -> None:
    assert (await auth0.refused("GET", "/jobs/job_none"))["statusCode"] == 404


async def test_a_job_fails_after_two_hours_and_is_gone_after_a_day(
    auth0: Auth0, clock: Clock
) -> None:
    rule = {"match": {"method": "POST", "path": "/jobs/users-imports"}, "kind": "job-hangs"}
    await auth0.http.post("/simulator/faults", json=rule)
    answer = await imported(auth0, [{"email": ANN}])
    clock.advance(7_199)
    assert (await job(auth0, answer))["status"] == "pending"
    clock.advance(2)
    assert (await job(auth0, answer))["status"] == "failed"
    clock.advance(86_400)
    await auth0.sign_in()
    assert (await auth0.refused("GET", f"/jobs/{answer.json()['id']}"))["statusCode"] == 404


async def test_a_job_that_is_ordered_to_fail_has_done_half(auth0: Auth0, clock: Clock) -> None:
    rule = {"match": {"method": "POST", "path": "/jobs/users-imports"}, "kind": "job-fails"}
    await auth0.http.post("/simulator/faults", json=rule)
    answer = await imported(auth0, [{"email": f"p{n}@hoekstra.example"} for n in range(4)])
    clock.advance(5)
    assert (await job(auth0, answer))["status"] == "failed"
    assert len((await auth0.state())["users"]) == 2


async def test_a_row_has_one_password_hash_that_can_be_read(auth0: Auth0, clock: Clock) -> None:
    bcrypt = "$2b$10$" + "a" * 53
    sha = {"algorithm": "sha256", "hash": {"value": "00"}}
    rows = [
        {"email": "a@x.example", "password_hash": bcrypt},
        {"email": "b@x.example", "custom_password_hash": sha},
        {"email": "c@x.example", "password_hash": "hunter2"},
        {"email": "d@x.example", "custom_password_hash": {"algorithm": "rot13"}},
        {"email": "e@x.example", "password_hash": bcrypt, "custom_password_hash": sha},
    ]
    answer = await imported(auth0, rows)
    clock.advance(5)
    assert (await job(auth0, answer))["summary"]["inserted"] == 2
