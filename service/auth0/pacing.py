"""How fast one tenant may be called: token buckets per plan and endpoint group, leavers first.

Rates come from Auth0's published table and are corrected by what the tenant answers. Knows
nothing of what the calls do.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from service.clock import Clock

Group = Literal[
    "users-write",
    "users-read",
    "users-delete",
    "members-write",
    "members-read",
    "member-roles-write",
    "organizations-read",
    "organizations-write",
    "other",
]
Plan = Literal["free", "professional", "enterprise"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: how many calls at once, and how many a second in the long run."""

    burst: int
    per_second: float


GLOBAL: Final = "global"
_PER_MINUTE = 1 / 60

PLANS: Final[Mapping[Plan, Mapping[str, Rate]]] = {
    "free": {GLOBAL: Rate(2, 2)},
    "professional": {
        "users-write": Rate(20, 200 * _PER_MINUTE),
        "users-read": Rate(40, 500 * _PER_MINUTE),
        "users-delete": Rate(20, 200 * _PER_MINUTE),
        "members-write": Rate(20, 200 * _PER_MINUTE),
        "members-read": Rate(40, 500 * _PER_MINUTE),
        "member-roles-write": Rate(20, 200 * _PER_MINUTE),
        "organizations-write": Rate(5, 25 * _PER_MINUTE),
        "other": Rate(10, 150 * _PER_MINUTE),
    },
    "enterprise": {
        GLOBAL: Rate(50, 16),
        "members-write": Rate(20, 200 * _PER_MINUTE),
        "members-read": Rate(40, 500 * _PER_MINUTE),
        "member-roles-write": Rate(20, 200 * _PER_MINUTE),
        "organizations-write": Rate(5, 150 * _PER_MINUTE),
    },
}
"""Auth0's rate limit policy of August 2026. A plan without a global bucket counts a group that
has none of its own under ``other``."""


@dataclass(slots=True)
class Bucket:
    """A token bucket that forgets nothing: tokens are computed from the time that has passed."""

    rate: Rate
    tokens: float
    at: float
    closed_until: float = 0.0

    def refill(self, now: float) -> None:
        self.tokens = min(self.rate.burst, self.tokens + (now - self.at) * self.rate.per_second)
        self.at = now

    def wait(self, now: float, floor: float) -> float:
        """Seconds until a token can be taken and ``floor`` tokens are left; 0 means now."""
        missing = 1 + floor - self.tokens
        refilling = missing / self.rate.per_second if missing > 1e-9 else 0.0
        return max(refilling, self.closed_until - now, 0.0)


@dataclass(slots=True, order=True)
class _Waiter:
    rank: tuple[int, int]
    buckets: tuple[str, ...] = field(compare=False)
    turn: asyncio.Future[None] = field(compare=False)
    task: asyncio.Task[Any] | None = field(compare=False)


class PacerClosed(Exception):
    """The process is stopping: the call was not made."""


class Pacer:
    """Hands out turns to call. In each bucket a fifth is kept for leavers."""

    RESERVE: Final = 0.2

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._clock = clock
        now = clock.monotonic()
        self._buckets = {
            name: Bucket(rate, float(rate.burst), now) for name, rate in PLANS[plan].items()
        }
        self._waiting: list[_Waiter] = []
        self._number = 0
        self._closed = False
        self._pump: asyncio.Task[None] | None = None
        self._wakes_at = 0.0

    def buckets_of(self, group: Group) -> tuple[str, ...]:
        """The buckets that a call of this group takes a token from."""
        own = group if group in self._buckets else None
        if GLOBAL in self._buckets:
            return (GLOBAL, own) if own else (GLOBAL,)
        return (own or "other",)

    async def turn(self, group: Group, *, leaver: bool = False) -> None:
        """Returns when a call may be made; its token is taken."""
        if self._closed:
            raise PacerClosed
        self._number += 1
        waiter = _Waiter(
            (0 if leaver else 1, self._number),
            self.buckets_of(group),
            asyncio.get_running_loop().create_future(),
            asyncio.current_task(),
        )
        heapq.heappush(self._waiting, waiter)
        self._go_on()
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if not waiter.turn.cancelled():  # given, and not used
                for name in waiter.buckets:
                    self._buckets[name].tokens += 1
                self._go_on()
            raise

    def hurry(self, task: asyncio.Task[Any]) -> None:
        """Treats what this task waits for as a leaver's from now on."""
        for waiter in self._waiting:
            if waiter.task is task:
                waiter.rank = (0, waiter.rank[1])
        heapq.heapify(self._waiting)
        self._go_on()

    def learn(
        self, group: Group, headers: Mapping[str, str], *, limited: bool, epoch: float
    ) -> None:
        """Corrects the buckets by an answer's ``x-ratelimit-*`` headers; a 429 closes one.

        ``epoch``: the present in Unix seconds, for the reset header.
        """
        limit, remaining = (
            _number(headers, "x-ratelimit-limit"),
            _number(headers, "x-ratelimit-remaining"),
        )
        reset = _number(headers, "x-ratelimit-reset")
        names = self.buckets_of(group)
        # The headers do not say whose they are: the burst tells, else the narrower bucket.
        name = next((n for n in names if self._buckets[n].rate.burst == limit), names[-1])
        bucket = self._buckets[name]
        now = self._clock.monotonic()
        bucket.refill(now)
        if limited:
            bucket.tokens = 0.0
            wait = max(reset - epoch, 0.0) if reset is not None else 1.0
            bucket.closed_until = now + min(max(wait, 0.05), 60.0)
        elif remaining is not None and bucket.rate.burst == limit:
            # Somebody else spends from this budget too: believe the smaller number.
            bucket.tokens = min(bucket.tokens, max(remaining, 0.0))

    def close(self) -> None:
        """Lets nobody go any more: who waits gets PacerClosed."""
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
        for waiter in self._waiting:
            if not waiter.turn.done():
                waiter.turn.set_exception(PacerClosed())
        self._waiting.clear()

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
        for bucket in self._buckets.values():
            bucket.refill(now)
        left: list[_Waiter] = []
        taken: set[str] = set()
        soonest: float | None = None
        while self._waiting:
            waiter = heapq.heappop(self._waiting)
            if waiter.turn.done():
                continue
            if taken.issuperset(waiter.buckets) or taken.intersection(waiter.buckets):
                left.append(waiter)  # someone who came earlier waits for the same bucket
                if len(taken) == len(self._buckets):
                    break
                continue
            waits = {name: self._wait(name, now, waiter) for name in waiter.buckets}
            delay = max(waits.values())
            if delay <= 0:
                for name in waiter.buckets:
                    self._buckets[name].tokens -= 1
                waiter.turn.set_result(None)
                continue
            soonest = delay if soonest is None else min(soonest, delay)
            # It comes first in the bucket that it waits for longest; the others may be used up to
            # then, or a group that is closed would close the whole tenant.
            taken.update(name for name, wait in waits.items() if wait >= delay)
            left.append(waiter)
        for waiter in left:
            heapq.heappush(self._waiting, waiter)
        return max(soonest, 0.001) if soonest is not None else None

    def _wait(self, name: str, now: float, waiter: _Waiter) -> float:
        bucket = self._buckets[name]
        leaver = waiter.rank[0] == 0
        floor = 0.0 if leaver else int(bucket.rate.burst * self.RESERVE)
        return bucket.wait(now, floor)


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(headers[name])
    except (KeyError, ValueError):
        return None
    return number if math.isfinite(number) else None
