"""Mappings of customers: declared with the installation, shown, tried out on payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.directory import tables
from service.directory.database import Transaction
from service.organizations import EventSource
from tests.operators.house import Ended, House, run

HR = """\
mapping: own-hr
version: 1
title: Our HR
rules:
  - name: people
    match: payload.people
    split: payload.people
    subject: payload.id
    type: {from: payload.kind, table: {in: worker.hired, out: worker.terminated, ping: ignore}}
    effective_at: payload.on
    attributes: {email: payload.mail}
tests:
  - name: a joiner
    payload: {people: [{id: 1, kind: in, mail: a@acme.example}]}
    expect: [{type: worker.hired, worker_id: "1", attributes: {email: a@acme.example}}]
"""
DECLARES = """\
mappings: [hr/own.yaml]
sources: [{name: own, topic: own.events, organizations: [acme], mapping: own-hr, zone: Europe/Amsterdam}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / "own.yaml").write_text(HR)
    (tmp_path / "installation.yaml").write_text(DECLARES)
    return tmp_path


def apply(house: House, folder: Path, *more: str) -> Ended:
    file = str(folder / "installation.yaml")
    return run("org", "apply", file, "--data-dir", str(house.data_dir), "--json", *more)


def verdicts(ended: Ended) -> dict[str, Any]:
    assert ended.status == 0, ended.err
    return {row["name"]: row["verdict"] for row in ended.rows}


def test_a_mapping_is_declared_with_its_source(house: House, folder: Path) -> None:
    assert verdicts(apply(house, folder, "--dry-run")) == {"own": "new", "own-hr": "new"}
    assert stored(house, "mappings") == []
    assert verdicts(apply(house, folder)) == {"own": "new", "own-hr": "new"}
    assert verdicts(apply(house, folder)) == {"own": "unchanged", "own-hr": "unchanged"}
    ended = run("events", "mappings", "--data-dir", str(house.data_dir), "--json")
    [row] = [row for row in ended.rows if row["from"] == "declared"]
    assert row == {"name": "own-hr", "version": 1, "title": "Our HR", "from": "declared"}


def test_a_changed_mapping_needs_another_version_and_is_shown(house: House, folder: Path) -> None:
    apply(house, folder)
    file = folder / "hr" / "own.yaml"
    file.write_text(HR.replace("out: worker.terminated", "out: worker.suspended"))
    ended = apply(house, folder)
    assert ended.status == 1
    assert "mappings[own-hr].version" in ended.err
    assert "make it 2" in ended.err
    file.write_text(file.read_text().replace("version: 1", "version: 2"))
    [change] = [row for row in apply(house, folder, "--dry-run").rows if row["kind"] == "mapping"]
    assert change["verdict"] == "changed"
    assert change["keys"] == ["rules", "version"]
    assert change["versions"] == [1, 2]
    assert apply(house, folder).status == 0
    file.write_text(HR)  # back to what was there before
    assert verdicts(apply(house, folder))["own-hr"] == "changed"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("a@acme.example}}]", "b@acme.example}}]", "tests[a joiner]"),
        ("subject: payload.id", "subject: payload.", "rules[people].subject"),
        (
            "email: payload.mail",
            "email: {from: payload.mail, wiht: [strip]}",
            "rules[people].attributes.email.wiht",
        ),
        ("worker.hired, out", "worker.hird, out", "rules[people].type.table.in"),
        ("version: 1", "version: one", "version"),
        ("mapping: own-hr", "mapping: canonical", "canonical is a shipped mapping"),
        ("title: Our HR", "title: Our HR\ntitle: Again", "stands here twice"),
        ("payload.on", "{from: payload.on, format: someday}", "rules[people].effective_at.format"),
    ],
)
def test_a_mapping_with_a_mistake_is_refused_with_its_place(
    house: House, folder: Path, before: str, after: str, said: str
) -> None:
    (folder / "hr" / "own.yaml").write_text(HR.replace(before, after, 1))
    ended = apply(house, folder)
    assert ended.status == 1
    assert "own.yaml" in ended.err
    assert said in ended.err
    assert stored(house, "mappings") == []


def test_a_source_cannot_name_a_mapping_that_there_is_not(house: House, folder: Path) -> None:
    (folder / "installation.yaml").write_text(DECLARES.partition("\n")[2])
    ended = apply(house, folder)
    assert ended.status == 1
    assert "sources[own].mapping: there is no mapping own-hr" in ended.err


def test_a_missing_file_is_named(house: House, folder: Path) -> None:
    (folder / "hr" / "own.yaml").unlink()
    ended = apply(house, folder)
    assert ended.status == 1
    assert "own.yaml: cannot be read" in ended.err


def test_a_webhook_needs_no_topic() -> None:
    assert EventSource(organizations=("acme",), webhook=True).topic is None
    assert EventSource(organizations=("acme",)).topic == "hr.events"
    with pytest.raises(ValueError, match="IANA"):
        EventSource(organizations=("acme",), zone="Mars/Olympus")


