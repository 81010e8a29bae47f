"""How fast one tenant may be called: who waits, in which order, and who goes. One budget for all who use it.

Leavers first, then background work within its small share, then whoever began first. Rates come
from Auth0's published table and are corrected by what the tenant answers. Knows nothing of what
the calls do.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import structlog

from service.auth0 import rates
from service.auth0.buckets import Bucket, number, seconds_told
from service.auth0.rates import PLANS, Group, Plan, Rate
from service.clock import Clock
from service.organizations import Tenant

__all__ = ["PLANS", "Group", "Pacer", "PacerClosed", "Pacers", "Plan", "Recalled"]

log = structlog.get_logger(__name__)

_LEAVER, _BACKGROUND, _LANES = range(3)
_IDLE: Final = 5.0
"""Seconds since the lanes asked last, after which background work may have more than its share."""


@dataclass(slots=True)
class _Place:
    """A task's place in line: the number of its first call, and how many it has asked for."""

    number: int
    calls: int = 0


@dataclass(slots=True, eq=False)
class _Waiter:
    rank: int
    place: int
    calls: int
    number: int
    group: Group
    buckets: tuple[str, ...]
    turn: asyncio.Future[None]
    task: asyncio.Task[Any] | None

    @property
    def order(self) -> tuple[int, int, int]:
        # Every leaver's first call, the block, before the second one of any.
        within = {_LEAVER: self.calls, _BACKGROUND: 0, _LANES: self.place}[self.rank]
        return self.rank, within, self.number


class PacerClosed(Exception):
    """The process is stopping: the call was not made."""


class Recalled(Exception):
    """Whoever waited was called back: the call was not made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What stands between a waiter and its turn. ``waits``: seconds, by bucket."""

    waits: Mapping[str, float]
    of_share: float = 0.0
    """Seconds until background work may go on; nobody else waits for it meanwhile."""

    @property
    def delay(self) -> float:
        return max(self.of_share, *self.waits.values())


