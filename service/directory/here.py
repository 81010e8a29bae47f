"""Look-ups in SQLite in the caller's own thread: the change to another one and back takes longer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from service.directory.database import Work, is_unavailable, plain_errors

T = TypeVar("T")


class Elsewhere(Exception):
    """Not here and now: another thread is reading, or the file is locked for a moment."""


class Here:
    """A connection for look-ups in the caller's own thread, open as long as it serves.

    Look-ups of one turn of the loop see one moment, unless this process has written meanwhile: to
    begin and end a transaction costs as much as to find a row.
    """

    def __init__(self, engine: Engine) -> None:
        """``engine``: one that waits for no lock."""
        self._engine = engine
        self._connection: Connection | None = None
        self._turn_of: asyncio.AbstractEventLoop | None = None
        self._free = threading.Lock()

    def read(self, work: Work[T]) -> T:
        """Raises Elsewhere where the work is to be done there, from its beginning."""
        if not self._free.acquire(blocking=False):
            raise Elsewhere
        try:
            with plain_errors():
                return work(self._begun())
        except (sqlite3.OperationalError, DBAPIError) as error:
            self._drop()
            if is_unavailable(error) or isinstance(error, sqlite3.OperationalError):
                raise Elsewhere from error
            raise
        finally:
            self._free.release()

    def end(self) -> None:
        """What is looked up from now on is what is there from now on."""
        with self._free:
            self._end()

    def close(self) -> None:
        with self._free:
            self._drop()
            self._engine.dispose()

    def _begun(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._turn_of is not loop:
            self._end()
        if self._connection is None:
            self._connection = self._engine.connect()
        if self._turn_of is None:
            self._sqlite(self._connection).execute("BEGIN")
            self._turn_of = loop
            loop.call_soon(self.end)
        return self._connection

    def _end(self) -> None:
        turn_of, self._turn_of = self._turn_of, None
        if turn_of is not None and self._connection is not None:
            try:
                self._sqlite(self._connection).execute("ROLLBACK")
            except (sqlite3.Error, DBAPIError):  # writers are told after this, whatever went wrong
                self._drop()

    @staticmethod
    def _sqlite(connection: Connection) -> sqlite3.Connection:
        sqlite = connection.connection.driver_connection
        assert isinstance(sqlite, sqlite3.Connection)
        return sqlite

    def _drop(self) -> None:
        connection, self._connection, self._turn_of = self._connection, None, None
        if connection is not None:
            connection.invalidate()
            connection.close()
