"""Equality on what identity providers look for by is answered from an index, on SQLite too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from scim.filter import parse_filter
from scim.schema import load_catalogue
from service.directory import search, tables
from service.directory.database import sqlite_engine
from service.directory.pages import Query

CATALOGUE = load_catalogue()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = sqlite_engine(tmp_path / "directory.db")
    with engine.connect() as connection:
        tables.metadata.create_all(connection)
        yield connection
    engine.dispose()


@pytest.mark.parametrize(
    ("kind", "wanted", "indexes"),
    [
        ("users", 'userName eq "x"', ["uq_users_user_name"]),
        ("users", 'id eq "x"', ["sqlite_autoindex_users_1"]),
        ("users", 'externalId eq "x"', ["organization_external_id"]),
        ("users", 'displayName eq "x"', ["organization_display_name_key"]),
        ("users", 'emails.value eq "x"', ["user_emails", "users"]),
        ("users", 'userName eq "x" and active eq true', ["uq_users_user_name"]),
        ("groups", 'displayName eq "x"', ["organization_display_name_key"]),
        ("groups", 'externalId eq "x"', ["organization_external_id"]),
    ],
)
def test_equality_is_answered_from_an_index(
    connection: Connection, kind: str, wanted: str, indexes: list[str]
) -> None:
    told: list[str] = []

    def explain(
        of: Connection, cursor: object, statement: str, values: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith("SELECT"):
            plan = of.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            told.extend(str(row[3]) for row in plan)

    event.listen(connection, "before_cursor_execute", explain)
    resource_type = CATALOGUE.user if kind == "users" else CATALOGUE.group
    query = Query(where=parse_filter(wanted, resource_type, tolerant=True))
    find = search.users if kind == "users" else search.groups_page
    find(connection, "hoekstra", query)
    searches = [line for line in told if line.startswith("SEARCH")]
    assert not [line for line in told if line.startswith("SCAN")], told
    for index in indexes:
        assert any(index in line for line in searches), told
    assert all("(organization=?)" not in line for line in searches), told
