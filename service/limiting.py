"""How often something may be done: token buckets of bounded number. Pure: time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MOST_BUCKETS: Final = 10_000
_ROUNDING: Final = 1e-6
"""Seconds that sums of floating-point numbers may be off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """``rate`` a second for as long as one likes, and ``burst`` at once. 0 in either: no limit."""

    rate: float
    burst: int

    @property
    def off(self) -> bool:
        return self.rate <= 0 or self.burst <= 0


UNLIMITED: Final = Limit(rate=0.0, burst=0)


class Buckets:
    """A token bucket for each key, all of one size; those used longest ago are forgotten first.

    A bucket is kept as the moment at which it will be full again (the generic cell rate algorithm),
    so that one which is full says nothing and forgetting it forgives nothing.
    """

    def __init__(self, limit: Limit, *, most: int = _MOST_BUCKETS) -> None:
        self._off = limit.off
        self._interval = 0.0 if limit.off else 1.0 / limit.rate
        self._depth = (limit.burst - 1) * self._interval
        self._most = most
        self._full_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str, now: float) -> float:
        """0 where a token was there and is now taken; else the seconds until there is one.

        ``now``: seconds of a clock that never runs backwards.
        """
        if self._off:
            return 0.0
        full_at = max(self._full_at.pop(key, now), now)
        wait = full_at - self._depth - now
        admitted = wait <= _ROUNDING
        self._full_at[key] = full_at + self._interval if admitted else full_at  # comes last now
        if len(self._full_at) > self._most:
            del self._full_at[next(iter(self._full_at))]
        return 0.0 if admitted else wait

    def spend(self, key: str, tokens: int, now: float) -> float:
        """Takes more tokens after a ``take``, whether they are there or not: the next one waits.

        Takes none where that has been done already since the ``take``: the seconds to wait, else 0.
        """
        full_at = self._full_at.get(key)
        if full_at is None:
            return 0.0
        wait = full_at - self._interval - self._depth - now
        if wait > _ROUNDING:
            return wait
        self._full_at[key] = full_at + tokens * self._interval
        return 0.0

    def give_back(self, key: str) -> None:
        """Undoes one ``take`` of a token."""
        if key in self._full_at:
            self._full_at[key] -= self._interval
