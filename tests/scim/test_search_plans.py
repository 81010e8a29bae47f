"""What identity providers look for by, and pages wherever they are, come from indexes on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from scim.filter import parse_filter
from scim.listing import Window, asked_by
from scim.resource import Profile
from scim.schema import load_catalogue
from service.directory import search, tables
from service.directory.database import open_database
from service.directory.pages import Position, Query, Walk
from tests.infrastructure.postgres import create_database, drop_database

CATALOGUE = load_catalogue()
NOW = datetime(2026, 11, 22, tzinfo=UTC)
SIZE = 8000
Explain = Callable[[str, Query], list[str]]


def owner(number: int) -> str:
    """Several organizations lie between each other."""
    return f"neighbour-{number % 4}" if number % 4 else "hoekstra"


def fill(transaction: Connection) -> None:
    users: list[dict[str, Any]] = []
    for number in range(SIZE):
        name = f"user-{number}"
        resource = {
            "userName": name,
            "title": f"title {number}",
            "emails": [{"value": f"{name}@x.example", "type": "work"}],
        }
        users.append(
            {
                "id": f"01980000-{number:04x}-7000-8000-{number:012x}",
                "organization": owner(number),
                "resource": resource,
                "user_name_key": name,
                "display_name_key": f"person {number}",
                "external_id": f"e-{number}",
                "state": "applied",
                "version": 1,
                "created_at": NOW,
                "modified_at": NOW,
            }
        )
    emails = [
        {
            "user_id": user["id"],
            "value_key": f"{user['user_name_key']}@x.example",
            "organization": user["organization"],
        }
        for user in users
    ]
    shared = ("id", "organization", "display_name_key", "external_id", "version", "created_at")
    groups = [
        {name: user[name] for name in (*shared, "modified_at")}
        | {"resource": {"displayName": user["display_name_key"]}}
        for user in users
    ]
    transaction.execute(tables.users.insert(), users)
    transaction.execute(tables.user_emails.insert(), emails)
    transaction.execute(tables.groups.insert(), groups)
    # Everybody is in the group that has their id.
    transaction.execute(
        tables.members.insert(),
        [{"group_id": user["id"], "user_id": user["id"]} for user in users],
    )
    if transaction.dialect.name == "postgresql":  # whose server does so by itself
        transaction.execute(text("ANALYZE"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def explain(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Explain]:
    """The database's plan, line by line, of all that a query for users or groups runs."""
    with asyncio.Runner() as runner:
        server: str | None = None
        if request.param == "sqlite":
            url = f"sqlite:///{Path(tmp_path_factory.mktemp('plans')) / 'directory.db'}"
        else:
            server = str(request.getfixturevalue("postgres_url"))
            url = runner.run(create_database(server))
        database = open_database(url)
        runner.run(database.transact(tables.metadata.create_all))
        runner.run(database.transact(fill))

        def explained(kind: str, query: Query) -> list[str]:
            find = search.users if kind == "users" else search.groups_page
            return runner.run(
                database.read(lambda tx: _plan(tx, lambda: find(tx, "hoekstra", query)))
            )

        yield explained
        runner.run(database.close())
        if server is not None:
            runner.run(drop_database(server, url))


def _plan(transaction: Connection, run: Callable[[], object]) -> list[str]:
    told: list[str] = []
    words = "EXPLAIN" if transaction.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"

    def ask(
        of: Connection, _: object, statement: str, values: tuple[object, ...], *__: Any
    ) -> None:
        if statement.startswith("SELECT"):
            told.extend(str(row[-1]) for row in of.exec_driver_sql(f"{words} {statement}", values))

    event.listen(transaction, "before_cursor_execute", ask)
    try:
        run()
    finally:
        event.remove(transaction, "before_cursor_execute", ask)
    assert told
    return told


def assert_found_by(plan: list[str], *indexes: str) -> None:
    """Only by these indexes, by more than the organization's name, and by reading no table whole."""
    for line in plan:
        assert not line.startswith("SCAN users"), plan
        assert not line.startswith("SCAN groups"), plan
        assert "(organization=?)" not in line, plan
        assert "Seq Scan" not in line, plan
        assert "_listed" not in line or "ix_users_listed" in indexes, plan
    for index in indexes:
        assert any(index in line for line in plan), plan


