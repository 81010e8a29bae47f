"""Bearer tokens of the doors: made, checked, revoked. The secret is shown once and never stored.

A token is ``ap_<key id>_<secret>`` with 256 random bits; its keyed hash is what we keep.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import select, update

from service.directory import tables as t
from service.directory.database import Transaction

TokenDoor = Literal["scim", "events"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A token as stored: everything but the token."""

    id: str
    organization: str
    door: TokenDoor
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def create(
    transaction: Transaction,
    *,
    organization: str,
    door: TokenDoor,
    pepper: bytes,
    now: datetime,
    lifetime: timedelta | None = None,
) -> str:
    """A new token, in the only moment in which it can be read."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    transaction.execute(
        t.credentials.insert().values(
            id=key_id,
            organization=organization,
            door=door,
            secret_hash=_hash(secret, pepper),
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
        )
    )
    return f"ap_{key_id}_{secret}"


def is_valid(
    transaction: Transaction,
    token: str,
    *,
    organization: str,
    door: TokenDoor,
    pepper: bytes,
    now: datetime,
) -> bool:
    """Whether this token opens this door of this organization now."""
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "ap" or not secret:
        return False
    row = transaction.execute(
        select(t.credentials).where(
            t.credentials.c.id == key_id,
            t.credentials.c.organization == organization,
            t.credentials.c.door == door,
        )
    ).one_or_none()
    if row is None or row.revoked_at is not None:
        return False
    if row.expires_at is not None and row.expires_at <= now:
        return False
    return hmac.compare_digest(row.secret_hash, _hash(secret, pepper))


def revoke(transaction: Transaction, organization: str, key_id: str, now: datetime) -> bool:
    """Ends a token; False where the organization has no such live token."""
    done = transaction.execute(
        update(t.credentials)
        .where(
            t.credentials.c.id == key_id,
            t.credentials.c.organization == organization,
            t.credentials.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
    return done.rowcount == 1


def listing(transaction: Transaction, organization: str) -> list[Credential]:
    rows = transaction.execute(
        select(t.credentials)
        .where(t.credentials.c.organization == organization)
        .order_by(t.credentials.c.created_at)
    )
    return [
        Credential(
            id=row.id,
            organization=row.organization,
            door=row.door,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )
        for row in rows
    ]


def _hash(secret: str, pepper: bytes) -> bytes:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()
