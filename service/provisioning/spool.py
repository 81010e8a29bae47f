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
    """Rows by Auth0's user id, until they are taken: what is left then, nobody has asked for."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._taken = 0
        database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, said BLOB)")

    def put(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO rows VALUES (?, ?)",
            ((user_id, orjson.dumps(said)) for user_id, said in rows),
        )

    def take(self, user_id: str) -> Mapping[str, Any] | None:
        found = self._database.execute(
            "DELETE FROM rows WHERE id = ? RETURNING said", (user_id,)
        ).fetchone()
        if found is None:
            return None
        self._taken += 1
        return orjson.loads(found[0])

    def __len__(self) -> int:
        """How many there were, taken ones among them."""
        left: int = self._database.execute("SELECT count(*) FROM rows").fetchone()[0]
        return self._taken + left

    def unseen(self, after: str, limit: int) -> Sequence[str]:
        """Ids that nobody has taken, in order."""
        query = "SELECT id FROM rows WHERE id > ? ORDER BY id LIMIT ?"
        return [row[0] for row in self._database.execute(query, (after, limit))]


@contextmanager
def spooling() -> Generator[Spool]:
    """An empty spool, gone afterwards."""
    # SQLite keeps a database without a name in the temporary directory, once it outgrows its cache.
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = OFF")
        yield Spool(database)
