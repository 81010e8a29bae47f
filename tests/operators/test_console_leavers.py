"""Staged leavers on the console: shown with why, decided by buttons that no other page can press."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from operators.console import routes
from service.clock import SystemClock
from service.directory import audit
from service.directory.database import open_database
from tests.operators.house import House
from tests.operators.test_staged import stage, states

OWN = {"sec-fetch-site": "same-origin"}


@dataclass(frozen=True, slots=True)
class Browser:
    """Somebody at a console of this house."""

    house: House
    password: str | None = None
    host: str = "127.0.0.1"

    def ask(
        self, method: str, path: str, form: dict[str, object] | None = None, **headers: str
    ) -> httpx.Response:
        async def asking() -> httpx.Response:
            database = open_database(self.house.url)
            given = {"password": self.password, "open": self.password is None}
            console = routes(database=database, clock=SystemClock(), **given)  # pyright: ignore[reportArgumentType]
            app = Starlette(routes=[Mount("/console", routes=console)])
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url=f"http://{self.host}"
            )
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if form is not None:
                sent["content-type"] = "application/x-www-form-urlencoded"
            try:
                async with client:
                    return await client.request(
                        method, path, content=urlencode(form or {}), headers=sent
                    )
            finally:
                await database.close()

        return asyncio.run(asking())

    def decide(self, answer: str, **more: object) -> httpx.Response:
        form = {"organization": "acme", "until": 10**9, "answer": answer, **more}
        return self.ask("POST", "/console/leavers", form, sec_fetch_site="same-origin")


@pytest.fixture
def staged(house: House) -> list[str]:
    return stage(house, 3)


def test_staged_leavers_are_shown_with_who_and_why(house: House, staged: list[str]) -> None:
    page = Browser(house).ask("GET", "/console/leavers").text
    assert "3 staged" in page
    assert page.count("terminated-in-hr") == 3
    assert all(f"/console/events/{each}" in page for each in staged)


def test_all_of_an_organization_are_let_go(house: House, staged: list[str]) -> None:
    answer = Browser(house).decide("approve")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/leavers?organization=acme&done=3"
    assert states(house, staged) == ["accepted"] * 3
    assert "Nobody is staged" in Browser(house).ask("GET", answer.headers["location"]).text


def test_one_is_kept_in_and_the_audit_log_says_who_did_it(house: House, staged: list[str]) -> None:
    ops = Browser(house, password="p:w")
    basic = f"Basic {base64.b64encode(b'kim:p:w').decode()}"
    form = {"organization": "acme", "until": 10**9, "answer": "refuse", "event": staged[1]}
    ops.ask(
        "POST",
        "/console/leavers",
        {**form, "reason": "no"},
        authorization=basic,
        sec_fetch_site="same-origin",
    )
    assert states(house, staged) == ["staged", "discarded", "staged"]
    (entry,) = house.transact(lambda tx: audit.listing(tx, subject=staged[1]))
    assert (entry.actor, entry.action) == ("console: kim", "event.refuse")
    assert entry.detail["reason"] == "no"


def test_who_came_after_the_page_was_shown_is_not_decided_on(
    house: House, staged: list[str]
) -> None:
    seen = house.event(staged[0]).number
    Browser(house).decide("approve", until=seen)
    assert states(house, staged) == ["accepted", "staged", "staged"]


def test_a_decision_is_about_one_organization(house: House, staged: list[str]) -> None:
    Browser(house).decide("approve", organization="globex", event=staged[0])
    assert states(house, staged) == ["staged"] * 3


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none", ""])
def test_no_other_page_presses_the_buttons(house: House, staged: list[str], site: str) -> None:
    form: dict[str, object] = {"organization": "acme", "until": 10**9, "answer": "approve"}
    answer = Browser(house).ask("POST", "/console/leavers", form, sec_fetch_site=site)
    assert answer.status_code == 403
    assert states(house, staged) == ["staged"] * 3


def test_a_foreign_name_of_this_machine_presses_no_button(house: House, staged: list[str]) -> None:
    assert Browser(house, host="rebound.example").decide("approve").status_code == 403
    assert states(house, staged) == ["staged"] * 3


def test_without_the_password_nothing_is_decided(house: House, staged: list[str]) -> None:
    assert Browser(house, password="p").decide("approve").status_code == 401
    assert states(house, staged) == ["staged"] * 3


@pytest.mark.parametrize(
    "form",
    [{"answer": "other"}, {"until": "many"}, {"until": ""}, {"reason": "x" * 20_000}],
)
def test_a_form_that_no_page_sends_is_refused(
    house: House, staged: list[str], form: dict[str, object]
) -> None:
    assert Browser(house).decide(**{"answer": "approve", **form}).status_code == 400  # pyright: ignore[reportArgumentType]
    assert states(house, staged) == ["staged"] * 3
