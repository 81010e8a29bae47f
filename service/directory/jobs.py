"""What waits to be written to SQLite, and how several of it are done in one transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from service.directory.database import Alike, Together, Work, plain_errors

T = TypeVar("T")
Verdict = tuple[Any, BaseException | None]
"""What work returned or raised."""


@dataclass(frozen=True, slots=True)
class Job:
    work: Work[Any]
    done: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def end(self, verdict: Verdict) -> None:
        """Tells whoever waits. In their loop."""
        result, error = verdict
        if self.done.done():  # its caller has gone away
            return
        if error is None:
            self.done.set_result(result)
        else:
            self.done.set_exception(error)


def attempt_all(connection: Connection, works: Sequence[Work[Any]]) -> list[Verdict]:
    """Each in its savepoint, but for those that are done together in one."""
    done = attempt_alike(connection, works)
    return [
        done[place] if place in done else _attempt(connection, work)
        for place, work in enumerate(works)
    ]


def attempt_alike(
    connection: Connection, works: Sequence[Work[Any]], *, least: int = 2
) -> dict[int, Verdict]:
    """Those that are done together, by place; where they fail, each is to be tried alone. So is one of
    a kind that is not ``least``.
    """
    kinds: dict[Together, dict[int, Any]] = {}
    for place, work in enumerate(works):
        if isinstance(work, Alike):
            kinds.setdefault(work.together, {})[place] = work.item
    done: dict[int, Verdict] = {}
    for together, items in kinds.items():
        if len(items) >= least:
            done |= _attempt_together(connection, together, items)
    return done


def _attempt_together(
    connection: Connection, together: Together, items: Mapping[int, Any]
) -> dict[int, Verdict]:
    """What became of those that were done; where they fail, each is to be tried alone."""
    results, error = _attempt(connection, lambda it: together(it, list(items.values())))
    if results is None or error is not None:
        return {}
    told = zip(items, results, strict=True)
    return {place: (result, None) for place, result in told if result is not None}


def _attempt(connection: Connection, work: Work[T]) -> tuple[T | None, BaseException | None]:
    sqlite = connection.connection.driver_connection
    assert isinstance(sqlite, sqlite3.Connection)
    sqlite.execute("SAVEPOINT job")
    try:
        with plain_errors():
            result = work(connection)
    except BaseException as error:
        if not sqlite.in_transaction:  # a full disk and the like end the whole transaction
            raise
        sqlite.execute("ROLLBACK TO job")
        sqlite.execute("RELEASE job")
        return None, error
    sqlite.execute("RELEASE job")
    return result, None
