"""Staged leavers at the command line: an operator lets them go or not, and is asked first."""

from __future__ import annotations

import pytest

from service.organizations import MassLeavers, Policies
from service.workers import WorkerEvent
from tests.operators.house import House, acme


@pytest.fixture
def staged(house: House) -> list[str]:
    """Three leavers of acme, of whom nobody may go unseen; their events."""
    return stage(house, 3)


def stage(house: House, count: int) -> list[str]:
    house.declare(acme(policies=Policies(mass_leavers=MassLeavers(count=0, share=0))))
    workers = [f"w{n}" for n in range(count)]
    for worker in workers:
        attributes = {"email": f"{worker}@acme.example"}
        house.tell(WorkerEvent(type="worker.hired", worker_id=worker, attributes=attributes))
    return [
        house.tell(WorkerEvent(type="worker.terminated", worker_id=worker)) for worker in workers
    ]


def states(house: House, events: list[str]) -> list[str]:
    return [house.event(each).state for each in events]


def test_staged_leavers_are_listed(house: House, staged: list[str]) -> None:
    listed = house.run("events", "list", "--state", "staged", "--json")
    assert [row["id"] for row in listed.rows] == staged


def test_named_leavers_are_let_go(house: House, staged: list[str]) -> None:
    ended = house.run("events", "approve", staged[0], "--json", "--actor", "me")
    assert ended.status == 0, ended.err
    assert [row["verdict"] for row in ended.rows] == ["approved"]
    assert states(house, staged) == ["accepted", "staged", "staged"]
    entry = house.run("audit", "--json").rows[-1]
    assert (entry["action"], entry["actor"], entry["subject"]) == ("event.approve", "me", staged[0])


@pytest.mark.parametrize("which", [["--organization", "acme"], ["--all"]])
def test_all_are_refused_with_a_reason(house: House, staged: list[str], which: list[str]) -> None:
    ended = house.run("events", "refuse", *which, "--yes", "--reason", "a wrong filter")
    assert ended.status == 0, ended.err
    assert "3 refused" in ended.err
    assert states(house, staged) == ["discarded"] * 3
    assert house.run("audit", "--json").rows[-1]["detail"]["reason"] == "a wrong filter"


def test_many_want_a_yes(house: House, staged: list[str]) -> None:
    ended = house.run("events", "approve", "--all")
    assert ended.status == 2
    assert "3 leavers" in ended.err
    assert states(house, staged) == ["staged"] * 3


def test_a_dry_run_only_tells(house: House, staged: list[str]) -> None:
    ended = house.run("events", "approve", "--all", "--dry-run", "--json")
    assert [row["verdict"] for row in ended.rows] == ["approved"] * 3
    assert states(house, staged) == ["staged"] * 3


@pytest.mark.parametrize("verb", ["approve", "refuse"])
def test_who_says_nothing_is_asked_what_is_meant(house: House, verb: str) -> None:
    assert house.run("events", verb).status == 2
    assert house.run("events", verb, "some", "--all").status == 2


def test_what_is_not_staged_is_left_alone_and_named_a_failure(
    house: House, staged: list[str]
) -> None:
    house.run("events", "refuse", staged[0])
    again = house.run("events", "approve", staged[0], "none-such", "--json")
    assert again.status == 1
    assert [row["verdict"] for row in again.rows] == ["skipped", "failed"]


def test_a_misspelt_organization_is_refused(house: House, staged: list[str]) -> None:
    assert house.run("events", "approve", "--organization", "acne", "--yes").status == 1
    assert states(house, staged) == ["staged"] * 3
