"""The command as a process: streams, exit statuses, signals; and ``doctor`` against a stand-in."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from operators.installation import settings_of
from service.directory import organizations
from service.organizations import Connection, Organization, Policies, Tenant
from service.version import VERSION
from tests.conftest import StartProcess
from tests.infrastructure.processes import provisioner, start
from tests.operators.house import House, acme, run


def call(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        provisioner(*arguments), input=stdin, capture_output=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a stand-in for Auth0 answers, with the sample tenants, which no test changes."""
    process = start(
        provisioner("simulator", "--port", "0"),
        name="simulator",
        directory=tmp_path_factory.mktemp("simulator"),
    )
    try:
        yield process.ready_line()["auth0"]
    finally:
        process.stop()


@pytest.fixture
def own_simulator(start_process: StartProcess) -> str:
    """One for a test that changes it."""
    process = start_process(provisioner("simulator", "--port", "0"), name="simulator")
    return process.ready_line()["auth0"]


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, operators.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [provisioner()[0], "-c", code], capture_output=True, check=True, text=True
    ).stdout.split()

    heavy = {"sqlalchemy", "pydantic", "starlette", "aiokafka", "auth0", "httpx", "alembic"}
    assert heavy.isdisjoint(loaded)


def test_python_m_operators_is_the_command() -> None:
    ended = call("--help")

    assert ended.returncode == 0
    assert b"simulator" in ended.stdout
    assert ended.stderr == b""