# Trying out

PEOPLE = {
    "people": [
        {"id": 1, "kind": "in", "mail": "a@acme.example"},
        {"kind": "in"},
        {"id": 3, "kind": "ping"},
    ]
}


def payloads(folder: Path, *lines: object) -> str:
    file = folder / "payloads.jsonl"
    file.write_text(
        "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    )
    return str(file)


def test_payloads_are_mapped_line_by_line(folder: Path) -> None:
    file = payloads(folder, PEOPLE, "", {"nothing": 1}, "{")
    ended = run("events", "map", "--mapping", str(folder / "hr" / "own.yaml"), "--file", file)
    assert ended.status == 1
    [row] = ended.rows
    assert (row["type"], row["worker_id"]) == ("worker.hired", "1")
    assert row["attributes"] == {"email": "a@acme.example"}
    assert "line 1, event 1: missing_worker_id" in ended.err
    assert "line 1, event 2: ignored_by_mapping" in ended.err
    assert "line 3: no_rule_matches" in ended.err
    assert "line 4: malformed_json" in ended.err


def test_what_is_ignored_is_no_failure(folder: Path) -> None:
    file = payloads(folder, {"people": [{"id": 3, "kind": "ping"}]})
    ended = run("events", "map", "--mapping", str(folder / "hr" / "own.yaml"), "--file", file)
    assert (ended.status, ended.rows) == (0, [])


def test_the_tests_of_a_file_run_first(folder: Path) -> None:
    mapping = folder / "hr" / "own.yaml"
    mapping.write_text(HR.replace('worker_id: "1"', 'worker_id: "2"'))
    ended = run("events", "map", "--mapping", str(mapping), "--file", payloads(folder, PEOPLE))
    assert ended.status == 1
    assert "tests[a joiner]: event 0: worker_id is expected to be '2' and is '1'" in ended.err
    assert ended.rows == []


def test_a_stored_mapping_is_tried_by_its_name(house: House, folder: Path) -> None:
    apply(house, folder)
    file = payloads(folder, {"people": [{"id": 1, "kind": "out", "on": "2027-01-31"}]})
    asked = (
        "events",
        "map",
        "--mapping",
        "own-hr",
        "--file",
        file,
        "--data-dir",
        str(house.data_dir),
    )
    ended = run(*asked, "--zone", "Europe/Amsterdam")
    assert ended.rows[0]["effective_at"] == "2027-01-31T23:00:00+00:00"
    assert run(*asked, "--zone", "Mars").status == 1


def test_a_plan_shows_what_would_be_done_and_leaves_nothing(house: House, folder: Path) -> None:
    apply(house, folder)
    before = {name: stored(house, name) for name in tables.metadata.tables}
    person = {"id": 1, "mail": "a@acme.example"}
    file = payloads(
        folder,
        {"people": [person | {"kind": "in"}]},
        {"people": [person | {"kind": "out", "on": "2999-01-31"}]},
        {"people": [person | {"kind": "out"}]},
    )
    ended = run(
        *("events", "map", "--mapping", "own-hr", "--file", file, "--plan"),
        *("--organization", "acme", "--data-dir", str(house.data_dir)),
    )
    assert ended.status == 0, ended.err
    hired, later, out = (row["plan"] for row in ended.rows)
    assert hired["event"] == "applied"
    assert hired["causes"] == []
    assert [each.partition(" ")[0] for each in hired["operations"]][:1] == ["create-user"]
    assert later["event"] == "scheduled"
    assert later["detail"].startswith("until 2999-")
    assert out["event"] == "applied"
    assert out["causes"] == ["terminated-in-hr"]
    assert out["operations"] == []
    assert {name: stored(house, name) for name in tables.metadata.tables} == before


def test_a_plan_says_of_a_thin_event_that_the_worker_must_be_fetched(
    house: House, folder: Path
) -> None:
    thin = folder / "thin.yaml"
    thin.write_text(HR.replace("    effective_at:", "    enrich: required\n    effective_at:"))
    asked = ("events", "map", "--mapping", str(thin), "--file", payloads(folder, PEOPLE), "--plan")
    ended = run(*asked, "--organization", "acme", "--data-dir", str(house.data_dir))
    assert [row["plan"]["event"] for row in ended.rows] == ["unknown"]


def test_a_plan_needs_an_organization_that_there_is(house: House, folder: Path) -> None:
    mapping = str(folder / "hr" / "own.yaml")
    asked = ("events", "map", "--mapping", mapping, "--file", payloads(folder, PEOPLE))
    assert run(*asked, "--plan").status == 2
    ended = run(*asked, "--plan", "--organization", "none", "--data-dir", str(house.data_dir))
    assert ended.status == 1
    assert "no organization none" in ended.err


def stored(house: House, table: str) -> list[tuple[Any, ...]]:
    def work(transaction: Transaction) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in transaction.execute(select(tables.metadata.tables[table]))]

    return house.transact(work)
