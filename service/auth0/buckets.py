"""One token bucket: what it holds, and how it is corrected by what the tenant answers.

Knows nothing of who waits. Times are given: monotonic seconds, but for the epoch of the headers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Literal

from service.auth0.rates import Rate

LONGEST: Final = 60.0
"""Seconds that one 429 closes a bucket for at most, however far ahead its reset lies."""
_SHORTEST: Final = 0.05
_SLOWER: Final = 0.8
_SLOWEST: Final = 0.1
_QUICKER: Final = 0.05
_QUIET: Final = 60.0
"""Seconds without a 429 after which a bucket is believed to allow a little more again."""

Notice = Literal["smaller", "larger", "as-configured"]


@dataclass(slots=True)
class Bucket:
    """A token bucket that forgets nothing: tokens are computed from the time that has passed.

    ``burst``: as the tenant tells it, where that is less than configured. ``pace``: the share of
    the configured rate that it seems to leave us, between 0.1 and 1.
    """

    rate: Rate
    tokens: float
    at: float
    closed_until: float = 0.0
    burst: int = 0
    pace: float = 1.0
    confirmed: bool = False
    """Whether an answer has named this bucket's burst: then another number is not about it."""
    _refusals: int = 0
    _refused_at: float = -math.inf
    _eased_at: float = -math.inf

    def __post_init__(self) -> None:
        self.burst = self.burst or self.rate.burst

    @property
    def per_second(self) -> float:
        return self.rate.per_second * self.pace * self.burst / self.rate.burst

    @property
    def share(self) -> float:
        """The share of the configured rate that is used; 1 where nothing holds it down."""
        return self.per_second / self.rate.per_second

    def refill(self, now: float) -> None:
        gained = max(0.0, now - self.at) * self.per_second
        self.tokens = min(float(self.burst), self.tokens + gained)
        self.at = now

    def wait(self, now: float, floor: float) -> float:
        """Seconds until a token can be taken and ``floor`` tokens are left; 0 means now."""
        missing = 1 + floor - self.tokens
        refilling = missing / self.per_second if missing > 1e-9 else 0.0
        return max(refilling, self.closed_until - now, 0.0)

    def refused(self, now: float, told: float | None) -> None:
        """A 429. ``told``: seconds to wait, as its headers say; None where they do not.

        One alone may be a mistake about what was left. A second within a minute says that the rate
        is less than we believe, as where somebody else spends from it; those that were under way
        together count once.
        """
        self.refill(now)
        self.tokens = 0.0
        if now >= self.closed_until:
            if now - self._refused_at < _QUIET:
                self.pace = max(_SLOWEST, self.pace * _SLOWER)
                self._refusals += 1
            else:
                self._refusals = 0
            self._refused_at = self._eased_at = now
        # Doubling from a second, should the headers say nothing or nothing that helps.
        least = min(2.0**self._refusals, LONGEST) if told is None else _SHORTEST
        self.closed_until = max(self.closed_until, now + min(max(told or 0.0, least), LONGEST))

    def answered(self, now: float, remaining: float | None) -> None:
        """An answer that was no 429. ``remaining``: where it is about this bucket."""
        self.refill(now)
        if remaining is not None:
            # Somebody else spends from this budget too: believe the smaller number.
            self.tokens = min(self.tokens, max(remaining, 0.0))
        if self.pace < 1.0 and now - self._eased_at >= _QUIET:
            self.pace = min(1.0, self.pace + _QUICKER)
            self._eased_at = now

    def told_burst(self, limit: int) -> Notice | None:
        """Takes over what the tenant says the burst is; what there is to tell of it, once.

        A smaller one slows down in proportion: plans with a smaller burst have a smaller rate. A
        larger one is only told, since what is configured may be the share that we are allowed.
        """
        before, known = self.burst, self.confirmed
        self.burst, self.confirmed = max(1, min(limit, self.rate.burst)), True
        self.tokens = min(self.tokens, float(self.burst))
        if self.burst < before:
            return "smaller"
        if self.burst > before:
            return "as-configured"
        return "larger" if limit > self.rate.burst and not known else None


def seconds_told(headers: Mapping[str, str], epoch: float) -> float | None:
    """How long a 429 asks to wait; None where it does not say.

    ``Retry-After`` first, since it needs no clock; else ``x-ratelimit-reset`` (Unix seconds) by the
    tenant's own clock, which ``Date`` shows, and by ours (``epoch``) only where it shows none.
    """
    after = number(headers, "retry-after")
    if after is not None and after > 0:
        return after
    reset = number(headers, "x-ratelimit-reset")
    if reset is None:
        return None
    left = reset - _date(headers, epoch)
    return left if left > 0 else None


def number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        found = float(headers[name])
    except (KeyError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _date(headers: Mapping[str, str], epoch: float) -> float:
    try:
        said = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError, OverflowError):
        return epoch
    return (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
