"""Fills our own tables with users of one organization, as if each had been created and applied.

By SQL, since a million requests would take an hour: rows first, their indexes after. The events that
brought the users are not made up.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import orjson
from sqlalchemy.engine import make_url

from bench import people

T = TypeVar("T")
Told = Callable[[str, float], None]
"""Is told what is done, and which share of it."""

_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH: Final = 20_000
_TABLES: Final = ("users", "user_emails", "accounts")
_NO_WORD: Final[Told] = lambda what, share: None  # noqa: E731


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose users these are, and where in Auth0 they live."""

    organization: str
    tenant: str
    connection: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some rows of one table."""

    table: str
    columns: tuple[str, ...]
    values: list[tuple[Any, ...]]


_USERS: Final = (
    *("id", "organization", "resource", "user_name_key", "display_name_key", "external_id"),
    *("active", "identifier", "account_id", "state", "last_applied_at", "version"),
    *("created_at", "modified_at"),
)
_EMAILS: Final = ("user_id", "value_key", "organization")
_ACCOUNTS: Final = (
    *("id", "tenant", "connection", "user_id", "identifier", "revision", "applied_revision"),
    *("observed", "modified_at"),
)


def fill_sqlite(file: Path, place: Place, count: int, tell: Told = _NO_WORD) -> None:
    """Into a migrated file that nobody has open."""
    at = _AT.strftime("%Y-%m-%d %H:%M:%S.%f")
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-262144"):
            database.execute(f"PRAGMA {pragma}")
        found = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
            f" AND tbl_name IN ({_listed(_TABLES)})"
        ).fetchall()
        for name, _ in found:
            database.execute(f'DROP INDEX "{name}"')
        for rows in _rows(place, count, at, tell):
            marks = ", ".join("?" * len(rows.columns))
            database.execute("BEGIN")
            database.executemany(_insert(rows) + f" VALUES ({marks})", rows.values)
            database.execute("COMMIT")
        for done, (_, statement) in enumerate(found, 1):
            database.execute(statement)
            tell("indexes", done / len(found))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill_postgres(url: str, place: Place, count: int, tell: Told = _NO_WORD) -> None:
    """Into a migrated database that nobody is connected to; by a user who may skip foreign keys."""
    asyncio.run(_fill_postgres(url, place, count, tell))


async def _fill_postgres(url: str, place: Place, count: int, tell: Told) -> None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    database = await asyncpg.connect(plain)
    try:
        await database.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            format="binary",
            encoder=lambda text: b"\x01" + text.encode(),  # the version that COPY wants in front
            decoder=lambda data: data[1:].decode(),
        )
        await database.execute("SET session_replication_role = replica")
        found = await database.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            f" AND tablename IN ({_listed(_TABLES)}) AND indexname NOT IN"
            " (SELECT conname FROM pg_constraint)"
        )
        for index in found:
            await database.execute(f'DROP INDEX "{index["indexname"]}"')
        for rows in _rows(place, count, _AT, tell):
            await database.copy_records_to_table(
                rows.table, records=rows.values, columns=rows.columns
            )
        for done, index in enumerate(found, 1):
            await database.execute(index["indexdef"])
            tell("indexes", done / len(found))
        await database.execute(f"VACUUM (ANALYZE) {', '.join(_TABLES)}")
        await database.execute("CHECKPOINT")
    finally:
        await database.close()


def _rows(place: Place, count: int, at: object, tell: Told) -> Generator[Rows]:
    numbers = iter(range(count))
    while batch := list(islice(numbers, _BATCH)):
        made = [_one(place, number, at) for number in batch]
        for table, columns, position in (
            ("accounts", _ACCOUNTS, 0),
            ("users", _USERS, 1),
            ("user_emails", _EMAILS, 2),
        ):
            yield Rows(table=table, columns=columns, values=[row[position] for row in made])
        tell("rows", (batch[-1] + 1) / count)


def _one(place: Place, number: int, at: object) -> Sequence[tuple[Any, ...]]:
    """The rows of the n-th user: account, user, e-mail. An account has the id of its user."""
    made, name = people.user_id(number), people.user_name(number)
    resource = people.resource(number)
    account = (
        *(made, place.tenant, place.connection, f"auth0|{made.replace('-', '')}", name, 1, 1),
        *("{}", at),
    )
    display_name = resource["displayName"].casefold()
    user = (
        *(made, place.organization, orjson.dumps(resource).decode(), name, display_name),
        *(resource["externalId"], True, name, made, "applied", at, 1, at, at),
    )
    return account, user, (made, name, place.organization)


def _insert(rows: Rows) -> str:
    return f"INSERT INTO {rows.table} ({', '.join(rows.columns)})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
