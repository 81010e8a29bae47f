"""``--since``: a moment as people give it. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_AGE: Final = re.compile(r"^(\d{1,6})([smhdw])$")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since(text: str, now: datetime) -> datetime:
    """RFC 3339, a date (midnight UTC), or an age such as ``15m``, ``2h``, ``3d``.

    Raises ValueError with a sentence for the person.
    """
    age = _AGE.fullmatch(text.strip())
    try:
        if age is not None:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        moment = datetime.fromisoformat(text.strip().upper())
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: give RFC 3339 (2026-11-23T09:00:00Z) or an age (15m, 2h, 3d)."
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
