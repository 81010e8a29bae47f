"""``provisioner drift``: asked of the running lanes, followed to the end, and listed."""

from __future__ import annotations

import threading
import time

import pytest

from service.directory import drift
from service.directory.drift import Finding
from tests.operators.house import House


def _find(house: House, **told: object) -> None:
    house.transact(
        lambda tx: drift.find(
            tx,
            Finding(
                tenant="main",
                subject="account-1",
                aspect="account",
                organization="acme",
                user_id="user-1",
                auth0_user_id="auth0|1",
                detail=told,
                check_id="check-1",
                correcting=False,
                found_at=house.at,
            ),
        )
    )


def test_what_differs_is_listed(house: House) -> None:
    _find(house, changed=["email", "name"], blocked=True)

    (row,) = house.run("drift", "list", "acme", "--json").rows
    assert row["detail"] == {"changed": ["email", "name"], "blocked": True}
    assert row["auth0_user_id"] == "auth0|1"
    shown = house.run("drift", "list", "--tenant", "main").out
    assert "blocked by somebody else, email, name" in " ".join(shown.split())


def _end(house: House, check_id: str) -> None:
    done = {"result": {"compared": 3}, "ended_at": house.at}
    house.transact(lambda tx: drift.store(tx, check_id, **done))


def test_a_check_is_asked_for_and_followed_to_its_end(house: House) -> None:
    def lanes() -> None:
        for _ in range(500):
            found = house.transact(lambda tx: drift.next_open(tx, "main"))
            if found is not None:
                _end(house, found.id)
                return
            time.sleep(0.02)

    beside = threading.Thread(target=lanes)
    beside.start()
    ended = house.run("drift", "check", "acme", "--correct")
    beside.join()

    assert ended.status == 0
    assert "3 compared" in ended.err
    (row,) = house.run("audit", "--json").rows
    assert (row["action"], row["detail"]) == ("drift.check", {"tenant": "main", "correct": True})


@pytest.mark.parametrize("arguments", [(), ("acme", "--tenant", "main")])
def test_a_check_is_of_an_organization_or_of_a_tenant(
    house: House, arguments: tuple[str, ...]
) -> None:
    assert house.run("drift", "check", *arguments).status == 2


def test_an_unknown_tenant_is_named(house: House) -> None:
    ended = house.run("drift", "list", "--tenant", "nowhere")
    assert ended.status == 1
    assert "nowhere" in ended.err
