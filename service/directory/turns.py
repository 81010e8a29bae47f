"""Work of one kind that waits for its turn: a turn takes all of it that waits, in one transaction.

Knows when, and who is told what; neither what is done nor in which database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from service.directory.database import Alike, Together, Work, is_unavailable

T = TypeVar("T")
_MOST: Final = 64
_AT_ONCE: Final = 2
"""Turns: while one waits for its commit, the next one is made ready."""
_ALONE: Final = object()

Transact = Callable[[Work[Sequence[Any]]], Awaitable[Sequence[Any]]]
_Waiting = tuple[Any, "asyncio.Future[Any]"]


class Turns:
    """Takes turns for one kind of work. ``transact`` carries out a transaction to its end."""

    def __init__(self, together: Together, transact: Transact) -> None:
        self._together = together
        self._transact = transact
        self._waiting: deque[_Waiting] = deque()
        self._free = _AT_ONCE
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, work: Alike[Any, T], alone: Callable[[], Awaitable[T]]) -> T:
        """What the work returns, done together with others or, where it has to be, ``alone``."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work.item, done))
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._take_turns())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        result = await done
        return await alone() if result is _ALONE else result

    async def _take_turns(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever is ready by now comes along
            while self._waiting:
                size = min(len(self._waiting), _MOST)
                await self._turn([self._waiting.popleft() for _ in range(size)])
        finally:
            self._free += 1

    async def _turn(self, batch: Sequence[_Waiting]) -> None:
        if len(batch) == 1:  # has the fewest statements by itself
            _tell(batch, [None])
            return
        items = [item for item, _ in batch]
        try:
            results = await self._transact(lambda transaction: self._together(transaction, items))
        except Exception as error:
            if is_unavailable(error):  # it may have been committed
                _fail(batch, error)
            else:  # each alone, so that the one to blame fails alone
                _tell(batch, [None] * len(batch))
        except BaseException as error:
            _fail(batch, error)
            raise
        else:
            _tell(batch, results)


def _tell(batch: Sequence[_Waiting], results: Sequence[Any]) -> None:
    for (_, done), result in zip(batch, results, strict=True):
        if not done.done():  # else its caller has gone away
            done.set_result(_ALONE if result is None else result)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)
