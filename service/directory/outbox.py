"""Outcomes as rows: written with the state change that they tell of, read by publishers and people."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, select, text, update

from service.directory import many, streams
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.prepared import Prepared
from service.ids import derived_id
from service.outcomes.catalogue import full_name
from service.outcomes.data import Data

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
    tracestate: str | None = None
    data: Mapping[str, Any]
    created_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An outcome to be written. Keyed by user, else by organization, else by ``source``."""

    data: Data
    now: datetime
    organization: str | None = None
    user_id: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    source: str | None = None
    auth0_user_id: str | None = None
    """For security events, whose receivers know people by it, whatever outcomes tell."""

    @property
    def key(self) -> str:
        if self.user_id:
            return f"{self.organization}:{self.user_id}"
        return self.organization or self.source or "installation"


def emit(
    transaction: Transaction,
    data: Data,
    *,
    now: datetime,
    organization: str | None = None,
    user_id: str | None = None,
    event_id: str | None = None,
    correlation_id: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    source: str | None = None,
    auth0_user_id: str | None = None,
) -> str:
    """Writes an outcome and returns its id. Keyed by user, else by organization, else by source."""
    draft = Draft(
        data=data,
        now=now,
        organization=organization,
        user_id=user_id,
        event_id=event_id,
        correlation_id=correlation_id,
        traceparent=traceparent,
        tracestate=tracestate,
        source=source,
        auth0_user_id=auth0_user_id,
    )
    return emit_many(transaction, [draft])[0]


def emit_many(transaction: Transaction, drafts: Sequence[Draft]) -> list[str]:
    """Writes outcomes, those of one key in this order, and returns their ids."""
    keys = [draft.key for draft in drafts]
    next_of = _next_of_each(transaction, Counter(keys))
    rows: list[Mapping[str, Any]] = []
    for key, draft in zip(keys, drafts, strict=True):
        sequence = next_of[key]
        next_of[key] += 1
        rows.append(
            {
                "id": derived_id("outcome", key, str(sequence)),
                "key": key,
                "sequence": sequence,
                "shard": zlib.crc32(key.encode()) % SHARDS,
                "type": full_name(draft.data.type),
                "organization": draft.organization,
                "user_id": draft.user_id,
                "event_id": draft.event_id,
                "correlation_id": draft.correlation_id,
                "traceparent": draft.traceparent,
                "tracestate": draft.tracestate,
                "data": draft.data.document(),
                "created_at": draft.now,
            }
        )
    many.insert(transaction, t.outcomes, rows)
    for row, draft in zip(rows, drafts, strict=True):
        named = {"auth0UserId": draft.auth0_user_id} if draft.auth0_user_id else {}
        streams.tell(
            transaction,
            draft.data.type,
            row["id"],
            organization=draft.organization,
            user_id=draft.user_id,
            event_id=draft.event_id,
            data=row["data"] | named,
            now=draft.now,
        )
    return [row["id"] for row in rows]


def _next_of_each(transaction: Transaction, counts: Mapping[str, int]) -> dict[str, int]:
    """The first of as many sequence numbers as each key needs now."""
    wanted = sorted(counts.items())
    if transaction.dialect.name == "postgresql":
        given = {"keys": [key for key, _ in wanted], "counts": [count for _, count in wanted]}
        last = {row["key"]: row["sequence"] for row in _NEXT_OF_MANY.all(transaction, given)}
    else:
        last: dict[str, int] = {}
        for key, count in wanted:
            row = _NEXT.first(transaction, {"key": key, "count": count})
            assert row is not None
            last[key] = row["sequence"]
    return {key: last[key] - count + 1 for key, count in wanted}


_COUNTED: Final = (
    " ON CONFLICT (key) DO UPDATE SET sequence = outcome_keys.sequence + excluded.sequence"
    " RETURNING key, sequence"
)
_KEY: Final = (t.outcome_keys.c.key, t.outcome_keys.c.sequence)
_NEXT: Final = Prepared(
    text(f"INSERT INTO outcome_keys (key, sequence) VALUES (:key, :count){_COUNTED}").columns(*_KEY)  # noqa: S608
)
_NEXT_OF_MANY: Final = Prepared(
    text(
        "INSERT INTO outcome_keys (key, sequence)"  # noqa: S608 - our own names
        " SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:counts AS integer[]))"
        f" AS given(key, count) ORDER BY key{_COUNTED}"
    ).columns(*_KEY)
)


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
        tracestate=row.tracestate,
        data=row.data,
        created_at=row.created_at,
        published_at=row.published_at,
    )
