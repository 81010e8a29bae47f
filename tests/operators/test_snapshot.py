"""``provisioner events snapshot``: a full export against whom we know, and stored as one."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from operators import exports
from service.directory import absences, audit, snapshots
from service.workers import WorkerEvent
from tests.operators.house import Ended, House


@pytest.fixture
def staffed(house: House) -> House:
    """Ada, Bob and Cy, whom HR has in."""
    for worker in ("ada", "bob", "cy"):
        house.tell(hired(worker))
    return house


def hired(worker: str) -> WorkerEvent:
    attributes = {"email": f"{worker}@acme.example", "title": "Clerk"}
    return WorkerEvent(type="worker.hired", worker_id=worker, attributes=attributes)


def row(worker: str, **more: Any) -> dict[str, Any]:
    return {"worker_id": worker, "email": f"{worker}@acme.example", "title": "Clerk", **more}


def written(folder: Path, rows: Iterable[Mapping[str, Any]], at: datetime | None = None) -> Path:
    path = folder / "export.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    if at is not None:
        os.utime(path, (at.timestamp(), at.timestamp()))
    return path


def snapshot(house: House, file: Path, *options: str) -> Ended:
    return house.run("events", "snapshot", "acme", "--file", str(file), "--json", *options)


def verdicts(ended: Ended) -> dict[str, str]:
    return {each["worker_id"]: each["verdict"] for each in ended.rows}


def compare(house: House) -> None:
    now = datetime.now(UTC)
    while True:
        turn = house.transact(lambda tx: snapshots.next_open(tx, ("", ""), now))
        if turn is None or not house.transact(lambda tx, it=turn: absences.carry_on(tx, *it, now)):
            return


def employments(house: House) -> dict[str, str | None]:
    def work(tx: Any) -> dict[str, str | None]:
        return {each.worker_id: each.employment for each in absences.workers_after(tx, "acme", "")}

    return house.transact(work)


def test_what_differs_is_told_and_a_dry_run_stores_nothing(staffed: House, tmp_path: Path) -> None:
    staffed.tell(WorkerEvent(type="worker.terminated", worker_id="cy"))
    staffed.tell(hired("dan"))
    before = len(staffed.events())
    file = written(
        tmp_path,
        [
            row("ada"),
            row("bob", title="Director"),
            row("cy", type="worker.hired"),
            row("eve"),
            row("dan", type="worker.terminated"),
        ],
    )
    ended = snapshot(staffed, file, "--dry-run")
    assert ended.status == 0
    assert verdicts(ended) == {"bob": "changed", "cy": "out", "eve": "new", "dan": "left"}
    assert next(each for each in ended.rows if each["worker_id"] == "bob")["attributes"] == [
        "title"
    ]
    assert "1 unchanged, 1 changed, 1 new, 1 left, 1 out, 0 absent" in ended.err
    assert len(staffed.events()) == before


def test_who_is_absent_leaves_and_who_is_unchanged_costs_no_event(
    staffed: House, tmp_path: Path
) -> None:
    before = len(staffed.events())
    file = written(tmp_path, [row("ada"), row("bob", title="Director")])
    ended = snapshot(staffed, file, "--actor", "olga")
    assert (ended.status, verdicts(ended)) == (0, {"bob": "changed", "cy": "absent"})
    compare(staffed)
    assert employments(staffed) == {"ada": "active", "bob": "active", "cy": "terminated"}
    told = [event.type for event in staffed.events()[before:]]
    assert told == ["worker.snapshot", "worker.snapshot_completed", "worker.terminated"]
    entries = staffed.transact(lambda tx: audit.listing(tx, limit=10))
    assert [(each.actor, each.detail["workers"]) for each in entries] == [("olga", 2)]


def test_whom_the_file_calls_hired_is_let_in_and_whom_it_calls_terminated_leaves(
    staffed: House, tmp_path: Path
) -> None:
    rows = [row("ada"), row("bob"), row("eve", type="worker.hired")]
    rows.append(row("cy", type="worker.terminated"))
    assert snapshot(staffed, written(tmp_path, rows)).status == 0
    compare(staffed)
    known = employments(staffed)
    assert known == {"ada": "active", "bob": "active", "cy": "terminated", "eve": "active"}


def test_a_file_brings_nobody_back_and_does_not_undo_what_is_newer(
    staffed: House, tmp_path: Path
) -> None:
    staffed.tell(WorkerEvent(type="worker.terminated", worker_id="ada"))
    written_at = staffed.at + timedelta(minutes=1)
    staffed.at += timedelta(minutes=2)
    staffed.tell(WorkerEvent(type="worker.changed", worker_id="bob", attributes={"title": "CEO"}))
    rows = [row("ada", type="worker.hired"), row("bob", type="worker.terminated")]
    ended = snapshot(staffed, written(tmp_path, rows, written_at))
    assert verdicts(ended) == {"ada": "out", "cy": "absent"}
    compare(staffed)
    assert employments(staffed) == {"ada": "terminated", "bob": "active", "cy": "terminated"}


def test_a_worker_with_several_rows_is_as_much_in_as_the_most_of_them(
    staffed: House, tmp_path: Path
) -> None:
    rows = [row("ada"), row("bob")]
    rows.append(row("cy", type="worker.terminated", employment_id="old"))
    rows.append(row("cy", type="worker.hired", employment_id="new"))
    rows.append(row("cy", type="worker.terminated", employment_id="older"))
    ended = snapshot(staffed, written(tmp_path, rows))
    assert verdicts(ended) == {}
    compare(staffed)
    assert employments(staffed)["cy"] == "active"


def test_a_file_with_lines_that_nobody_can_read_lets_nobody_go(
    staffed: House, tmp_path: Path
) -> None:
    file = written(tmp_path, [row("ada"), {"title": "nobody"}, row("bob", organization="other")])
    file.write_text(file.read_text() + "{\n")
    before = len(staffed.events())
    ended = snapshot(staffed, file)
    assert ended.status == 1
    for said in ("line 2: missing_worker_id", "line 3: organization_mismatch", "line 4: malformed"):
        assert said in ended.err
    assert len(staffed.events()) == before


def test_an_empty_file_lets_nobody_go(staffed: House, tmp_path: Path) -> None:
    ended = snapshot(staffed, written(tmp_path, []))
    assert (ended.status, len(staffed.events())) == (1, 3)
    assert "names nobody" in ended.err


@pytest.mark.parametrize("name", ["nosuch", "/nowhere/nosuch.yaml"])
def test_an_unknown_mapping_is_named(staffed: House, tmp_path: Path, name: str) -> None:
    ended = snapshot(staffed, written(tmp_path, [row("ada")]), "--mapping", name)
    assert (ended.status, name in ended.err) == (1, True)


def test_a_declared_mapping_reads_the_lines(staffed: House, tmp_path: Path) -> None:
    mapping = tmp_path / "roster.yaml"
    mapping.write_text(
        "mapping: roster\n"
        "version: 1\n"
        "title: A roster\n"
        "rules:\n"
        "- name: all\n"
        "  subject: payload.nr\n"
        "  type: worker.snapshot\n"
        "  attributes: {email: payload.mail}\n"
    )
    rows = [{"nr": "ada", "mail": "ada@acme.example"}, {"nr": "bob", "mail": "b@acme.example"}]
    ended = snapshot(staffed, written(tmp_path, rows), "--mapping", str(mapping), "--dry-run")
    assert (ended.status, ended.err.count("line ")) == (0, 0), ended.err
    assert verdicts(ended) == {"ada": "changed", "bob": "changed", "cy": "absent"}


def test_memory_does_not_grow_with_the_file() -> None:
    now, length, count = datetime.now(UTC), 900, 4000
    tracemalloc.start()
    try:
        with exports.gathering() as gathered:
            reader = exports.reader("canonical", now)
            for number in range(count):
                line = json.dumps(row(f"w-{number}", title=f"{number:{length}}")).encode()
                gathered.add(reader(line, number), "acme", now)
            assert sum(len(chunk) for chunk in gathered.chunks()) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < count * length / 2
