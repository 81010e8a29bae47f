"""Bearer tokens of the doors: made, checked, revoked. The secret is shown once and never stored.

A token is ``ap_<key id>_<secret>`` with 256 random bits; its keyed hash is what we keep. A door of
an organization has two live ones at most, so that one can take over from the other.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Row, bindparam, or_, select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import hold
from service.errors import Refused
from service.organizations import SCOPES, TokenScope

TokenDoor = Literal["scim", "events"]
MOST_LIVE: Final = 2
"""One in use and one to take over: a third that nobody remembers would be a door left open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A token as stored: everything but the token."""

    id: str
    organization: str
    door: TokenDoor
    scopes: tuple[TokenScope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """When it last opened its door, to about a minute (see ``uses``)."""

    def is_live(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


def create(
    transaction: Transaction,
    *,
    organization: str,
    door: TokenDoor,
    pepper: bytes,
    now: datetime,
    lifetime: timedelta | None = None,
    scopes: Collection[TokenScope] = SCOPES,
) -> str:
    """A new token, in the only moment in which it can be read.

    Raises Refused where two live ones are there already, or where it could do nothing.
    """
    if door == "events" and "write" not in scopes:
        raise Refused("A token of the door events needs the scope write: events are only sent.")
    if not scopes:
        raise Refused(f"A token needs a scope: {' or '.join(SCOPES)}.")
    hold(transaction, "credentials", organization, door)
    live = [each for each in listing(transaction, organization, door) if each.is_live(now)]
    if len(live) >= MOST_LIVE:
        raise Refused(_too_many(organization, door, live))
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    transaction.execute(
        t.credentials.insert().values(
            id=key_id,
            organization=organization,
            door=door,
            secret_hash=_hash(secret, pepper),
            scopes=" ".join(scope for scope in SCOPES if scope in scopes),
            created_at=now,
            expires_at=now + lifetime if lifetime is not None else None,
        )
    )
    return f"ap_{key_id}_{secret}"


def verify(
    transaction: Transaction,
    token: str,
    *,
    organization: str,
    door: TokenDoor,
    pepper: bytes,
    now: datetime,
) -> Credential | None:
    """The credential of a token that opens this door of this organization now, else None.

    Takes as long for a token that there is not as for one with a wrong secret.
    """
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != "ap" or not secret:
        return None
    row = transaction.execute(
        select(t.credentials).where(
            t.credentials.c.id == key_id,
            t.credentials.c.organization == organization,
            t.credentials.c.door == door,
        )
    ).one_or_none()
    kept: bytes = row.secret_hash if row is not None else bytes(32)
    right = hmac.compare_digest(kept, _hash(secret, pepper))
    if row is None or not right:
        return None
    credential = _credential(row)
    return credential if credential.is_live(now) else None


def record_uses(
    transaction: Transaction, uses: Mapping[str, datetime], *, apart: timedelta = timedelta(0)
) -> None:
    """Stores when tokens were last used, by id; never an earlier moment than the one stored.

    A moment less than ``apart`` after the one stored, by another process too, is left out.
    """
    if not uses:
        return
    last = t.credentials.c.last_used_at
    statement = (
        update(t.credentials)
        .where(
            t.credentials.c.id == bindparam("key_id"),
            or_(last.is_(None), last <= bindparam("before", type_=last.type)),
        )
        .values(last_used_at=bindparam("at"))
    )
    # In one order, so that two processes never wait for each other's rows.
    transaction.execute(
        statement,
        [{"key_id": id_, "at": at, "before": at - apart} for id_, at in sorted(uses.items())],
    )


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


def listing(
    transaction: Transaction, organization: str, door: TokenDoor | None = None
) -> list[Credential]:
    """Every token that an organization ever had, oldest first."""
    query = select(t.credentials).where(t.credentials.c.organization == organization)
    if door is not None:
        query = query.where(t.credentials.c.door == door)
    rows = transaction.execute(query.order_by(t.credentials.c.created_at, t.credentials.c.id))
    return [_credential(row) for row in rows]


def _credential(row: Row[Any]) -> Credential:
    named = row.scopes.split()
    return Credential(
        id=row.id,
        organization=row.organization,
        door=row.door,
        scopes=tuple(scope for scope in SCOPES if scope in named),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _too_many(organization: str, door: TokenDoor, live: Collection[Credential]) -> str:
    def told(each: Credential) -> str:
        used = f"last used {_moment(each.last_used_at)}" if each.last_used_at else "never used"
        return f"{each.id} (made {_moment(each.created_at)}, {used})"

    return (
        f"{organization} has {len(live)} live tokens for {door} already:"
        f" {' and '.join(told(each) for each in live)}."
        f" Revoke one with 'provisioner org token revoke {organization} ID', then try again."
    )


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _hash(secret: str, pepper: bytes) -> bytes:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()