def test_version_is_told() -> None:
    ended = run("--version")

    assert (ended.status, ended.out) == (0, f"provisioner {VERSION}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--roles", "everything"],
        ["serve", "--roles", ","],
        ["simulator", "--plan", "gold"],
        ["dev", "--no-sample", "--exit-after-sample"],
        ["events", "map"],
    ],
)
def test_wrong_usage_is_status_2_and_one_message(arguments: list[str]) -> None:
    ended = run(*arguments)

    assert ended.status == 2
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_broken_pipe_is_quiet(house: House) -> None:
    for number in range(30):
        house.create(f"u{number}@acme.example")
    reader = subprocess.Popen(
        provisioner("events", "list", "--json", "--data-dir", house.data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert reader.stdout is not None
    assert reader.stderr is not None
    reader.stdout.close()
    complaints = reader.stderr.read()
    reader.stderr.close()
    reader.wait(30)

    assert complaints == b""


def test_interrupted_follower_ends_quietly(house: House, start_process: StartProcess) -> None:
    house.create("no-address")
    follower = start_process(
        provisioner("outcomes", "--follow", "--json", "--data-dir", house.data_dir),
        name="follower",
    )
    _wait_for_lines(follower.stdout, 1)
    house.create("nor-here")
    _wait_for_lines(follower.stdout, 2)

    assert follower.stop(signal.SIGINT) == 130
    assert follower.stderr.read_text() == ""


def test_sigterm_while_a_process_starts_is_heeded_wherever_it_comes(
    start_process: StartProcess,
) -> None:
    """Also where Python ignores what is raised, as it does in the many finalizers of an import."""
    code = """
import os, signal, time
from operators.commands.running import end_when_asked

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

end_when_asked()
Finalized()
time.sleep(60)
"""
    process = start_process([provisioner()[0], "-c", code], name="starting")

    assert process.wait(20) == 0
    assert process.stderr.read_text() == ""


def test_simulator_says_when_it_is_ready_and_ends_on_sigterm(start_process: StartProcess) -> None:
    process = start_process(provisioner("simulator", "--port", "0"), name="simulator")

    ready = process.ready_line()

    assert ready["auth0"] == ready["url"]
    assert httpx.get(f"{ready['auth0']}/simulator/state").json()["connections"]
    assert process.stop() == 0


def test_db_upgrade_makes_a_schema_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISIONER_DATABASE_URL", f"sqlite:///{tmp_path / 'new.db'}")
    assert run("org", "list").status == 2

    first, second = run("db", "upgrade"), run("db", "upgrade")

    assert (first.status, second.status) == (0, 0)
    assert "already" in second.err
    assert run("org", "list", "--json").out == ""


def test_database_without_schema_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.db").touch()
    monkeypatch.setenv("PROVISIONER_DATABASE_URL", f"sqlite:///{tmp_path / 'empty.db'}")

    ended = run("events", "list")

    assert ended.status == 1
    assert "provisioner db upgrade" in ended.err
    assert "Traceback" not in ended.err


def test_mistaken_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISIONER_LOG_LEVEL", "loud")

    ended = run("doctor")

    assert ended.status == 1
    assert "PROVISIONER_LOG_LEVEL" in ended.err


def test_commands_find_what_dev_keeps_in_the_working_directory(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".provisioner").symlink_to(house.data_dir)
    monkeypatch.chdir(tmp_path / "here")

    found = {row["check"]: row["verdict"] for row in run("doctor", "--json").rows}
    listed = [row["name"] for row in run("org", "list", "--json").rows]

    assert found["token pepper"] == "ok"
    assert listed == ["acme", "globex"]


def test_an_environment_that_names_a_database_is_not_asked_for_another(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / ".provisioner").symlink_to(house.data_dir)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PROVISIONER_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")

    ended = run("org", "list")

    assert ended.status == 2
    assert "other.db" in ended.err


def findings(house: House) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in house.run("doctor", "--json").rows}


def failures(house: House) -> Mapping[str, str]:
    return {
        name: row["detail"] for name, row in findings(house).items() if row["verdict"] == "failed"
    }


def aim(
    house: House, url: str, organization: Organization, *, client_id: str = "provisioner"
) -> None:
    """Points the tenant at the stand-in and leaves one organization in it."""
    tenant = Tenant(name="main", base_url=url, client_id=client_id, plan="enterprise")
    house.transact(lambda tx: organizations.apply_tenant(tx, tenant))
    house.declare(organization)
    for name in ("acme", "globex"):
        if name != organization.name:
            house.run("org", "decommission", name, "--yes")


HOEKSTRA = Organization(
    name="hoekstra", connections=(Connection(name="hoekstra-users"),), roles={"Admins": "admin"}
)


def test_doctor_finds_nothing_wrong_with_a_tenant_that_is_set_up(
    house: House, simulator: str
) -> None:
    aim(house, simulator, HOEKSTRA)

    ended = house.run("doctor")

    assert ended.status == 0, ended.out
    assert "FAILED" not in ended.out
    assert "warning" not in ended.out
    assert "connection hoekstra-users" in ended.out


@pytest.mark.parametrize(
    ("organization", "check"),
    [
        (HOEKSTRA.model_copy(update={"auth0_organization": "nobody"}), "organization hoekstra"),
        (
            HOEKSTRA.model_copy(update={"connections": (Connection(name="missing"),)}),
            "connection missing",
        ),
        (
            HOEKSTRA.model_copy(update={"connections": (Connection(name="metahexa-ad"),)}),
            "connection metahexa-ad",
        ),
        (
            HOEKSTRA.model_copy(update={"connections": (Connection(name="clinics-users"),)}),
            "organization hoekstra",
        ),
        (HOEKSTRA.model_copy(update={"roles": {"Admins": "emperor"}}), "role emperor"),
    ],
)
def test_doctor_names_what_a_tenant_lacks(
    house: House, simulator: str, organization: Organization, check: str
) -> None:
    aim(house, simulator, organization)

    ended = house.run("doctor", "--json")

    assert ended.status == 1
    wrong = {row["check"]: row for row in ended.rows if row["verdict"] == "failed"}
    assert check in wrong
    assert wrong[check]["advice"]


def test_doctor_tells_refused_credentials_from_a_tenant_that_is_not_there(
    house: House, simulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unreachable" in failures(house)["tenant main"]
    monkeypatch.setenv("PROVISIONER_AUTH0_CLIENT_SECRET", "of a real tenant")
    aim(house, simulator, HOEKSTRA)
    assert "tenant main" not in failures(house), "a data dir's tenant is the simulator"
    aim(house, simulator, HOEKSTRA, client_id="somebody else")

    assert "unauthorized" in failures(house)["tenant main"]


def test_doctor_names_a_connection_that_no_application_may_use(
    house: House, own_simulator: str
) -> None:
    token = httpx.post(
        f"{own_simulator}/oauth/token",
        json={
            "grant_type": "client_credentials",
            "client_id": "provisioner",
            "client_secret": "simulator-secret",
            "audience": "https://any/api/v2/",
        },
    ).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    httpx.post(
        f"{own_simulator}/api/v2/connections",
        json={"name": "lonely", "strategy": "auth0"},
        headers=headers,
    ).raise_for_status()
    aim(
        house,
        own_simulator,
        acme().model_copy(update={"connections": (Connection(name="lonely"),)}),
    )

    assert "no application" in failures(house)["connection lonely"]


def test_doctor_names_a_variable_that_is_no_setting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(house)["configuration"]["verdict"] == "ok"
    monkeypatch.setenv("PROVISIONER_DATABSE_URL", "postgresql://nowhere")

    found = findings(house)

    assert "PROVISIONER_DATABASE_URL" in found["PROVISIONER_DATABSE_URL"]["advice"]
    assert "configuration" not in found


def test_doctor_misses_the_mail_server_that_invitations_need(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(house.data_dir)
    monkeypatch.setenv("PROVISIONER_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("PROVISIONER_TOKEN_PEPPER", settings.token_pepper.get_secret_value())

    def mail() -> dict[str, Any] | None:
        rows = run("doctor", "--json").rows
        return next((row for row in rows if row["check"] == "mail"), None)

    assert mail() is None
    house.declare(acme(policies=Policies(invite="ticket")))
    missed = mail()
    assert missed is not None
    assert missed["verdict"] == "failed"
    assert "acme" in missed["detail"]
    monkeypatch.setenv("PROVISIONER_SMTP_HOST", "mail.example")
    found = mail()
    assert found is not None
    assert found["verdict"] == "ok"
    for weaker in ("VERIFY", "STARTTLS"):
        monkeypatch.setenv(f"PROVISIONER_SMTP_{weaker}", "false")
        warned = mail()
        assert warned is not None
        assert warned["verdict"] == "warning"
        assert f"PROVISIONER_SMTP_{weaker}=true" in warned["advice"]


def test_doctor_knows_that_a_trial_of_ones_own_mails_into_its_directory(house: House) -> None:
    house.declare(acme(policies=Policies(invite="ticket")))
    mail = findings(house)["mail"]
    assert mail["verdict"] == "ok"
    assert str(house.data_dir / "mail") in mail["detail"]


def test_a_path_that_cannot_be_used_is_named() -> None:
    ended = run("dev", "--port", "0", "--simulator-port", "0", "--data-dir", "/proc/nowhere")

    assert ended.status == 1
    assert "/proc/nowhere: No such file" in ended.err


def test_doctor_reaches_no_kafka(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISIONER_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")

    assert "127.0.0.1:9" in failures(house)["kafka"]


def test_doctor_names_topics_that_are_missing(
    house: House, kafka_bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVISIONER_KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap_servers)
    monkeypatch.setenv("PROVISIONER_KAFKA_OUTCOMES_TOPIC", "none-of-this-name")

    found = findings(house)

    assert found["kafka"]["verdict"] == "ok"
    assert found["topic none-of-this-name"]["verdict"] == "failed"


def test_map_shows_canonical_events_and_names_bad_lines(tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    structured = {
        "specversion": "1.0",
        "id": "1",
        "source": "//hr",
        "type": "com.example.worker.hired.v1",
        "data": {"worker_id": "7", "effective_at": "2026-12-01", "zone": "Europe/Amsterdam"},
    }
    plain = {"type": "worker.changed", "worker_id": "8", "title": "Director"}
    lines = [json.dumps(structured), "", json.dumps(plain), '{"type": "party"}', "{"]
    file.write_text("\n".join(lines))

    ended = run("events", "map", "--mapping", "canonical", "--file", str(file))

    assert ended.status == 1
    hired, changed = ended.rows
    assert (hired["type"], hired["worker_id"]) == ("worker.hired", "7")
    assert hired["effective_at"] == "2026-11-30T23:00:00+00:00"
    assert changed["attributes"] == {"title": "Director"}
    assert "line 4: unmapped_type" in ended.err
    assert "line 5: malformed_json" in ended.err


def test_unknown_mapping_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no installation is
    ended = run("events", "map", "--mapping", "nothing", "--file", str(tmp_path / "x"))

    assert ended.status == 1
    assert "no mapping nothing" in ended.err


def _wait_for_lines(file: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the line did not come"
        time.sleep(0.05)
