"""Databases at this program's revision: made by the migrations once, then copied or lent again.

Knows how one is brought back to that state; nothing of what the tables are for.
"""

from __future__ import annotations

import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg

from service.directory import migrate
from service.directory.database import sqlite_file
from tests.infrastructure.postgres import connected, create_database, drop_database
from tests.infrastructure.processes import run_apart

_REVISION = "alembic_version"
_PATIENCE = "5s"
"""For a lock that an abandoned transaction still holds."""
_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_type = 'client backend'
"""
# A table that was ever written to has a size, also when its rows were taken back.
_WRITTEN = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0
ORDER BY relname
"""
_SHAPE = """
SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
    SELECT concat_ws(' ', relkind, relname, reloptions::text) AS line
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 'a', attrelid::regclass, attname, atttypid, attnotnull, attisdropped)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
    UNION ALL
    SELECT concat_ws(' ', 'c', conrelid::regclass, conname, contype) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT concat_ws(' ', 't', tgrelid::regclass, tgname, tgenabled)
    FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT concat_ws(' ', 'p', proname) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    -- What the planner knows of rows that are gone would outlive them.
    SELECT concat_ws(' ', 's', tablename, attname) FROM pg_stats WHERE schemaname = 'public'
) AS lines
"""


def migrated_sqlite(file: Path) -> str:
    """``sqlite:///…`` of a new database at ``file``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_migrated_file())
    return f"sqlite:///{file}"


def migrated_where_new(url: str) -> str:
    """The same URL: an SQLite file that does not exist yet is made, anything else is left alone."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        migrated_sqlite(file)
    return url


@functools.cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "migrated.db"
        with ThreadPoolExecutor(1) as apart:  # a loop may be running in this thread
            apart.submit(run_apart, migrate.upgrade(f"sqlite:///{file}")).result()
        assert [each.name for each in file.parent.iterdir()] == [file.name], "all is in one file"
        return file.read_bytes()


class Lending:
    """Migrated databases on one Postgres server, each at one test at a time.

    One that comes back is emptied, which costs a fraction of a new one; one whose tables are no
    longer those of the migrations, or were analyzed, is dropped.
    """

    def __init__(self, server_url: str, template: str, shape: str) -> None:
        self._server_url = server_url
        self._template = template
        self._shape = shape
        self._free: list[str] = []

    @classmethod
    async def begin(cls, server_url: str) -> Lending:
        template = await create_database(server_url)
        await migrate.upgrade(template)
        async with connected(template) as connection:
            assert await _written(connection) == [_REVISION], "migrations leave no rows"
            shape = str(await connection.fetchval(_SHAPE))
        return cls(server_url, template, shape)

    async def end(self) -> None:
        for url in [*self._free, self._template]:
            await drop_database(self._server_url, url)

    async def borrow(self) -> str:
        """``postgresql+asyncpg://…`` of a database without rows whose identities begin at 1."""
        if self._free:
            return self._free.pop()
        name = self._template.rpartition("/")[2]
        return await create_database(self._server_url, template=name)

    async def give_back(self, url: str) -> None:
        """Whoever is still connected to it is sent away."""
        if await self._emptied(url):
            self._free.append(url)
        else:
            await drop_database(self._server_url, url)

    async def _emptied(self, url: str) -> bool:
        try:
            async with connected(url) as connection:
                await connection.execute(f"SET lock_timeout = '{_PATIENCE}'")
                await connection.fetch(_OTHERS)
                if await connection.fetchval(_SHAPE) != self._shape:
                    return False
                written = [
                    f'"{table}"' for table in await _written(connection) if table != _REVISION
                ]
                if written:
                    tables = ", ".join(written)
                    await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
                return True
        except (OSError, asyncpg.PostgresError):
            return False


async def _written(connection: asyncpg.Connection) -> list[str]:
    return [row["relname"] for row in await connection.fetch(_WRITTEN)]
