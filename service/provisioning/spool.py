"""What was read of a tenant, kept on disk while it is compared: memory stays as it is.

The file has no name, so that nothing of it is left once the process ends, however it does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import orjson


class Spool:
    """Rows by Auth0's user id; those that were taken are marked as seen."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, seen INTEGER, said BLOB)")

    def put(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, 0, ?)",
            ((user_id, orjson.dumps(said)) for user_id, said in rows),
        )

    def take(self, user_id: str) -> Mapping[str, Any] | None:
        found = self._database.execute(
            "UPDATE rows SET seen = 1 WHERE id = ? RETURNING said", (user_id,)
        ).fetchone()
        return orjson.loads(found[0]) if found is not None else None

    def __len__(self) -> int:
        return self._database.execute("SELECT count(*) FROM rows").fetchone()[0]

    def unseen(self, after: str, limit: int) -> Sequence[str]:
        """Ids that nobody has taken, in order."""
        query = "SELECT id FROM rows WHERE seen = 0 AND id > ? ORDER BY id LIMIT ?"
        return [row[0] for row in self._database.execute(query, (after, limit))]


@contextmanager
def spooling() -> Generator[Spool]:
    """An empty spool, gone afterwards."""
    # SQLite keeps a database without a name in the temporary directory, once it outgrows its cache.
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = OFF")
        yield Spool(database)
