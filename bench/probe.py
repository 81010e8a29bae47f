"""Whether a server does what is about to be measured: a fast wrong answer is worth nothing."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

import orjson

from bench import people
from bench.contenders import Running
from bench.load import patch_body

_NUMBER: Final = 90_000_000
"""A user that no load creates."""

Ask = Callable[[str, str, bytes | None], tuple[int, dict[str, Any]]]


class WrongAnswerError(Exception):
    """The server does not do what it is measured for."""


def until_answering(running: Running, within: float = 60) -> None:
    """Returns once the server answers anything. Raises WrongAnswerError."""
    deadline = time.monotonic() + within
    while running.process.exit_status is None and time.monotonic() < deadline:
        try:
            _ask(running)("GET", "/Users/nobody", None)
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        else:
            return
    raise WrongAnswerError(f"it does not answer\n{running.process}")


def check(running: Running, *, remembers: bool) -> None:
    """Creates, finds and changes one user. ``remembers``: what it was told shows in later answers.

    Raises WrongAnswerError.
    """
    ask = _ask(running)
    name = people.user_name(_NUMBER)
    status, made = ask("POST", "/Users", orjson.dumps(people.request_body(_NUMBER)))
    _require(status == 201 and made.get("userName") == name, "create", status, made)
    path = f"/Users/{made['id']}"
    status, got = ask("GET", path, None)
    _require(status == 200 and got.get("id") == made["id"], "get", status, got)
    asked = quote(f'userName eq "{name}"')
    status, found = ask("GET", f"/Users?filter={asked}", None)
    names = [user["userName"] for user in found.get("Resources", [])]
    _require(status == 200 and names == [name], "userName eq", status, found)
    status, changed = ask("PATCH", path, patch_body("Conductor"))
    _require(status in (200, 204), "PATCH", status, changed)
    status, got = ask("GET", path, None)
    _require(not remembers or got.get("title") == "Conductor", "PATCH, then get", status, got)


def check_stored(running: Running, user_id: str, user_name: str) -> None:
    """Whether users who are there already are found. Raises WrongAnswerError."""
    ask = _ask(running)
    status, got = ask("GET", f"/Users/{user_id}", None)
    _require(status == 200 and got.get("id") == user_id, "get", status, got)
    asked = quote(f'userName eq "{user_name}"')
    status, found = ask("GET", f"/Users?filter={asked}", None)
    names = [user["userName"] for user in found.get("Resources", [])]
    _require(status == 200 and names == [user_name], "userName eq", status, found)


def _require(right: bool, what: str, status: int, document: object) -> None:
    if not right:
        raise WrongAnswerError(f"{what} was answered with {status}: {document!r}")


def _ask(running: Running) -> Ask:
    headers = {
        "Authorization": f"Bearer {running.token}",
        "Content-Type": "application/scim+json",
    }

    def ask(method: str, target: str, body: bytes | None) -> tuple[int, dict[str, Any]]:
        with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)) as there:
            there.request(method, running.path + target, body, headers)
            answer = there.getresponse()
            read = answer.read()
            try:
                return answer.status, orjson.loads(read) if read else {}
            except orjson.JSONDecodeError:
                return answer.status, {}

    return ask
