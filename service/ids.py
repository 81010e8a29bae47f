"""Identifiers: random ones that sort by time, and derived ones that repeat for the same input."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime

_NAMESPACE = uuid.UUID("6f1a52c8-0f3e-5c43-9a0b-6d9f6f3f7a11")


def new_id(now: datetime) -> str:
    """A UUID version 7 (RFC 9562 section 5.7): ids made later sort later, which keeps indexes dense."""
    return new_ids(now, 1)[0]


def new_ids(now: datetime, count: int) -> list[str]:
    """As many ids, in order: to ask the system for randomness costs more than to make one of it."""
    stamp = (int(now.timestamp() * 1000) & (2**48 - 1)) << 80 | 0x7 << 76 | 0b10 << 62
    drawn = secrets.token_bytes(10 * count)
    found: list[str] = []
    for start in range(0, 10 * count, 10):
        random = int.from_bytes(drawn[start : start + 10], "big") >> 6
        value = stamp | (random >> 62) << 64 | random & (2**62 - 1)
        written = f"{value:032x}"
        parts = written[:8], written[8:12], written[12:16], written[16:20], written[20:]
        found.append("-".join(parts))
    return sorted(found)


def derived_id(*parts: str) -> str:
    """The same id for the same parts, for ever: a repeated publication is recognised by it."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def account_key() -> str:
    """A random account key, 128 bits, 32 lower-case hex digits. Never derived from an address."""
    return secrets.token_hex(16)
