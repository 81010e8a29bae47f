"""The console's page of one organization: its people, Auth0's side, its end, loads and drift."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.showing_organization import STATES, shares, stages
from service.directory import decommissions, drift, imports, setups
from service.directory.drift import Finding
from tests.operators.house import House
from tests.operators.test_console import Browser, browser


@pytest.fixture
def console(house: House) -> Generator[Browser]:
    with browser(house, open=True) as opened:
        yield opened


def page(console: Browser, name: str = "acme") -> str:
    answer = console.get(f"/console/organizations/{name}")
    assert answer.status_code == 200
    assert "style-src 'self'" in answer.headers["content-security-policy"]
    assert "style=" not in answer.text
    return " ".join(answer.text.split())


def test_nobody_yet_is_said(console: Browser) -> None:
    assert "Nobody yet." in page(console)


def test_people_are_counted_by_state(house: House, console: Browser) -> None:
    for name in ("ada", "bob"):
        house.create(f"{name}@acme.example")
    house.create("cy@globex.example", organization="globex")

    shown = page(console)

    assert "<title>2 pending</title>" in shown
    assert "<title>1 pending</title>" in page(console, "globex")


def test_what_is_refused_in_auth0_is_shown_with_what_to_do(house: House, console: Browser) -> None:
    problem = {"code": "unknown_role", "message": "There is no role a<b.", "advice": "Make it."}
    refused: dict[str, Any] = {
        "error": {"class": "permanent", "message": "Not as declared.", "problems": [problem]},
        "plan": ["create-organization acme"],
        "observed": {
            "organization": {"enabled": {}},
            "connections": {"acme-users": {"sign_up": True}},
        },
        "observed_at": house.at,
    }
    house.transact(lambda tx: setups.ask(tx, "acme", "main", house.at))
    house.transact(lambda tx: setups.store(tx, "acme", house.at, **refused))

    shown = page(console)

    assert '<span class="tag refused">refused</span>' in shown
    assert "There is no role a&lt;b." in shown
    assert "Make it." in shown
    assert "create-organization acme" in shown
    assert '<span class="problem">open</span>' in shown


def test_the_end_of_an_organization_shows_its_stages(house: House, console: Browser) -> None:
    house.create("ada@acme.example")
    house.transact(lambda tx: decommissions.begin(tx, "acme", actor="kim", now=house.at))

    shown = page(console)

    assert '<li class="now">locking</li><li class="ahead">kept</li></ol>' in shown
    assert "accounts: 1" in shown


@pytest.mark.parametrize(
    ("stage", "keeps", "told"),
    [
        ("locking", False, ["now", "ahead", "ahead", "ahead", "ahead"]),
        ("deleting", True, ["past", "past", "now", "ahead", "ahead"]),
        ("kept", False, ["past", "now"]),
        ("ended", False, ["past", "past", "past", "past", "now"]),
    ],
)
def test_stages_before_and_after_are_told(stage: str, keeps: bool, told: list[str]) -> None:
    assert [each.when for each in stages(stage, keeps=keeps)] == told


def test_loads_show_how_many_rows_have_an_answer(house: House, console: Browser) -> None:
    begun = house.transact(
        lambda tx: imports.begin(tx, "main", "acme-users", house.at, now=house.at)
    )
    house.transact(lambda tx: imports.store(tx, begun, accounts=4))
    house.transact(lambda tx: imports.count_results(tx, begun, {"created": 2, "refused": 1}))

    shown = page(console)

    assert 'aria-label="75 %"' in shown
    assert "created 2, refused 1" in shown
    assert "Loads by import jobs" not in page(console, "globex")


def test_drift_is_told_in_words_and_only_to_its_organization(
    house: House, console: Browser
) -> None:
    finding = Finding(
        tenant="main",
        subject="account-1",
        aspect="account",
        organization="acme",
        user_id=None,
        auth0_user_id="auth0|1",
        detail={"changed": ["email"], "blocked": True},
        check_id="check-1",
        correcting=False,
        found_at=house.at,
    )
    assert "Never compared" in page(console)

    def check(tx: drift.Transaction) -> None:
        asked = drift.ask(tx, "main", None, correct=False, asked_by="kim", now=house.at)
        drift.find(tx, finding)
        drift.store(tx, asked, ended_at=house.at, result={"compared": 1})

    house.transact(check)

    assert "blocked by somebody else, email" in page(console)
    assert "Nothing differs." in page(console, "globex")


def test_an_organization_that_is_not_there_is_said(console: Browser) -> None:
    answer = console.get("/console/organizations/nobody")
    assert answer.status_code == 404
    assert "There is no organization nobody." in answer.text


@given(st.dictionaries(st.sampled_from(STATES), st.integers(0, 10**7)))
def test_parts_of_a_bar_fill_it_and_each_can_be_seen(users: dict[str, int]) -> None:
    found = shares(users)

    assert {each.state: each.count for each in found} == {k: v for k, v in users.items() if v}
    if found:
        assert sum(each.width for each in found) == pytest.approx(100)
        assert min(each.width for each in found) > 0.9
        ends = [each.start + each.width for each in found]
        assert [each.start for each in found[1:]] == pytest.approx(ends[:-1])
