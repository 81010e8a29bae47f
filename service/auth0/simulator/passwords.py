"""Auth0's five password policies of a database connection. Passwords are checked, never stored."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from service.auth0.simulator.errors import Refusal

_KINDS = (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9]")
_REPEATED = re.compile(r"(.)\1\1")

LEAST_LENGTH: Mapping[str, int] = MappingProxyType(
    {"none": 1, "low": 6, "fair": 8, "good": 8, "excellent": 10}
)


def check(password: str, options: Mapping[str, Any]) -> None:
    """400 where the password breaks the connection's `passwordPolicy` (`good` by default).

    fair: lower case, upper case and digit. good: three of these and special characters.
    excellent: as good, and no character three times in a row.
    """
    policy = str(options.get("passwordPolicy") or "good")
    complexity = options.get("password_complexity_options") or {}
    least = int(complexity.get("min_length") or LEAST_LENGTH.get(policy, 8))
    kinds = [re.search(kind, password) is not None for kind in _KINDS]
    strong = len(password) >= least
    if policy == "fair":
        strong = strong and all(kinds[:3])
    if policy in {"good", "excellent"}:
        strong = strong and sum(kinds) >= 3
    if policy == "excellent":
        strong = strong and _REPEATED.search(password) is None
    if not strong:
        raise Refusal(status=400, message="PasswordStrengthError: Password is too weak")
