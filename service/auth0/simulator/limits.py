"""Rate limits as data, and the token buckets that apply them.

Figures from Auth0's documentation of August 2026 (rate limit configurations per plan); they change
often. Knows no endpoints, only names of endpoint groups.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Plan = Literal["free", "professional", "enterprise"]
Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """At most `burst` calls at once, then `refill` calls per `period`."""

    burst: int
    refill: int
    period: Literal["second", "minute"]

    @property
    def per_second(self) -> float:
        """Tokens that come back each second."""
        return self.refill / (1 if self.period == "second" else 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one plan.

    overall: counts every call, and is checked first.
    groups: further buckets by endpoint group.
    other: one bucket for all calls outside `groups`.
    headers: whether the rate headers tell of the group's bucket, where there is one, or of the
        overall one. The documentation leaves it open, so clients should be tried with both.
    """

    overall: Bucket | None = None
    groups: Mapping[str, Bucket] = field(default_factory=lambda: MappingProxyType({}))
    other: Bucket | None = None
    headers: Literal["group", "global"] = "group"


def _per_second(burst: int, refill: int) -> Bucket:
    return Bucket(burst=burst, refill=refill, period="second")


def _per_minute(burst: int, refill: int) -> Bucket:
    return Bucket(burst=burst, refill=refill, period="minute")


LIMITS: Mapping[Plan, Limits] = MappingProxyType(
    {
        "free": Limits(overall=_per_second(2, 2)),
        "professional": Limits(
            groups=MappingProxyType(
                {
                    "users_write": _per_minute(20, 200),
                    "users_delete": _per_minute(20, 200),
                    "users_read": _per_minute(40, 500),
                    "organization_members_write": _per_minute(20, 200),
                    "organization_members_read": _per_minute(40, 500),
                    "organization_member_roles_write": _per_minute(20, 200),
                    "organizations_write": _per_minute(5, 25),
                    "organization_connections_write": _per_minute(5, 25),
                }
            ),
            other=_per_minute(10, 150),
        ),
        "enterprise": Limits(
            overall=_per_second(50, 16),
            groups=MappingProxyType(
                {
                    "organization_members_write": _per_minute(20, 200),
                    "organization_members_read": _per_minute(40, 500),
                    "organization_member_roles_write": _per_minute(20, 200),
                    "organization_invitations_write": _per_minute(20, 200),
                    "organizations_write": _per_minute(5, 150),
                    "organization_connections_write": _per_minute(5, 150),
                }
            ),
        ),
    }
)

UNLIMITED = Limits(overall=_per_second(1_000_000, 1_000_000))
"""For tests that are not about pacing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the buckets say to one call. `refusal` is the 429's message, or None."""

    limit: int
    remaining: int
    reset: int
    refusal: str | None

    def headers(self) -> dict[str, str]:
        """The three rate headers; reset is the epoch second in which the bucket is full again."""
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-reset": str(self.reset),
        }


_ROUNDING = 1e-5
"""Seconds since the epoch are floats: a refill may fall short of a whole token by this much."""


@dataclass(slots=True, kw_only=True)
class _Level:
    bucket: Bucket
    tokens: float
    at: float

    def refill(self, now: float) -> None:
        gained = max(0.0, now - self.at) * self.bucket.per_second
        self.tokens = min(float(self.bucket.burst), self.tokens + gained)
        self.at = now

    def take(self) -> bool:
        if self.tokens < 1 - _ROUNDING:
            return False
        self.tokens = max(0.0, self.tokens - 1)
        return True

    def verdict(self, now: float, refusal: str | None) -> Verdict:
        missing = self.bucket.burst - self.tokens
        return Verdict(
            limit=self.bucket.burst,
            remaining=int(self.tokens + _ROUNDING),
            reset=math.ceil(now + missing / self.bucket.per_second),
            refusal=refusal,
        )


class RateLimiter:
    """Token buckets of all tenants. Levels live in memory: a restart finds them full."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._levels: dict[tuple[str, str], _Level] = {}

    def take(self, tenant: str, group: str) -> Verdict:
        """Spend one call of a group; the overall bucket is asked before the group's."""
        now = self._clock()
        overall = self._level(tenant, "", self._limits.overall, now)
        bucket = self._limits.groups.get(group)
        own = self._level(tenant, group, bucket, now)
        if own is None and overall is None:
            own = self._level(tenant, "*", self._limits.other, now)
        if overall is not None and not overall.take():
            return overall.verdict(now, "Global limit has been reached")
        if own is not None and not own.take():
            return own.verdict(now, _message(group, bucket))
        shown = own if self._limits.headers == "group" or overall is None else overall
        shown = shown or overall
        if shown is None:
            return Verdict(limit=0, remaining=0, reset=math.ceil(now), refusal=None)
        return shown.verdict(now, None)

    def fill(self) -> None:
        """Forget all levels: every bucket is full again."""
        self._levels.clear()

    def _level(self, tenant: str, key: str, bucket: Bucket | None, now: float) -> _Level | None:
        if bucket is None:
            return None
        level = self._levels.get((tenant, key))
        if level is None:
            level = _Level(bucket=bucket, tokens=float(bucket.burst), at=now)
            self._levels[tenant, key] = level
        level.refill(now)
        return level


def _message(group: str, bucket: Bucket | None) -> str:
    if bucket is None:
        return "Global limit has been reached"
    return f"Global per {bucket.period} {group} group limit has been reached"
