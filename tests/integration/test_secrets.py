"""Marked passwords, tokens and personal data through every door: where they end up, and where not.

A password goes nowhere. Names and addresses are kept as desired state, and neither logged nor told in
outcomes, unless an organization asks for it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import StartProcess
from tests.infrastructure.processes import RunningProcess, provisioner
from tests.operators.house import run

PASSWORD = "Zx9-marked-password"
PERSON = "markedperson"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
DOMAINS = {"hoekstra": "hoekstra.example", "clinic-a": "clinics.example"}


@pytest.fixture
def dev(start_process: StartProcess, tmp_path: Path) -> RunningProcess:
    arguments = ("dev", "--port", "0", "--simulator-port", "0", "--no-sample", "--data-dir")
    return start_process(
        provisioner(*arguments, tmp_path / "data"),
        name="dev",
        environment={"PROVISIONER_LOG_LEVEL": "debug"},
    )


def test_passwords_go_nowhere_and_people_are_neither_logged_nor_told(
    dev: RunningProcess, tmp_path: Path
) -> None:
    ready = dev.ready_line()
    with httpx.Client(timeout=30) as http:
        for name, domain in DOMAINS.items():
            doors = ready["organizations"][name]
            speak_scim(http, doors["scim"], doors["token"], domain)
            speak_hr(http, doors["events"], doors["events_token"], domain)
        wait_until_settled(http, ready["url"])
        told = http.get(f"{ready['url']}/metrics").text
    outcomes = run("outcomes", "--json", "--data-dir", str(tmp_path / "data"))
    assert dev.stop() == 0
    logged = dev.stderr.read_text()
    kinds = {row["type"].split(".")[2:4][1] for row in outcomes.rows}
    assert {"created", "blocked", "deadlettered", "rejected", "duplicate"} <= kinds
    for place, text in (("log", logged), ("outcomes", outcomes.out), ("metrics", told)):
        assert PERSON not in text.lower(), place
    tokens = {
        doors[kind]
        for doors in ready["organizations"].values()
        for kind in ("token", "events_token")
    }
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in kept)
    for path in kept:
        content = path.read_bytes()
        assert PASSWORD.encode() not in content, path
        if path.name.startswith("directory.db"):
            assert not [token for token in tokens if token.encode() in content], path
    for text in (logged, outcomes.out, told):
        assert PASSWORD not in text
        assert not [token for token in tokens if token in text]


def speak_scim(http: httpx.Client, base: str, token: str, domain: str) -> None:
    http.headers["Authorization"] = f"Bearer {token}"

    def send(method: str, path: str, body: Any = None, **query: str) -> httpx.Response:
        answer = http.request(method, f"{base}/{path}", json=body, params=query)
        assert answer.status_code != 500, answer.text
        return answer

    def patch(path: str, *operations: dict[str, Any]) -> httpx.Response:
        return send("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})

    ids: list[str] = []
    for number in range(4):
        person = {
            "schemas": [USER],
            "userName": f"{PERSON}{number}@{domain}",
            "externalId": f"x{number}",
            "name": {"givenName": PERSON.title(), "familyName": PERSON.upper()},
            "emails": [{"value": f"{PERSON}{number}@{domain}", "primary": True}],
            "password": PASSWORD,
            "PassWord": PASSWORD,
            ENTERPRISE: {"password": PASSWORD, "department": PERSON},
        }
        answer = send("POST", "Users", person)
        assert answer.status_code == 201, answer.text
        ids.append(answer.json()["id"])
    first, second, third, fourth = (f"Users/{user_id}" for user_id in ids)
    send("POST", "Users", {"userName": f"{PERSON}0@{domain}", "password": PASSWORD})
    send("POST", "Users", {"userName": "other", "emails": [{"value": f"{PERSON}1@{domain}"}]})
    http.post(f"{base}/Users", content=f'{{"password": "{PASSWORD}", "userName": "{PERSON}')
    for way in (
        {"op": "replace", "path": "password", "value": PASSWORD},
        {"op": "Add", "path": f"{USER}:password", "value": PASSWORD},
        {"op": "replace", "value": {"password": PASSWORD, "name.familyName": PERSON}},
        {"op": "replace", "value": {USER: {"Password": PASSWORD}}},
        {"op": "replace", "value": {f"{USER}:PASSWORD": PASSWORD}},
        {"op": "replace", "path": f'password[value eq "{PASSWORD}"]', "value": PERSON},
        {"op": "replace", "path": f'nosuch[password eq "{PASSWORD}"].x', "value": PASSWORD},
        {"op": "replace", "path": ENTERPRISE, "value": {"password": PASSWORD}},
        {"op": "wrong", "path": "password", "value": PASSWORD},
        {"op": "remove", "path": "password", "value": [{"value": PASSWORD}]},
        {"op": "replace", "path": "active", "value": {"password": PASSWORD}},
    ):
        patch(first, way)
    send("PUT", second, {"userName": f"{PERSON}9@{domain}", USER: {"password": PASSWORD}})
    patch(third, {"op": "replace", "path": "active", "value": False})
    send("DELETE", fourth)
    send("GET", "Users", filter=f'password eq "{PASSWORD}"')
    send("GET", "Users", filter=f'userName eq "{PERSON}0@{domain}" and password pr')
    send("POST", ".search", {"filter": f'password co "{PASSWORD}"', "password": PASSWORD})
    hidden = {"userName": f"{PERSON}7@{domain}", "password": PASSWORD}
    bulk = [{"method": "POST", "path": "/Users", "bulkId": f"{PERSON}@{domain}", "data": hidden}]
    for prefer in ("", "respond-async"):  # the second one finds the name in use
        http.headers["Prefer"] = prefer
        send("POST", "Bulk", {"Operations": [*bulk, {"method": "POST", "data": hidden}]})
    del http.headers["Prefer"]
    send("POST", "Groups", {"displayName": PERSON, "password": PASSWORD, "members": ids[:2]})
    send("POST", "Groups", {"displayName": PERSON + "2", "members": [PERSON]})


def speak_hr(http: httpx.Client, url: str, token: str, domain: str) -> None:
    http.headers["Authorization"] = f"Bearer {token}"
    kind = {"Content-Type": "application/cloudevents+json"}

    def send(event_id: str, event_type: str, data: Any) -> None:
        body = {"specversion": "1.0", "id": event_id, "source": "/hr", "type": event_type}
        answer = http.post(url, json=body | {"data": data}, headers=kind)
        assert answer.status_code != 500, answer.text

    hired = {"email": f"{PERSON}8@{domain}", "given_name": PERSON, "nickname": PERSON}
    send("h1", "worker.hired", {"worker_id": "w1", "attributes": hired})
    send("h1", "worker.hired", {"worker_id": "w1", "attributes": hired})
    send("h1", "worker.hired", {"worker_id": "w1", "attributes": {"title": PERSON}})
    send("h2", "worker.terminated", {"worker_id": "w1"})
    send("h3", "worker.hired", {"worker_id": "w2", "attributes": {"email": f"{PERSON}0@{domain}"}})
    send("h4", "worker.hired", {"worker_id": {"name": PERSON}, "attributes": PERSON})
    send("h5", "worker.hired", {"worker_id": "w3", "organization": PERSON})


def wait_until_settled(http: httpx.Client, url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if "provisioner_events_open 0.0" in http.get(f"{url}/metrics").text:
            return
        time.sleep(0.2)
    raise AssertionError(http.get(f"{url}/metrics").text)
