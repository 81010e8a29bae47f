"""Whatever is sent, the door answers in SCIM form and never with a 500."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from scim.app import create_app
from scim.errors import ERROR_SCHEMA
from scim.listing import LIST_SCHEMA
from service.clock import SystemClock
from service.directory.database import open_database
from tests.infrastructure.examples import tried_on
from tests.scim.client import ENTERPRISE, PEPPER, create_tables, organization, register
from tests.scim.extremes import Sent
from tests.scim.fuzzed import FOREIGN, Answered, fault, fuzz, holding_passwords
from tests.scim.fuzzing import SECRET

Send = Callable[[str, str, str, bytes], tuple[int, dict[str, Any] | None]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def send(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Send]:
    """Sends method, path, query and body straight to the door; gives status and document."""
    if request.param == "sqlite":
        url, drop = f"sqlite:///{tmp_path_factory.mktemp('fuzz') / 'directory.db'}", None
    else:
        from tests.infrastructure.postgres import create_database, drop_database

        server = str(request.getfixturevalue("postgres_url"))
        url = asyncio.run(create_database(server))
        drop = (drop_database, server)
    with asyncio.Runner() as runner:
        database = open_database(url)
        runner.run(create_tables(database))
        token = runner.run(register(database, organization()))
        app = create_app(database=database, clock=SystemClock(), pepper=PEPPER)

        async def exchange(method: str, path: str, query: str, body: bytes) -> list[Message]:
            sent: list[Message] = []
            scope = {
                "type": "http",
                "method": method,
                "path": f"/hoekstra/{path}",
                "query_string": query.encode("utf-8", "replace"),
                "headers": [(b"authorization", f"Bearer {token}".encode())],
            }

            async def receive() -> Message:
                return {"type": "http.request", "body": body}

            async def collect(message: Message) -> None:
                sent.append(message)

            await app(scope, receive, collect)
            return sent

        def exchanged(
            method: str, path: str, query: str, body: bytes
        ) -> tuple[int, dict[str, Any] | None]:
            start, end = runner.run(exchange(method, path, query, body))
            return start["status"], orjson.loads(end["body"]) if end["body"] else None

        yield exchanged
        runner.run(database.close())
        if drop is not None:
            runner.run(drop[0](drop[1], url))


NAMES = [
    "userName", "USERNAME", "active", "emails", "name", "name.givenName", "displayName", "members",
    "manager", "password", "id", "meta", "schemas", "groups", ENTERPRISE, f"{ENTERPRISE}:manager",
    'emails[type eq "work"].value', 'members[value eq "x"]', "nosuch", "value", "type", "primary",
    "op", "path", "Operations", "filter", "count", "attributes",
]  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**63), max_value=2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["", "True", "work", "a\x00b", "\ud7ff", "%", "x" * 3000, *NAMES]),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), inner, max_size=5),
    ),
    max_leaves=15,
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "Replace", "remove", "x", 7])},
    optional={
        "path": st.one_of(st.sampled_from(NAMES), st.text(max_size=12), scalars),
        "value": documents,
    },
)
patches = st.fixed_dictionaries({"Operations": st.lists(operations, min_size=1, max_size=4)})
users = st.fixed_dictionaries(
    {"userName": st.one_of(st.text(max_size=8), st.sampled_from(["lena", "mira"]))},
    optional={name: documents for name in NAMES if name != "userName"},
)
groups = st.fixed_dictionaries(
    {"displayName": st.text(max_size=8)}, optional={"members": documents, "externalId": documents}
)
bulk_ids = st.sampled_from(["a", "b", 7, "", "\U0001f600", None])
references = st.sampled_from(
    ["bulkId:a", "bulkId:b", 'x[value eq "bulkId:a"]', "../Users/bulkId:b"]
)
entries = st.fixed_dictionaries(
    {"method": st.sampled_from(["POST", "post", "PUT", "PATCH", "DELETE", "GET", None, 7])},
    optional={
        "path": st.sampled_from(
            ["/Users", "/Groups", "/Users/x", "/Groups/bulkId:a", "/Users/bulkId:b", "?", "/", 7]
        ),
        "bulkId": bulk_ids,
        "version": scalars,
        "data": st.one_of(
            documents,
            users,
            groups,
            patches,
            st.fixed_dictionaries({"userName": references, ENTERPRISE: references}),
            st.fixed_dictionaries({"displayName": scalars, "members": references}),
        ),
    },
)
bulks = st.fixed_dictionaries(
    {"Operations": st.lists(st.one_of(entries, documents), max_size=6)},
    optional={"failOnErrors": st.one_of(st.integers(-1, 3), scalars), "schemas": documents},
)
tokens = st.sampled_from(
    [
        *NAMES, "eq", "ne", "co", "sw", "ew", "gt", "le", "pr", "and", "or", "not", "(", ")", "[",
        "]", '"x"', '"\\u0000"', '"\\ud800"', "true", "null", "42", "-1.5e9", "1e999", ".", ":", "\\",
        '"', "meta.created", "meta.version", "members.value", '"2026-11-22T00:00:00Z"', "'",
    ]
)  # fmt: skip
filters = st.lists(tokens, max_size=9).map(" ".join)
bodies = st.one_of(
    documents.map(lambda document: orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)),
    st.binary(max_size=40),
)


def assert_answered(status: int, document: dict[str, Any] | None) -> None:
    assert status < 500, document
    if status >= 400:
        assert document is not None
        assert document["status"] == str(status)
        assert document["detail"]


def encoded(query: str) -> str:
    from urllib.parse import quote

    return quote(query)


@tried_on(150)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "BREW"]),
    path=st.one_of(
        st.sampled_from(
            ["Users", "Groups", "Users/x", "Groups/x", "Users/.search", "Schemas", "Bulk"]
        ),
        st.text(max_size=20).filter(lambda path: not path.strip("/").startswith("Me")),
    ),
    query=st.text(max_size=30),
    body=bodies,
)
def test_any_request_is_answered(
    send: Send, method: str, path: str, query: str, body: bytes
) -> None:
    status, document = send(method, path, query, body)
    if method == "HEAD":
        assert document is None
        assert status < 500
    else:
        assert_answered(status, document)


@tried_on(150)
@given(user=users, patch=patches, after=users)
def test_any_user_and_patch_are_answered(
    send: Send, user: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    status, document = send("POST", "Users", "", orjson.dumps(user))
    assert_answered(status, document)
    if status != 201 or document is None:
        return
    path = f"Users/{document['id']}"
    assert_answered(*send("PATCH", path, "", orjson.dumps(patch)))
    assert_answered(*send("PUT", path, "", orjson.dumps(after)))
    status, document = send("GET", path, "", b"")
    assert status == 200
    assert document is not None
    assert "password" not in document
    # What is shown can be sent back.
    assert_answered(*send("PUT", path, "", orjson.dumps(document)))


@tried_on(100)
@given(group=groups, patch=patches)
def test_any_group_and_patch_are_answered(
    send: Send, group: dict[str, Any], patch: dict[str, Any]
) -> None:
    status, document = send("POST", "Groups", "", orjson.dumps(group))
    assert_answered(status, document)
    if status == 201 and document is not None:
        assert_answered(*send("PATCH", f"Groups/{document['id']}", "", orjson.dumps(patch)))


@tried_on(150)
@given(bulk=bulks)
def test_any_bulk_is_answered(send: Send, bulk: dict[str, Any]) -> None:
    status, document = send("POST", "Bulk", "", orjson.dumps(bulk))
    assert_answered(status, document)
    for entry in (document or {}).get("Operations", []):
        assert_answered(int(entry["status"]), entry.get("response"))


@tried_on(250)
@given(
    kind=st.sampled_from(["Users", "Groups"]),
    wanted=filters,
    sort=st.one_of(st.none(), tokens, st.text(max_size=5)),
)
def test_any_filter_and_sorting_are_answered(
    send: Send, kind: str, wanted: str, sort: str | None
) -> None:
    query = f"filter={encoded(wanted)}" + (f"&sortBy={encoded(sort)}" if sort else "")
    assert_answered(*send("GET", kind, query, b""))
    assert_answered(*send("GET", kind, f"sortBy={encoded(sort or '')}", b""))


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_requests_are_answered_in_form_and_leak_nothing(
    tmp_path: Path, seed: int
) -> None:
    """``FUZZ_REQUESTS`` sends more; ``python -m bench.fuzz`` sends a hundred thousand."""
    requests = int(os.environ.get("FUZZ_REQUESTS", "600"))
    met = await fuzz(tmp_path, seed=seed, requests=requests)
    assert met.findings == []
    assert {200, 201, 204, 400, 404} <= met.statuses.keys()


def test_a_password_in_a_file_of_the_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "fuzz.db").write_bytes(b"\x00" + SECRET.encode())
    assert holding_passwords(tmp_path) == ["fuzz.db holds a password"]


@pytest.mark.parametrize(
    ("status", "document", "wrong"),
    [
        (500, {"schemas": ["x"]}, "status 500"),
        (200, {"schemas": ["x"], "title": SECRET}, "a password is told"),
        (200, {"schemas": ["x"], "title": FOREIGN}, "another organization's data is shown"),
        (404, {"schemas": ["x"], "status": "404", "detail": "x"}, "error form"),
        (404, {"schemas": [ERROR_SCHEMA], "status": 404, "detail": "x"}, "error form"),
        (200, {"schemas": [LIST_SCHEMA], "Resources": [], "totalResults": "0"}, "list form"),
        (200, {"id": "x"}, "no schemas"),
    ],
)
def test_wrong_answers_are_told_from_right_ones(
    status: int, document: dict[str, Any], wrong: str
) -> None:
    body = orjson.dumps(document)
    headers = {"content-type": "application/scim+json", "content-length": str(len(body))}
    sent = Sent(method="GET", path="Users")
    assert fault(sent, Answered(status=status, headers=headers, body=body)) == wrong
    fine = orjson.dumps({"schemas": ["x"]})
    right = Answered(status=200, headers={**headers, "content-length": str(len(fine))}, body=fine)
    assert fault(sent, right) is None
