"""When to ask another system again: as it says, else after twice as long each time. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_LONGEST: Final = 300.0
LONGEST_ASKED_FOR: Final = 3600.0
"""Seconds: whoever asks for more is asked again nevertheless."""


def delay_after(attempts: int, first: float = 1.0) -> float:
    """Seconds until the next attempt after this many failed ones: 1, 2, 4 … 300."""
    return min(first * 2.0 ** min(attempts, 20), _LONGEST)


def asked_for(retry_after: str, now: datetime) -> float | None:
    """Seconds that ``Retry-After`` asks for (RFC 9110 section 10.2.3), up to an hour; None where it
    says nothing that can be understood.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_ASKED_FOR)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    asked = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(asked, 0.0), LONGEST_ASKED_FOR)