class Pacer:
    """Hands out turns to call. Half of each bucket is kept for leavers.

    A task keeps the place in line that it took with its first call: who began earlier ends earlier,
    and narrow buckets are fed while wide ones are full of beginners. ``share``: of each rate, what
    background work may take while lanes have work; it is also what it is sure to get. ``on_share``
    is told the share of its configured rate at which a bucket is used, whenever it changes.
    """

    RESERVE: Final = 0.5

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        *,
        share: float = 0.1,
        on_share: Callable[[str, float], None] | None = None,
        tenant: str = "",
    ) -> None:
        self._clock = clock
        self._tenant = tenant
        self._on_share = on_share or (lambda _bucket, _share: None)
        now = clock.monotonic()
        self._plan = PLANS[plan]
        self._buckets = {
            name: Bucket(rate, float(rate.burst), now) for name, rate in self._plan.items()
        }
        self._background = {
            name: _small(bucket, share, now) for name, bucket in self._buckets.items()
        }
        self._waiting: list[_Waiter] = []
        self._places: WeakKeyDictionary[asyncio.Task[Any], _Place] = WeakKeyDictionary()
        self._hurried: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._number = 0
        self._lanes_at = now - _IDLE
        self._closed = False
        self._pump: asyncio.Task[None] | None = None
        self._wakes_at = 0.0

    def buckets_of(self, group: Group) -> tuple[str, ...]:
        """The buckets that a call of this group takes a token from."""
        return rates.buckets_of(group, self._plan)

    def waiting(self, group: Group) -> int:
        """How many calls of this group wait for their turn, background work apart."""
        return sum(
            each.group == group and each.rank != _BACKGROUND and not each.turn.done()
            for each in self._waiting
        )

    async def turn(self, group: Group, *, leaver: bool = False, background: bool = False) -> None:
        """Returns when a call may be made; its token is taken.

        ``background``: for work that nobody waits for, such as comparing and polling, and for the few
        calls that each stand for thousands, such as a file of users.
        """
        if self._closed:
            raise PacerClosed
        task = asyncio.current_task()
        leaver = leaver or (task is not None and task in self._hurried)
        self._number += 1
        place = _Place(self._number)
        if task is not None:
            place = self._places.setdefault(task, place)
        waiter = _Waiter(
            _LEAVER if leaver else _BACKGROUND if background else _LANES,
            place.number,
            place.calls,
            self._number,
            group,
            self.buckets_of(group),
            asyncio.get_running_loop().create_future(),
            task,
        )
        place.calls += 1
        bisect.insort(self._waiting, waiter, key=lambda each: each.order)
        self._go_on()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if not waiter.turn.cancelled():  # given, and not used
                self._take(waiter, -1)
                self._go_on()
            raise

    def stand_for(self, task: asyncio.Task[Any], other: asyncio.Task[Any]) -> None:
        """Gives ``task`` the place in line of ``other``, for which it calls."""
        if (place := self._places.get(other)) is not None:
            self._places[task] = place

    def hurry(self, task: asyncio.Task[Any]) -> None:
        """Treats what this task waits for, now and later, as a leaver's."""
        self._hurried.add(task)
        for waiter in self._waiting:
            if waiter.task is task:
                waiter.rank = _LEAVER
        self._waiting.sort(key=lambda each: each.order)
        self._go_on()

    def recall(self, task: asyncio.Task[Any]) -> bool:
        """Takes a task that waits out of the line: it gets Recalled. False where it waits not."""
        found = [each for each in self._waiting if each.task is task and not each.turn.done()]
        for waiter in found:
            self._waiting.remove(waiter)
            waiter.turn.set_exception(Recalled())
        self._go_on()
        return bool(found)

    def learn(
        self,
        group: Group,
        headers: Mapping[str, str],
        *,
        limited: bool,
        epoch: float,
        message: str = "",
    ) -> None:
        """Corrects the buckets by an answer's ``x-ratelimit-*`` headers; a 429 closes one.

        ``epoch``: the present in Unix seconds, for the reset header. ``message``: what a 429 says,
        which names whose limit was reached.
        """
        limit = number(headers, "x-ratelimit-limit")
        limit = limit if limit is not None and limit >= 1 else None
        name = self._about(group, limit, message)
        bucket, now = self._buckets[name], self._clock.monotonic()
        before = bucket.share
        if limit is not None:
            self._tell(name, bucket, int(limit), bucket.told_burst(int(limit)))
        if limited:
            bucket.refused(now, seconds_told(headers, epoch))
        else:
            named = limit is not None
            bucket.answered(now, number(headers, "x-ratelimit-remaining") if named else None)
        if bucket.share != before:
            self._background[name].pace = bucket.share
            self._on_share(name, bucket.share)

    def close(self) -> None:
        """Lets nobody go any more: who waits gets PacerClosed."""
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
        for waiter in self._waiting:
            if not waiter.turn.done():
                waiter.turn.set_exception(PacerClosed())
        self._waiting.clear()

    def _about(self, group: Group, limit: float | None, message: str) -> str:
        """The bucket that an answer speaks of: the headers do not say whose they are."""
        names = self.buckets_of(group)
        if message.startswith("Global limit"):
            return names[0]
        if limit is None or "group limit" in message:
            return names[-1]
        for name in names:
            if limit in (self._buckets[name].burst, self._buckets[name].rate.burst):
                return name
        return next((name for name in names if not self._buckets[name].confirmed), names[-1])

    def _tell(self, name: str, bucket: Bucket, limit: int, notice: str | None) -> None:
        told = {"tenant": self._tenant, "bucket": name, "configured": bucket.rate.burst}
        match notice:
            case "smaller":
                log.warning("pacing.smaller_limit", told=limit, **told)
            case "larger" | "as-configured":
                log.info(f"pacing.limit_{notice.replace('-', '_')}", told=limit, **told)
            case _:
                pass

    def _go_on(self) -> None:
        """Lets go whoever may, and sees to it that the next one is let go in time."""
        delay = self._serve()
        if delay is None or self._closed:
            return
        asleep = self._pump is not None and not self._pump.done()
        wakes_at = self._clock.monotonic() + delay
        if asleep and self._wakes_at <= wakes_at:
            return
        if self._pump is not None:
            self._pump.cancel()
        self._wakes_at = wakes_at
        self._pump = asyncio.create_task(self._keep_serving(delay))

    async def _keep_serving(self, delay: float | None) -> None:
        while delay is not None:
            self._wakes_at = self._clock.monotonic() + delay
            await self._clock.sleep(delay)
            delay = self._serve()

    def _serve(self) -> float | None:
        """Lets everyone go whose turn it is; seconds until the next may, None if nobody waits."""
        now = self._clock.monotonic()
        for bucket in (*self._buckets.values(), *self._background.values()):
            bucket.refill(now)
        left: list[_Waiter] = []
        taken: set[str] = set()
        soonest: float | None = None
        for waiter in self._waiting:
            if waiter.turn.done():
                continue
            if waiter.rank != _BACKGROUND:
                self._lanes_at = now
            if not taken.isdisjoint(waiter.buckets):
                left.append(waiter)  # someone who comes first waits for the same bucket
                continue
            attempt = self._attempt(waiter, now)
            if attempt.delay <= 0:
                self._take(waiter, 1)
                waiter.turn.set_result(None)
                continue
            soonest = attempt.delay if soonest is None else min(soonest, attempt.delay)
            left.append(waiter)
            if attempt.of_share <= 0:
                # It comes first in the bucket that it waits for longest; the others may be used up
                # to then, or a group that is closed would close the whole tenant.
                longest = attempt.delay
                taken.update(name for name, wait in attempt.waits.items() if wait >= longest)
        self._waiting = left
        return max(soonest, 0.001) if soonest is not None else None

    def _attempt(self, waiter: _Waiter, now: float) -> _Attempt:
        floors = {
            name: 0.0 if waiter.rank == _LEAVER else float(self._kept(name))
            for name in waiter.buckets
        }
        waits = {name: self._buckets[name].wait(now, floor) for name, floor in floors.items()}
        if waiter.rank != _BACKGROUND:
            return _Attempt(waits=waits)
        of_share = max(self._background[name].wait(now, 0.0) for name in waiter.buckets)
        if of_share <= 0:
            return _Attempt(waits=waits)
        # Beyond its share only while the lanes are idle, and never below half of a bucket.
        halves = (self._buckets[name].wait(now, self._half(name)) for name in waiter.buckets)
        idle = max(self._lanes_at + _IDLE - now, *halves)
        return _Attempt(waits=waits, of_share=min(of_share, max(idle, 0.0)))

    def _kept(self, name: str) -> int:
        return int(self._buckets[name].burst * self.RESERVE)

    def _half(self, name: str) -> float:
        return float((self._buckets[name].burst - 1) // 2)

    def _take(self, waiter: _Waiter, tokens: int) -> None:
        for name in waiter.buckets:
            self._buckets[name].tokens -= tokens
            if waiter.rank == _BACKGROUND:
                small = self._background[name]
                small.tokens = max(0.0, small.tokens - tokens)


class Pacers:
    """The pacers of one process, one for each tenant: everyone who calls it shares its budget."""

    def __init__(
        self,
        clock: Clock,
        *,
        share: float = 0.1,
        on_share: Callable[[str, str, float], None] | None = None,
    ) -> None:
        self._clock = clock
        self._share = share
        self._on_share = on_share or (lambda _tenant, _bucket, _share: None)
        self._pacers: dict[tuple[str, str, Plan], Pacer] = {}

    def of(self, tenant: Tenant) -> Pacer:
        key = (tenant.name, tenant.url, tenant.plan)
        if key not in self._pacers:
            self._pacers[key] = Pacer(
                tenant.plan,
                self._clock,
                share=self._share,
                on_share=lambda bucket, share: self._on_share(tenant.name, bucket, share),
                tenant=tenant.name,
            )
        return self._pacers[key]


def _small(bucket: Bucket, share: float, now: float) -> Bucket:
    rate = Rate(max(1, int(bucket.rate.burst * share)), bucket.rate.per_second * share)
    return Bucket(rate, float(rate.burst), now)
