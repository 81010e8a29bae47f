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
    stamp = f"{int(now.timestamp() * 1000) & (2**48 - 1):012x}"
    drawn = secrets.token_hex(10 * count)
    found: list[str] = []
    for at in range(0, 20 * count, 20):
        variant = "89ab"[int(drawn[at], 16) & 3]
        random = f"7{drawn[at + 1 : at + 4]}-{variant}{drawn[at + 4 : at + 7]}"
        found.append(f"{stamp[:8]}-{stamp[8:]}-{random}-{drawn[at + 7 : at + 19]}")
    return sorted(found)


def derived_id(*parts: str) -> str:
    """The same id for the same parts, for ever: a repeated publication is recognised by it."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def account_key() -> str:
    """A random account key, 128 bits, 32 lower-case hex digits. Never derived from an address."""
    return secrets.token_hex(16)
