"""Writes to SQLite that are alike, carried out in the loop's own thread and committed in another one.

A thread beside a busy loop has the interpreter only when the loop rests, and gives it up with each
statement. So the statements come first, here; while their commit waits for the disk, the loop answers
those of the turn before.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Engine

from service.directory.database import is_unavailable
from service.directory.jobs import Job, Verdict, attempt_alike
from service.directory.turnstile import Turnstile

_FEW, _MOST = 8, 64
"""Jobs of a turn, at least where so many wait, and at most."""
_LONG: Final = 0.05
"""Seconds after which a turn has kept the loop too long, as where the file is not in memory."""
_REST: Final = 0.25
"""Seconds for which there is none after such a one."""
_COURTESY: Final = 0.05
"""Seconds that another thread waits for the loop to take a turn that it wants."""
_START: Final = 0.002
"""Seconds that the loop waits for a commit to begin, at most: else it would begin when the loop rests."""

_Ended = tuple[asyncio.AbstractEventLoop, Sequence[tuple[Job, Verdict]]]
Elsewhere = Callable[[Sequence[Job]], None]
"""Takes what is not done here, to be done by a thread."""


class LoopTurns:
    """Turns of one loop. ``engine``: of connections that wait for no lock.

    ``writing`` is held by whoever writes, in this process. ``written`` is called in the loop before
    anybody is told.
    """

    def __init__(
        self,
        engine: Engine,
        turnstile: Turnstile,
        writing: threading.Lock,
        *,
        elsewhere: Elsewhere,
        written: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._turnstile = turnstile
        self._writing = writing
        self._elsewhere = elsewhere
        self._written = written
        self._to_commit: queue.SimpleQueue[_Ended | None] = queue.SimpleQueue()
        self._committing = threading.Thread(target=self._commit_all, name="sqlite-commit")
        self._committing.daemon = True
        self._committing.start()
        self._connection: Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Job] = deque()
        self._under_way = False
        self._last = 0
        self._not_before = 0.0
        self._wanted = False
        self._taken = threading.Event()
        # A plain lock, given back where a commit begins: an Event makes a lock of its own for each wait.
        self._at_it = threading.Lock()

    def take(self, job: Job) -> bool:
        """Whether it is done here, with whoever is ready in this turn of the loop, or handed over later."""
        if self._loop is not job.loop:
            if self._loop is not None and not self._loop.is_closed():
                return False
            self._loop, self._under_way = job.loop, False
            self._waiting.clear()
        if time.monotonic() < self._not_before:
            return False
        self._waiting.append(job)
        if len(self._waiting) == 1 and not self._under_way:
            job.loop.call_soon(self._turn)
        return True

    def let(self) -> None:
        """For another thread that has written and goes on: the loop has a turn first, if it wants one."""
        self._taken.clear()
        if self._wake():
            self._taken.wait(_COURTESY)

    def hand_over(self) -> None:
        """Has all that waits done elsewhere."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._elsewhere(waiting)

    def close(self) -> None:
        """Ends when what is under way is committed. For another thread than the loop's."""
        self._to_commit.put(None)
        self._committing.join()
        self._drop()
        self._engine.dispose()

    def _turn(self) -> None:
        self._wanted = False
        try:
            if self._waiting and not self._under_way:
                self._take_turn(self._waiting[0].loop)
        finally:
            self._taken.set()

    def _take_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._wanted = True  # before it is tried, so that whoever has it now sees it when they end
        if not self._writing.acquire(blocking=False):
            return
        self._wanted = False
        began = time.monotonic()
        connection = self._begun()
        if connection is None:
            self._writing.release()
            self.hand_over()
            return
        jobs = [self._waiting.popleft() for _ in range(self._size())]
        done = self._attempt(connection, jobs)
        self._elsewhere([job for place, job in enumerate(jobs) if place not in done])
        now = time.monotonic()
        if now - began > _LONG:
            self._not_before = now + _REST
        self._under_way = True
        self._at_it.acquire(blocking=False)
        self._to_commit.put((loop, [(jobs[place], verdict) for place, verdict in done.items()]))
        self._at_it.acquire(timeout=_START)

    def _size(self) -> int:
        """Half of those who come again and again: while they are committed the others are answered."""
        waiting = len(self._waiting)
        half = (waiting + self._last + 1) // 2
        self._last = min(waiting, max(half, _FEW), _MOST)
        return self._last

    def _begun(self) -> Connection | None:
        """A transaction, if it can be had at once."""
        if not self._turnstile.take_at_once():
            return None
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            self._connection.exec_driver_sql("BEGIN IMMEDIATE")
        except Exception:  # whichever it is: who does it elsewhere is told
            self._drop()
            self._turnstile.give_back()
            return None
        return self._connection

    def _attempt(self, connection: Connection, jobs: Sequence[Job]) -> Mapping[int, Verdict]:
        try:
            return attempt_alike(connection, [job.work for job in jobs], least=1)
        except Exception:  # a full disk and the like end the whole transaction
            self._drop()
            return {}

    def _commit_all(self) -> None:
        """In a thread of its own."""
        while (turn := self._to_commit.get()) is not None:
            self._commit(*turn)

    def _commit(
        self, loop: asyncio.AbstractEventLoop, ended: Sequence[tuple[Job, Verdict]]
    ) -> None:
        failure: BaseException | None = None
        try:
            with contextlib.suppress(RuntimeError):  # the loop waits no more
                self._at_it.release()
            if self._connection is not None:
                self._connection.commit()
        except BaseException as error:  # nothing of this turn is durable
            self._drop()
            failure = error
        finally:
            self._turnstile.give_back()
            self._writing.release()
        try:
            loop.call_soon_threadsafe(self._tell, ended, failure)
        except RuntimeError:  # that loop is closed; another may have wanted a turn meanwhile
            self._wake()

    def _wake(self) -> bool:
        """Whether a loop wanted a turn that somebody else's kept it from, and is told to take it."""
        if not self._wanted or self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(self._turn)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return False
        return True

    def _tell(self, ended: Sequence[tuple[Job, Verdict]], failure: BaseException | None) -> None:
        self._written()  # whoever has written sees it
        self._under_way = False
        if failure is not None and not is_unavailable(failure):
            self._elsewhere([job for job, _ in ended])  # where the one to blame fails alone
        else:
            for job, verdict in ended:
                job.end(verdict if failure is None else (None, failure))
        self._turn()  # before those who were told go on

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # of no use any more, whatever it says
                connection.invalidate()
                connection.close()
