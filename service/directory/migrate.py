"""The schema's revision: brings a database to this program's, and tells whether it is there.

Works in a thread of its own, so that it can be called from a running loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from service.directory import tables
from service.directory.database import postgres_url, sqlite_file
from service.directory.sqlite import sqlite_engine
from service.errors import ConfigurationError

T = TypeVar("T")

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_ONE_AT_A_TIME: Final = threading.Lock()
"""Alembic keeps what it is doing in globals of its modules."""
_LOCK: Final = 0x6175_7468_3070_7276
"""The key of the advisory lock that one upgrade holds on Postgres, the same for every process."""


def newest() -> str:
    """The revision that this program is written for."""
    head = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    assert head is not None
    return head


async def upgrade(url: str) -> None:
    """Brings a database to ``newest()``, in one transaction. Many processes may try at once.

    Raises ConfigurationError where the schema is newer than this program.
    """
    await asyncio.to_thread(run, url, _upgrade)


async def current(url: str) -> str | None:
    """The revision that a database is at; None for one that was never upgraded."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return None
    return await asyncio.to_thread(run, url, _current)


async def is_current(url: str) -> bool:
    """Whether a database is at exactly the revision that this program is written for."""
    return await current(url) == newest()


async def require_current(url: str) -> None:
    """Raises ConfigurationError, which says what to run, unless ``is_current``."""
    found = await current(url)
    if found != newest():
        raise ConfigurationError(_advice(found))


async def differences(url: str) -> list[Any]:
    """Where a database's tables are not those of ``tables``; empty after an upgrade."""
    return await asyncio.to_thread(run, url, _differences)


def run(url: str, work: Callable[[Connection], T]) -> T:
    """``work`` in one transaction that no other migration of this database runs beside."""
    with _ONE_AT_A_TIME:
        file = sqlite_file(url)
        return _on_postgres(url, work) if file is None else _on_sqlite(file, work)


def _on_sqlite(file: Path, work: Callable[[Connection], T]) -> T:
    file.parent.mkdir(parents=True, exist_ok=True)
    engine = sqlite_engine(file)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            result = work(connection)
            connection.commit()
            return result
    finally:
        engine.dispose()


def _on_postgres(url: str, work: Callable[[Connection], T]) -> T:
    def locked(connection: Connection) -> T:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        return work(connection)

    async def connected() -> T:
        engine = create_async_engine(postgres_url(url), poolclass=NullPool)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(locked)
        finally:
            await engine.dispose()

    return asyncio.run(connected())


def _upgrade(connection: Connection) -> None:
    found = _current(connection)
    if found is not None and not _is_known(found):
        raise ConfigurationError(_advice(found))
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _differences(connection: Connection) -> list[Any]:
    return compare_metadata(MigrationContext.configure(connection), tables.metadata)


def _is_known(revision: str) -> bool:
    return any(
        script.revision == revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()
    )


def _advice(found: str | None) -> str:
    if found is None:
        return "The database has no schema yet: run `provisioner db upgrade`, then start again."
    if _is_known(found):
        return (
            f"The database's schema is at revision {found}, this release needs {newest()}:"
            " run `provisioner db upgrade`, then start again."
        )
    return (
        f"The database's schema is at revision {found}, which this release does not know: start"
        " the release whose `provisioner db upgrade` was run last, or a newer one."
    )
