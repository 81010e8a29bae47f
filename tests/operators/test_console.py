"""The console: closed without a password, plain text stays text, every page answers."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from operators.console import routes
from service.clock import SystemClock
from service.directory.database import open_database
from service.directory.events import Problem
from tests.operators.house import House

UNMAPPED = Problem(kind="input", code="unmapped_type", message="No mapping knows this type.")


@dataclass(frozen=True, slots=True)
class Browser:
    """Somebody who looks at the console, mounted as the program mounts it."""

    app: Starlette

    def get(self, path: str, *, follow: bool = True, **more: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://tests") as client:
                return await client.get(path, follow_redirects=follow, **more)

        return asyncio.run(ask())


@contextmanager
def browser(house: House, *, password: str | None = None, open: bool = False) -> Generator[Browser]:
    database = open_database(house.url)
    mounted = Mount(
        "/console",
        routes=routes(database=database, clock=SystemClock(), password=password, open=open),
    )
    yield Browser(Starlette(routes=[mounted]))
    asyncio.run(database.close())


@pytest.fixture
def console(house: House) -> Generator[Browser]:
    with browser(house, open=True) as opened:
        yield opened


def basic(password: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'ops:{password}'.encode()).decode()}"}


def test_without_a_password_nobody_gets_in_and_is_told_what_to_set(house: House) -> None:
    with browser(house) as client:
        for headers in ({}, basic("")):
            answer = client.get("/console/", headers=headers)
            assert answer.status_code == 403
            assert "PROVISIONER_CONSOLE_PASSWORD" in answer.text


def test_password_lets_in_and_a_wrong_one_does_not(house: House) -> None:
    with browser(house, password="pässword:x") as client:
        assert client.get("/console/", headers=basic("pässword:x")).status_code == 200
        for headers in (
            {},
            basic("wrong"),
            {"authorization": "Basic %%%"},
            {"authorization": "Bearer pässword:x".encode()},
        ):
            for path in ("/console/", "/console/style.css", "/console/users?q=a"):
                answer = client.get(path, headers=headers, follow=False)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"].startswith("Basic ")


def test_every_page_forbids_scripts(console: Browser) -> None:
    for path in ("/console/", "/console/events", "/console/audit", "/console/nowhere"):
        answer = console.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "<script" not in answer.text


def test_links_of_a_page_lead_somewhere(house: House, console: Browser) -> None:
    user = house.create("ada@acme.example")
    house.run("user", "block", "acme", user.id, "--reason", "x")
    house.dead_letter(house.received("http", "x", b"?"), "acme", UNMAPPED)
    seen, todo = set[str](), ["/console/"]
    while todo:
        path = todo.pop()
        seen.add(path)
        answer = console.get(path)
        assert answer.status_code == 200, path
        linked: list[str] = re.findall(r'href="([^"]+)"', answer.text)
        todo += {link.replace("&amp;", "&") for link in linked} - seen - set(todo)
    assert f"/console/users/{user.id}" in seen
    assert "/console/events?trouble=1&error=unmapped_type" in seen


def test_events_that_are_tried_in_vain_can_be_looked_for(house: House, console: Browser) -> None:
    ada = house.create("ada@acme.example")
    house.create("bob@acme.example")
    house.put_off(ada, "no clear answer from Auth0 (502)")
    tried, untried = (event.id for event in house.events())

    text = console.get("/console/events", params={"retrying": "1"}).text

    assert "1 try: no clear answer from Auth0 (502)" in text
    assert tried in text
    assert untried not in text


def test_text_from_outside_stays_text(house: House, console: Browser) -> None:
    house.create("<b>x</b>@acme.example", displayName="<script>alert(1)</script>")
    event_id = house.events()[0].id

    for path in (
        "/console/",
        f"/console/events/{event_id}",
        "/console/users?q=<b>x</b>@acme.example",
    ):
        text = console.get(path).text
        assert "<script" not in text
        assert "<b>x" not in text


def test_search_for_a_person_leads_to_their_page(house: House, console: Browser) -> None:
    user = house.create("ada@acme.example")

    answer = console.get("/console/users", params={"q": "ADA@acme.example"})

    assert answer.url.path == f"/console/users/{user.id}"
    assert "ada@acme.example" in answer.text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ({"organization": "acme"}, True),
        ({"organization": "globex"}, False),
        ({"error": "unmapped_type"}, True),
        ({"trouble": "1"}, True),
        ({"since": "1m"}, False),
        ({"user": "nobody"}, False),
        ({"before": "nonsense"}, True),
    ],
)
def test_events_are_filtered(
    house: House, console: Browser, query: dict[str, str], shown: bool
) -> None:
    event_id = house.dead_letter(house.received("http", "x", b"?"), "acme", UNMAPPED)

    assert (event_id in console.get("/console/events", params=query).text) is shown


def test_wrong_since_is_explained(console: Browser) -> None:
    assert "is no moment" in console.get("/console/events?since=soon").text


def test_unknown_things_are_not_found(console: Browser) -> None:
    for path in ("events/none", "users/none", "none", "a/b/c"):
        assert console.get(f"/console/{path}").status_code == 404
