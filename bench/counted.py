"""The program in a process that counts the statements it sends to its database.

``python -m bench.counted serve …`` is ``provisioner serve …``. On SIGUSR1 it writes a JSON line on
standard output: how many statements so far beside those that only open and close a transaction, and the
most frequent. Knows nothing of what they are for.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections import Counter
from typing import Any, Final

import orjson
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy import event
from sqlalchemy.pool import Pool

_MOST_NAMED: Final = 40
_AROUND: Final = ("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PRAGMA")
"""What only opens and closes a transaction, or a connection."""
_SPACES: Final = re.compile(r"\s+")
_LITERALS: Final = re.compile(r"'[^']*'|\b\d+\b")


class Statements:
    """How often each statement was sent, by its text without what it asks for."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def follow(self, connection: Any, _: object) -> None:
        """Counts what a new connection of either driver sends."""
        driver = getattr(connection, "driver_connection", connection)
        if hasattr(driver, "set_trace_callback"):
            driver.set_trace_callback(self.count)
        else:
            driver.add_query_logger(lambda record: self.count(record.query))

    def count(self, statement: str) -> None:
        self._seen[statement[:400]] += 1

    def tell(self, *_: object) -> None:
        kinds: Counter[str] = Counter()
        for statement, times in dict(self._seen).items():  # other threads go on
            if statement.lstrip().startswith(_AROUND):
                continue
            kinds[_SPACES.sub(" ", _LITERALS.sub("?", statement)).strip()[:160]] += times
        told = {"statements": kinds.total(), "kinds": dict(kinds.most_common(_MOST_NAMED))}
        os.write(1, orjson.dumps(told) + b"\n")


def _follow_prepared(statements: Statements) -> None:
    """asyncpg's loggers are told of no statement that was prepared before."""
    name = "_PreparedStatement__do_execute"
    execute = getattr(PreparedStatement, name)

    def counted(self: Any, *given: Any) -> Any:
        statements.count(self._query)
        return execute(self, *given)

    setattr(PreparedStatement, name, counted)


def main() -> None:
    statements = Statements()
    _follow_prepared(statements)
    event.listen(Pool, "connect", statements.follow)
    signal.signal(signal.SIGUSR1, statements.tell)
    from operators.cli import main as provisioner

    provisioner()


if __name__ == "__main__":
    sys.exit(main())
