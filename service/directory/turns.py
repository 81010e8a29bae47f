"""Work of one kind that waits for its turn: a turn takes all of it that waits, in one transaction.

Knows when, and who is told what; neither what is done nor in which database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from service.directory.database import Alike, Together, Work, is_unavailable

T = TypeVar("T")
_MOST: Final = 64
_AT_ONCE: Final = 2
"""Turns: while one waits for its commit, the next one is made ready."""
_PATIENCE: Final = 0.05
"""Seconds after which a turn that waits for something keeps nobody else waiting."""
_ALONE: Final = object()

Transact = Callable[[Work[Any]], Awaitable[Any]]
_Waiting = tuple[Alike[Any, Any], "asyncio.Future[Any]"]


class Turns:
    """Takes turns for one kind of work. ``transact`` carries out a transaction to its end."""

    def __init__(self, together: Together, transact: Transact) -> None:
        self._together = together
        self._transact = transact
        self._waiting: deque[_Waiting] = deque()
        self._free = _AT_ONCE
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, work: Alike[Any, T]) -> T:
        """What the work returns, done together with others or, where it has to be, alone."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._free:
            self._free -= 1
            self._begin(self._take_turns())
        result = await done
        return await self._transact(work.alone) if result is _ALONE else result

    async def _take_turns(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever is ready by now comes along
            while self._waiting:
                size = min(len(self._waiting), _MOST)
                turn = self._turn([self._waiting.popleft() for _ in range(size)])
                await asyncio.wait({self._begin(turn)}, timeout=_PATIENCE)
        finally:
            self._free += 1

    def _begin(self, what: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _turn(self, batch: Sequence[_Waiting]) -> None:
        try:
            _tell(batch, await self._results(batch))
        except Exception as error:
            if len(batch) > 1 and not is_unavailable(error):
                _tell(
                    batch, [None] * len(batch)
                )  # each alone, so that the one to blame fails alone
            else:  # nor is anything repeated that may have been committed
                _fail(batch, error)
        except BaseException as error:
            _fail(batch, error)
            raise

    async def _results(self, batch: Sequence[_Waiting]) -> Sequence[Any]:
        if len(batch) == 1:  # has the fewest statements by itself
            return [await self._transact(batch[0][0].alone)]
        items = [work.item for work, _ in batch]
        return await self._transact(lambda transaction: self._together(transaction, items))


def _tell(batch: Sequence[_Waiting], results: Sequence[Any]) -> None:
    for (_, done), result in zip(batch, results, strict=True):
        if not done.done():  # else its caller has gone away
            done.set_result(_ALONE if result is None else result)


def _fail(batch: Sequence[_Waiting], error: BaseException) -> None:
    for _, done in batch:
        if not done.done():
            done.set_exception(error)
