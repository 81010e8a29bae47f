"""SIGTERM in the middle of work that hangs: status 0 within 15 s, and nothing is done by halves."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from operators.sample.organizations import CLIENT_SECRET, sample_installation
from tests.infrastructure.processes import RunningProcess, free_ports, provisioner, start
from tests.kill.conftest import ENVIRONMENT, dev

ADA = "ada@hoekstra.example"
WITHIN = 15.0


@pytest.mark.kill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_dev_ends_in_time_though_auth0_hangs(tmp_path: Path, times: int) -> None:
    process = start(
        dev(tmp_path, "--no-sample"), name="dev", directory=tmp_path, environment=ENVIRONMENT
    )
    ready = process.ready_line(60)
    here = ready["organizations"]["hoekstra"]
    _hang(ready["auth0"])
    _join(here["scim"], here["token"])
    _stop_in_time(process, times)
    again = start(
        dev(tmp_path, "--no-sample"), name="again", directory=tmp_path, environment=ENVIRONMENT
    )
    ready = again.ready_line(60)
    _mend(ready["auth0"])
    here = ready["organizations"]["hoekstra"]
    _wait_for(lambda: _provisioned(here["scim"], here["token"]))
    assert len(_users(ready["auth0"])) == 1
    assert again.stop() == 0, str(again)


@pytest.mark.kill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_serve_ends_in_time_though_auth0_hangs(tmp_path: Path, times: int) -> None:
    simulator = start(
        provisioner("simulator", "--port", "0", "--data-dir", tmp_path / "simulator"),
        name="simulator",
        directory=tmp_path,
        environment=ENVIRONMENT,
    )
    auth0 = simulator.ready_line(60)["url"]
    port = free_ports(1)[0]
    environment = ENVIRONMENT | {
        "PROVISIONER_DATABASE_URL": f"sqlite:///{tmp_path}/directory.db",
        "PROVISIONER_TOKEN_PEPPER": "pepper-of-the-stop-test",
        "PROVISIONER_AUTH0_CLIENT_SECRET": CLIENT_SECRET,
        "PROVISIONER_MAIL_FOLDER": str(tmp_path / "mail"),
        "PROVISIONER_INSTANCE": "stop-test-0",
    }
    file = tmp_path / "installation.yaml"
    file.write_text(sample_installation(auth0).model_dump_json())  # JSON is YAML

    def command(*arguments: str | Path) -> str:
        done = start(
            provisioner(*arguments), name="command", directory=tmp_path, environment=environment
        )
        assert done.wait(60) == 0, str(done)
        return done.stdout.read_text().strip()

    def serve(name: str) -> RunningProcess:
        served = start(
            provisioner("serve", "--host", "127.0.0.1", "--port", str(port)),
            name=name,
            directory=tmp_path,
            environment=environment,
        )
        _wait_for(lambda: _answers(f"http://127.0.0.1:{port}/readyz"))
        return served

    command("db", "upgrade")
    command("org", "apply", file)
    token = command("org", "token", "create", "hoekstra", "--door", "scim").split()[-1]
    scim = f"http://127.0.0.1:{port}/scim/v2/hoekstra"
    process = serve("serve")
    _hang(auth0)
    _join(scim, token)
    _stop_in_time(process, times)
    _mend(auth0)
    again = serve("again")
    _wait_for(lambda: _provisioned(scim, token))
    assert len(_users(auth0)) == 1
    assert again.stop() == 0, str(again)
    simulator.stop()


@pytest.mark.kill
@pytest.mark.timeout(120)
@pytest.mark.parametrize("after", [0.0, 0.3, 0.6, 0.9, 1.2])
@pytest.mark.parametrize("command", ["dev", "simulator"])
def test_a_process_asked_to_end_while_it_starts_ends_well(
    tmp_path: Path, command: str, after: float
) -> None:
    arguments = {
        "dev": dev(tmp_path, "--no-sample"),
        "simulator": provisioner("simulator", "--port", "0"),
    }[command]
    process = start(arguments, name=command, directory=tmp_path, environment=ENVIRONMENT)
    _wait_for(lambda: _heeds_sigterm(process))
    time.sleep(after)
    assert process.stop() == 0, str(process)
    assert "Traceback" not in process.stderr.read_text()


def _heeds_sigterm(process: RunningProcess) -> bool:
    """Whether it has a handler by now: Python itself needs a moment before any line of ours runs."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def _hang(auth0: str) -> None:
    fault = {"match": {"method": "POST", "path": "/users"}, "kind": "hang", "seconds": 120}
    httpx.post(f"{auth0}/simulator/faults", json=fault).raise_for_status()


def _mend(auth0: str) -> None:
    httpx.delete(f"{auth0}/simulator/faults").raise_for_status()


def _join(scim: str, token: str) -> None:
    body = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": ADA,
        "emails": [{"value": ADA, "primary": True}],
    }
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json"}
    assert httpx.post(f"{scim}/Users", json=body, headers=headers).status_code == 201
    time.sleep(1.0)  # until the lane is in the middle of its call


def _stop_in_time(process: RunningProcess, times: int) -> None:
    began = time.monotonic()
    for _ in range(times):
        process.popen.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert process.wait(30) == 0, str(process)
    assert time.monotonic() - began < WITHIN


def _provisioned(scim: str, token: str) -> bool:
    answer = httpx.get(f"{scim}/Users", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    listed = answer.json()
    (user,) = listed["Resources"]
    status = user["urn:auth0-provisioner:scim:1.0:Provisioning"]
    return status["state"] == "applied"


def _users(auth0: str) -> list[dict[str, Any]]:
    return httpx.get(f"{auth0}/simulator/state").json()["users"]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _wait_for(holds: Callable[[], bool], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
