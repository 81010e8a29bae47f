"""Which publisher sends which outcomes: leased shards, shared fairly among those that are alive.

Knows no Kafka. The clocks of publishers may differ by much less than a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, or_, select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import insert
from service.directory.outbox import SHARDS

_FORGOTTEN_AFTER: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLease:
    """A shard that is ours for now. The fence grows with each change of owner."""

    shard: int
    fence: int


def hold(transaction: Transaction, owner: str, now: datetime, lease: timedelta) -> list[ShardLease]:
    """Renews what ``owner`` holds, gives back what is more than its share, claims what is free.

    Call it between rounds, with nothing in flight. ``owner`` names one run of one process. Publishers
    know of each other by a seat that each keeps: a row of the same table, below shard 0.
    """
    rows = transaction.execute(select(t.shards).order_by(t.shards.c.shard)).all()
    _seed(transaction, rows)
    _sit_down(transaction, rows, owner, now, lease)
    others = {row.owner for row in rows if row.shard < 0 and _is_live(row, now)} - {owner}
    share = -(-SHARDS // (len(others) + 1))
    mine = [row for row in rows if row.shard >= 0 and row.owner == owner]
    for row in mine[share:]:
        _give_back(transaction, row.shard, owner)
    kept = [_renew(transaction, row, owner, now + lease) for row in mine[:share]]
    leases = [each for each in kept if each is not None]
    for shard in _free(rows, now):
        if len(leases) >= share:
            break
        claimed = _claim(transaction, shard, owner, now, lease)
        if claimed is not None:
            leases.append(claimed)
    return leases


def release(transaction: Transaction, owner: str) -> None:
    """Lets others in at once, and leaves the seat."""
    transaction.execute(
        update(t.shards)
        .where(t.shards.c.owner == owner, t.shards.c.shard >= 0)
        .values(owner=None, lease_until=None)
    )
    transaction.execute(t.shards.delete().where(t.shards.c.owner == owner, t.shards.c.shard < 0))


def _seed(transaction: Transaction, rows: Sequence[Row[Any]]) -> None:
    missing = set(range(SHARDS)) - {row.shard for row in rows}
    for shard in sorted(missing):
        transaction.execute(
            insert(transaction, t.shards).values(shard=shard).on_conflict_do_nothing()
        )


def _sit_down(
    transaction: Transaction, rows: Sequence[Row[Any]], owner: str, now: datetime, lease: timedelta
) -> None:
    """Two that reach for the same new seat: the later one finds another next time."""
    transaction.execute(
        t.shards.delete().where(
            t.shards.c.shard < 0, t.shards.c.lease_until < now - _FORGOTTEN_AFTER
        )
    )
    renewed = transaction.execute(
        update(t.shards)
        .where(t.shards.c.shard < 0, t.shards.c.owner == owner)
        .values(lease_until=now + lease)
        .returning(t.shards.c.shard)
    ).first()
    if renewed is None:
        seat = min([row.shard for row in rows if row.shard < 0], default=0) - 1
        transaction.execute(
            insert(transaction, t.shards)
            .values(shard=seat, owner=owner, lease_until=now + lease)
            .on_conflict_do_nothing()
        )


def _is_live(row: Row[Any], now: datetime) -> bool:
    return row.lease_until is not None and row.lease_until > now


def _free(rows: Sequence[Row[Any]], now: datetime) -> list[int]:
    """Shards without a live owner; those that no row tells of yet are seeded and free."""
    taken = {row.shard for row in rows if row.owner is not None and _is_live(row, now)}
    return sorted(set(range(SHARDS)) - taken)


def _renew(
    transaction: Transaction, row: Row[Any], owner: str, until: datetime
) -> ShardLease | None:
    fence = transaction.execute(
        update(t.shards)
        .where(t.shards.c.shard == row.shard, t.shards.c.owner == owner)
        .where(t.shards.c.fence == row.fence)
        .values(lease_until=until)
        .returning(t.shards.c.fence)
    ).scalar_one_or_none()
    return None if fence is None else ShardLease(shard=row.shard, fence=fence)


def _give_back(transaction: Transaction, shard: int, owner: str) -> None:
    transaction.execute(
        update(t.shards)
        .where(t.shards.c.shard == shard, t.shards.c.owner == owner)
        .values(owner=None, lease_until=None)
    )


def _claim(
    transaction: Transaction, shard: int, owner: str, now: datetime, lease: timedelta
) -> ShardLease | None:
    fence = transaction.execute(
        update(t.shards)
        .where(
            t.shards.c.shard == shard,
            or_(t.shards.c.owner.is_(None), t.shards.c.lease_until <= now),
        )
        .values(owner=owner, fence=t.shards.c.fence + 1, lease_until=now + lease)
        .returning(t.shards.c.fence)
    ).scalar_one_or_none()
    return None if fence is None else ShardLease(shard=shard, fence=fence)
