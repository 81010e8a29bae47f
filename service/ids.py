"""Identifiers: random ones that sort by time, and derived ones that repeat for the same input."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime

_NAMESPACE = uuid.UUID("6f1a52c8-0f3e-5c43-9a0b-6d9f6f3f7a11")


def new_id(now: datetime) -> str:
    """A UUID version 7 (RFC 9562 section 5.7): ids made later sort later, which keeps indexes dense."""
    milliseconds = int(now.timestamp() * 1000) & (2**48 - 1)
    random = secrets.randbits(74)
    value = (
        milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (2**62 - 1)
    )
    return str(uuid.UUID(int=value))


def derived_id(*parts: str) -> str:
    """The same id for the same parts, for ever: a repeated publication is recognised by it."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))


def account_key() -> str:
    """A random account key, 128 bits, 32 lower-case hex digits. Never derived from an address."""
    return secrets.token_hex(16)
