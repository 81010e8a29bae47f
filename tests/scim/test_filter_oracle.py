"""Filters find the resources that scim2-models' evaluator finds, of any resources, on both databases.

Where we decide otherwise tests.scim.generated leaves it out, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scim2_models import EnterpriseUser, ScimFilter
from scim2_models import User as ModelUser

from scim.filter import parse_filter
from scim.representation import user_document
from scim.resource import Profile
from scim.schema import PROVISIONING, load_catalogue
from service.directory import organizations, search, users
from service.directory.database import Database, Transaction, open_database
from service.directory.inbox import Received
from service.directory.search import Query
from service.people import User
from tests.infrastructure.examples import tried_on
from tests.infrastructure.postgres import create_database, drop_database
from tests.scim.client import create_tables, organization, register
from tests.scim.generated import NOW, Resource, filters, resources

USER = load_catalogue().user
PROFILE = Profile(resource_type=USER)
MODEL: Any = ModelUser[EnterpriseUser]
Found = tuple[set[str], set[str]]
"""userNames that we find, and those that the evaluator finds."""
Compare = Callable[[Sequence[Resource], Sequence[str]], list[Found]]


class _Undo(Exception):
    """Ends a transaction that is to leave nothing behind; carries what it found."""


def compared(
    transaction: Transaction, listed: Sequence[Resource], texts: Sequence[str]
) -> list[Found]:
    registered = organizations.find(transaction, "hoekstra")
    assert registered is not None
    stored: dict[str, Any] = {}
    for number, resource in enumerate(listed):
        made = PROFILE.normalise({**resource, "userName": f"{resource['userName']}{number}"})
        received = Received(door="scim", source="scim", type="scim.user.created", at=NOW)
        user = users.create(transaction, registered, {"active": True, **made}, received)
        stored[made["userName"]] = MODEL.model_validate(shown(user))
    return [
        (found(transaction, text), {name for name, each in stored.items() if fulfils(each, text)})
        for text in texts
    ]


def fulfils(resource: Any, text: str) -> bool:
    return ScimFilter[MODEL](text).match(resource)


def found(transaction: Transaction, text: str) -> set[str]:
    where = parse_filter(text, USER, tolerant=False)
    page = search.users(transaction, "hoekstra", Query(where=where, limit=1000))
    return {(user.resource or {})["userName"] for user in page.items}


def shown(user: User) -> Resource:
    """A user as clients see it; the evaluator's model knows no extension of ours."""
    document = orjson.loads(orjson.dumps(user_document(user, USER, "https://a.example")))
    del document[PROVISIONING]
    document["schemas"].remove(PROVISIONING)
    return document


async def _compared(
    database: Database, listed: Sequence[Resource], texts: Sequence[str]
) -> list[Found]:
    def work(transaction: Transaction) -> None:
        raise _Undo(compared(transaction, listed, texts))

    try:
        await database.transact(work)
    except _Undo as undo:
        return undo.args[0]
    raise AssertionError("the transaction was not undone")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def compare(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compare]:
    """Stores resources, asks both for those that fulfil each filter, and forgets them again."""
    with asyncio.Runner() as runner:
        server: str | None = None
        if request.param == "sqlite":
            url = f"sqlite:///{Path(tmp_path_factory.mktemp('oracle')) / 'directory.db'}"
        else:
            server = str(request.getfixturevalue("postgres_url"))
            url = runner.run(create_database(server))
        database = open_database(url)
        runner.run(create_tables(database))
        runner.run(register(database, organization()))
        yield lambda listed, texts: runner.run(_compared(database, listed, texts))
        runner.run(database.close())
        if server is not None:
            runner.run(drop_database(server, url))


@tried_on(100)
@given(
    listed=st.lists(resources, min_size=1, max_size=4),
    texts=st.lists(filters, min_size=1, max_size=4),
)
def test_filters_find_what_an_independent_evaluator_finds(
    compare: Compare, listed: list[Resource], texts: list[str]
) -> None:
    for text, (ours, expected) in zip(texts, compare(listed, texts), strict=True):
        assert ours == expected, text
