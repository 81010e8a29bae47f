"""Turns of processes that write to one SQLite file. SQLite lets whoever asks first after a commit write, and
has all others ask again later: a process that never rests would keep them out for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

_ASKS_EVERY: Final = 0.001
_NEXT, _TURN = 0, 1
"""Bytes of the file that are locked: whose turn is next, and whose it is."""


class Turnstile:
    """Who waits is next, and nobody has two turns before that one: not even whoever has it now.

    ``patience``: seconds after which a turn is taken without one; SQLite's own lock stands anyway.
    """

    def __init__(self, database: Path, *, patience: float) -> None:
        self._path = database.with_name(f"{database.name}-turns")
        self._file: int | None = None
        self._patience = patience

    @contextlib.contextmanager
    def turn(self) -> Generator[None]:
        """Ours from here to the end of the block. For one thread at a time."""
        deadline = time.monotonic() + self._patience
        with self._holding(_TURN, deadline, after=_NEXT):
            yield

    def take_at_once(self) -> bool:
        """A turn where nobody has one or waits for one; ``give_back`` ends it."""
        now = time.monotonic()
        if not self._take(_NEXT, now):
            return False
        has_turn = self._take(_TURN, now)
        self._give_back(_NEXT)
        return has_turn

    def give_back(self) -> None:
        self._give_back(_TURN)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextlib.contextmanager
    def _holding(self, what: int, deadline: float, *, after: int) -> Generator[None]:
        held = self._take(after, deadline)
        try:
            has_turn = self._take(what, deadline)
        finally:
            if held:
                self._give_back(after)
        try:
            yield
        finally:
            if has_turn:
                self._give_back(what)

    def _take(self, byte: int, deadline: float) -> bool:
        while True:
            try:
                fcntl.lockf(self._opened(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except BlockingIOError:  # somebody else has it
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_ASKS_EVERY)
            except OSError:  # a file system without locks, a full disk: SQLite says what is wrong
                return False
            else:
                return True

    def _give_back(self, byte: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._opened(), fcntl.LOCK_UN, 1, byte)

    def _opened(self) -> int:
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
        return self._file
