"""Auth0's published rates, per plan and endpoint group, as data. Knows no calls and no time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Group = Literal[
    "users-write",
    "users-read",
    "users-delete",
    "members-write",
    "members-read",
    "member-roles-write",
    "invitations-write",
    "organizations-read",
    "organizations-write",
    "organization-connections-write",
    "logs-read",
    "other",
]
Plan = Literal["free", "professional", "enterprise-nonproduction", "enterprise"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket: how many calls at once, and how many a second in the long run."""

    burst: int
    per_second: float


GLOBAL: Final = "global"
_PER_MINUTE = 1 / 60

_ENTERPRISE: Final[Mapping[str, Rate]] = {
    "members-write": Rate(20, 200 * _PER_MINUTE),
    "members-read": Rate(40, 500 * _PER_MINUTE),
    "member-roles-write": Rate(20, 200 * _PER_MINUTE),
    "invitations-write": Rate(20, 200 * _PER_MINUTE),
    "organizations-write": Rate(5, 150 * _PER_MINUTE),
    "organization-connections-write": Rate(5, 150 * _PER_MINUTE),
    "logs-read": Rate(10, 100 * _PER_MINUTE),
}

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
        "organization-connections-write": Rate(5, 25 * _PER_MINUTE),
        "logs-read": Rate(10, 100 * _PER_MINUTE),
        "other": Rate(10, 150 * _PER_MINUTE),
    },
    "enterprise-nonproduction": {GLOBAL: Rate(10, 2), **_ENTERPRISE},
    "enterprise": {GLOBAL: Rate(50, 16), **_ENTERPRISE},
}
"""Auth0's rate limit policy of August 2026. A plan without a global bucket counts a group that
has none of its own under ``other``: there also jobs, tickets, sessions and invitations."""


def buckets_of(group: Group, plan: Mapping[str, Rate]) -> tuple[str, ...]:
    """The buckets that a call of this group takes a token from, the widest first."""
    own = group if group in plan else None
    if GLOBAL in plan:
        return (GLOBAL, own) if own else (GLOBAL,)
    return (own or "other",)
