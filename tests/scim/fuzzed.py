"""A server in this process under random requests, and what must hold of each of its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.types import ASGIApp, Message

from scim.app import create_app
from scim.extensions import Catalogues
from scim.schema import load_catalogue
from service.clock import SystemClock
from service.directory.database import open_database
from tests.scim.client import CORE_USER, PEPPER, create_tables, organization, register
from tests.scim.declared import STAFF_SCHEMA, TEAM_SCHEMA, schemas
from tests.scim.extremes import Sent
from tests.scim.fuzzing import SECRET, Generator, Known

FOREIGN: Final = "Neighbour-b81e-only"
"""Stands in everything that the other organization has."""
_ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
_LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_MOST_KEPT: Final = 300
_ANSWERED_WITHIN: Final = 5.0
"""Seconds, of a processor that others may use as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer as the server gave it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Round:
    """What a run of requests met: how many of each status, and what was wrong."""

    statuses: dict[int, int] = field(default_factory=dict[int, int])
    findings: list[str] = field(default_factory=list[str])


async def fuzz(
    directory: Path,
    *,
    seed: int,
    requests: int,
    tick: Callable[[], None] = lambda: None,
    url: str | None = None,
) -> Round:
    """Sends random requests to a server on a new SQLite database, and looks at every answer.

    ``directory`` is empty, and the database's own; ``url``: an empty database to take instead.
    Every third seed asks an organization that takes only what the RFC has.

    At the end the other organization is as it was, and no password lies in the database's files.
    """
    met = Round()
    database = open_database(url or f"sqlite:///{directory / 'fuzz.db'}")
    profile = "strict" if seed % 3 == 0 else "tolerant"
    extensions = schemas(STAFF_SCHEMA, TEAM_SCHEMA)
    try:
        await create_tables(database)
        configured = organization("hoekstra", scim_profile=profile, scim_schemas=extensions)
        own = await register(database, configured)
        other = await register(database, organization("neighbour"))
        app = create_app(database=database, clock=SystemClock(), pepper=PEPPER)
        foreign = await _settled(app, other)
        before = await _everything(app, other)
        known = Known(foreign=foreign)
        generator = Generator(seed, Catalogues(load_catalogue()).of(configured), known)
        for _ in range(requests):
            sent = generator.next()
            started = time.monotonic()
            answer = await exchange(app, "hoekstra", own, sent)
            took = time.monotonic() - started
            met.statuses[answer.status] = met.statuses.get(answer.status, 0) + 1
            wrong = fault(sent, answer)
            if took > _ANSWERED_WITHIN:
                wrong = f"answered after {took:.1f} s"
            if wrong is not None:
                met.findings.append(f"{wrong}: {sent} -> {answer}"[:4000])
            await _remember(app, own, known, sent, answer)
            tick()
        if await _everything(app, other) != before:
            met.findings.append("another organization's resources have changed")
        await app.close()
    finally:
        await database.close()
    met.findings += holding_passwords(directory)
    return met


def holding_passwords(directory: Path) -> list[str]:
    """What is wrong with the database's files: a password in one of them."""
    holding = [file for file in directory.iterdir() if SECRET.encode() in file.read_bytes()]
    return [f"{file.name} holds a password" for file in holding]


async def exchange(app: ASGIApp, name: str, token: str, sent: Sent) -> Answered:
    """One request over ASGI, with what a client library would never send left as it is."""
    messages: list[Message] = []
    headers = [(b"authorization", f"Bearer {token}".encode())]
    headers += [
        (key.lower().encode(), value.encode("latin-1", "replace"))
        for key, value in sent.headers
        if key.lower() != "authorization"
    ]
    scope = {
        "type": "http",
        "method": sent.method,
        "path": f"/{name}/{sent.path}",
        "query_string": sent.query.encode("utf-8", "surrogateescape"),
        "headers": headers,
        "client": ("192.0.2.7", 4711),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": sent.body}

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, collect)
    start, end = messages
    told = {key.decode().lower(): value.decode("latin-1") for key, value in start["headers"]}
    return Answered(status=start["status"], headers=told, body=end["body"])


def fault(sent: Sent, answer: Answered) -> str | None:
    """What is wrong with an answer, in a few words; None for nothing."""
    if answer.status >= 500 and answer.status != 501:
        return f"status {answer.status}"
    if SECRET.encode() in answer.body:
        return "a password is told"
    asked = f"{sent.path} {unquote(sent.query)}".encode("utf-8", "replace") + sent.body
    if FOREIGN.encode() in answer.body and FOREIGN.encode() not in asked:
        return "another organization's data is shown"
    if sent.method == "HEAD":
        return "a body for HEAD" if answer.body else None
    if not answer.body:
        return None if answer.status in (202, 204, 304) else "no body"
    if answer.headers.get("content-type") != "application/scim+json":
        return "media type"
    if answer.headers.get("content-length") != str(len(answer.body)):
        return "content length"
    return _form(answer.status, orjson.loads(answer.body))


def _form(status: int, document: Any) -> str | None:
    """What is wrong with a document's form (RFC 7644 sections 3.4.2 and 3.12)."""
    if not isinstance(document, dict) or not document.get("schemas"):
        return "no schemas"
    if status >= 400:
        right = document["schemas"] == [_ERROR] and document.get("status") == str(status)
        return None if right and document.get("detail") else "error form"
    if document["schemas"] == [_LIST]:
        listed = document["Resources"]
        if any(type(document.get(name)) is not int for name in ("totalResults", "itemsPerPage")):
            return "list form"
        right = document["itemsPerPage"] == len(listed) <= document["totalResults"]
        return None if right and all(each.get("schemas") for each in listed) else "list form"
    return None


async def _remember(app: ASGIApp, token: str, known: Known, sent: Sent, answer: Answered) -> None:
    """Ids to aim at later; the oldest go, so that listings stay short."""
    for kind, ids in (("Users", known.users), ("Groups", known.groups)):
        if answer.status == 201 and answer.headers.get("location", "").split("/")[-2:-1] == [kind]:
            ids.append(answer.headers["location"].rpartition("/")[2])
        if answer.status == 404 and (gone := sent.path.rpartition("/")[2]) in ids:
            ids.remove(gone)
        if len(ids) > _MOST_KEPT:
            await exchange(
                app, "hoekstra", token, Sent(method="DELETE", path=f"{kind}/{ids.pop(0)}")
            )


async def _settled(app: ASGIApp, token: str) -> list[str]:
    """A user and a group of the other organization; their ids."""
    user = {"schemas": [CORE_USER], "userName": FOREIGN, "displayName": FOREIGN}
    made = await exchange(
        app, "neighbour", token, Sent(method="POST", path="Users", body=orjson.dumps(user))
    )
    user_id = orjson.loads(made.body)["id"]
    group = {"displayName": FOREIGN, "members": [{"value": user_id}]}
    made = await exchange(
        app, "neighbour", token, Sent(method="POST", path="Groups", body=orjson.dumps(group))
    )
    return [user_id, orjson.loads(made.body)["id"]]


async def _everything(app: ASGIApp, token: str) -> list[bytes]:
    asked = [Sent(method="GET", path=kind, query="count=1000") for kind in ("Users", "Groups")]
    return [(await exchange(app, "neighbour", token, each)).body for each in asked]