ID = ("autoindex_users_1", "pk_users")
GROUP_ID = ("autoindex_groups_1", "pk_groups")
EQUALITIES: list[tuple[str, str, tuple[str, ...]]] = [
    ("users", 'userName eq "user-16"', ("uq_users_user_name",)),
    ("users", 'id eq "01980000-0010-7000-8000-000000000010"', ID),
    ("users", 'externalId eq "e-16"', ("ix_users_organization_external_id",)),
    ("users", 'displayName eq "Person 16"', ("ix_users_organization_display_name_key",)),
    ("users", 'emails.value eq "user-16@x.example"', ("ix_user_emails_organization_value_key",)),
    ("users", 'emails eq "user-16@x.example"', ("ix_user_emails_organization_value_key",)),
    (
        "users",
        'emails[type eq "work"].value eq "user-16@x.example"',
        ("ix_user_emails_organization_value_key",),
    ),
    (
        "users",
        'emails[value eq "user-16@x.example" and type eq "work"]',
        ("ix_user_emails_organization_value_key",),
    ),
    ("groups", 'id eq "01980000-0010-7000-8000-000000000010"', GROUP_ID),
    ("groups", 'displayName eq "Person 16"', ("ix_groups_organization_display_name_key",)),
    ("groups", 'externalId eq "e-16"', ("ix_groups_organization_external_id",)),
]
RESTS = ["", ' and meta.created ge "2020-01-01"', ' and not (externalId eq "x")']


@pytest.mark.parametrize(
    ("kind", "wanted", "indexes"), EQUALITIES, ids=lambda value: str(value)[:40]
)
def test_equality_is_answered_from_an_index(
    explain: Explain, kind: str, wanted: str, indexes: tuple[str, ...]
) -> None:
    resource_type = CATALOGUE.user if kind == "users" else CATALOGUE.group
    for rest in RESTS:
        where = parse_filter(wanted + rest, resource_type, tolerant=True)
        for query in (
            Query(where=where),
            Query(where=where, limit=0),
            Query(where=where, walk=Walk()),
            Query(where=where, walk=Walk(position=Position(id="01980000"), backward=True)),
        ):
            plan = explain(kind, query)
            assert_found_by(plan)
            assert any(index in line for index in indexes for line in plan), plan


@pytest.mark.parametrize("kind", ["users", "groups"])
@pytest.mark.parametrize("sort_by", [None, "displayName", "userName"])
@pytest.mark.parametrize("backward", [False, True])
def test_a_page_far_into_a_walk_reads_no_further_than_its_end(
    explain: Explain, kind: str, sort_by: str | None, backward: bool
) -> None:
    if (kind, sort_by) == ("groups", "userName"):
        sort_by = "displayName"
    resource_type = CATALOGUE.user if kind == "users" else CATALOGUE.group
    key = {None: None, "displayName": "person 3", "userName": "user-3"}[sort_by]
    walk = Walk(
        position=Position(
            id="01980000-0bb8-7000-8000-000000000bb8", key=key, kind="string" if key else None
        ),
        backward=backward,
    )
    asked = asked_by({"sortby": sort_by} if sort_by else {})
    profile = Profile(resource_type=resource_type, tolerant=True)
    plan = explain(kind, asked.query(profile, Window(limit=100, walk=walk, counted=False)))
    indexes = {
        # Postgres also goes by all ids where a quarter of them are the organization's.
        None: ("ix_users_listed", "ix_groups_organization_id", f"pk_{kind}"),
        "displayName": (f"ix_{kind}_organization_display_name_key",),
        "userName": ("uq_users_user_name",),
    }[sort_by]
    if sort_by is None:
        assert any(index in line for index in indexes for line in plan), plan
        assert any("id>?" in line or "id<?" in line or "Index Cond: " in line for line in plan)
    else:
        assert_found_by([line for line in plan if "NULL" not in line], *indexes)
    # Equal names are put in order by id; nothing more is sorted.
    assert not any(line.strip().startswith(("Sort  ", "->  Sort")) for line in plan), plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan, plan
