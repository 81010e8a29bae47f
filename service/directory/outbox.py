"""Outcomes as rows: written with the state change that they tell of, read by publishers and people."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select, text, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.ids import derived_id
from service.outcomes.catalogue import OutcomeType, full_name

SHARDS: Final = 16
_LIKE_OURS: Final = re.compile(r"[a-z0-9_:-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One outcome event as stored. ``number`` orders all of them, ``sequence`` those of one key."""

    number: int
    id: str
    key: str
    sequence: int
    type: str
    organization: str | None
    user_id: str | None
    event_id: str | None
    correlation_id: str | None
    traceparent: str | None
    data: Mapping[str, Any]
    created_at: datetime
    published_at: datetime | None


_NEXT: Final = text(
    "INSERT INTO outcome_keys (key, sequence) VALUES (:key, 1)"
    " ON CONFLICT (key) DO UPDATE SET sequence = outcome_keys.sequence + 1 RETURNING sequence"
)


_STORE: Final = t.outcomes.insert()


def emit(
    transaction: Transaction,
    outcome: OutcomeType,
    *,
    now: datetime,
    organization: str | None = None,
    user_id: str | None = None,
    event_id: str | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
    source: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> str:
    """Writes an outcome and returns its id. Keyed by user, else by organization, else by source."""
    key = f"{organization}:{user_id}" if user_id else (organization or source or "installation")
    sequence: int = transaction.execute(_NEXT, {"key": key}).scalar_one()
    outcome_id = derived_id("outcome", key, str(sequence))
    transaction.execute(
        _STORE,
        {
            "id": outcome_id,
            "key": key,
            "sequence": sequence,
            "shard": zlib.crc32(key.encode()) % SHARDS,
            "type": full_name(outcome),
            "organization": organization,
            "user_id": user_id,
            "event_id": event_id,
            "correlation_id": correlation_id,
            "traceparent": traceparent,
            "data": dict(data or {}),
            "created_at": now,
        },
    )
    return outcome_id


def producer_key(source: str) -> str:
    """The key for what belongs to no organization, of a source that names itself.

    It may call itself like an organization, a user or a tenant, and shares no sequence with them.
    """
    return f"source/{source}" if _LIKE_OURS.fullmatch(source) else source


def unpublished(transaction: Transaction, shards: Sequence[int], limit: int) -> list[Outcome]:
    """The oldest unpublished outcomes of these shards, in order."""
    rows = transaction.execute(
        select(t.outcomes)
        .where(t.outcomes.c.shard.in_(shards), t.outcomes.c.published_at.is_(None))
        .order_by(t.outcomes.c.number)
        .limit(limit)
    )
    return [_outcome(row) for row in rows]


def mark_published(transaction: Transaction, numbers: Sequence[int], now: datetime) -> None:
    transaction.execute(
        update(t.outcomes).where(t.outcomes.c.number.in_(numbers)).values(published_at=now)
    )


def listing(
    transaction: Transaction,
    *,
    after: int = 0,
    since: datetime | None = None,
    organization: str | None = None,
    event_id: str | None = None,
    user_id: str | None = None,
    limit: int = 500,
    newest: bool = False,
) -> list[Outcome]:
    """Outcomes after a number, oldest first: the first of them, or the ``newest``."""
    query = select(t.outcomes).where(t.outcomes.c.number > after)
    if since is not None:
        query = query.where(t.outcomes.c.created_at >= since)
    if organization is not None:
        query = query.where(t.outcomes.c.organization == organization)
    if event_id is not None:
        query = query.where(t.outcomes.c.event_id == event_id)
    if user_id is not None:
        query = query.where(t.outcomes.c.user_id == user_id)
    number = t.outcomes.c.number
    rows = transaction.execute(query.order_by(number.desc() if newest else number).limit(limit))
    found = [_outcome(row) for row in rows]
    return found[::-1] if newest else found


def _outcome(row: Row[Any]) -> Outcome:
    return Outcome(
        number=row.number,
        id=row.id,
        key=row.key,
        sequence=row.sequence,
        type=row.type,
        organization=row.organization,
        user_id=row.user_id,
        event_id=row.event_id,
        correlation_id=row.correlation_id,
        traceparent=row.traceparent,
        data=row.data,
        created_at=row.created_at,
        published_at=row.published_at,
    )
