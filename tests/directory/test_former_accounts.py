"""To look for an account that somebody had costs the same, however many accounts there are."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from service.directory import moves
from service.directory.database import Database, Transaction
from tests.directory.crowd import settle_in

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_who_never_moved_is_not_looked_for_among_everybody(database: Database) -> None:
    await database.transact(lambda tx: settle_in(tx, "hoekstra", 3000, NOW))

    def steps(tx: Transaction) -> int:
        """Thousands of steps of SQLite's machine; 0 on Postgres, which has statistics."""
        counted: list[int] = []
        driver = tx.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            driver.set_progress_handler(lambda: counted.append(1), 1000)
        try:
            assert moves.had(tx, "nobody", "main", "hoekstra-users") is None
        finally:
            if isinstance(driver, sqlite3.Connection):
                driver.set_progress_handler(None, 0)
        return len(counted)

    assert await database.transact(steps) <= 1
