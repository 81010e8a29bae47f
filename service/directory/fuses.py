"""Fuses: how many events of a source failed one after the other, and which sources are stopped for it.

Shared by all processes. A source that does well costs one look-up for each batch and no write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import bindparam, select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among, columns, insert
from service.directory.prepared import Prepared

Verdict = Literal["good", "bad", "neither"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse:
    """``detail`` names the failure that was counted last: ``code``, ``topic``, ``partition``, ``offset``."""

    source: str
    failures: int
    blown_at: datetime | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Failures in a row after some events, and the index of the one that blows the fuse."""

    failures: int
    blows_at: int | None = None


class Blown(Exception):
    """The source is stopped: nothing of it is taken in until an operator lets it go on."""


class WouldBlow(Exception):
    """The event at ``index`` blows the fuse, and others stand behind it: take in no more than that."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the event at index {index} blows the fuse")
        self.index = index


def run_after(failures: int, verdicts: Sequence[Verdict], limit: int) -> Run:
    """Counts on from ``failures`` in a row; ends where the fuse blows. Pure."""
    for index, verdict in enumerate(verdicts):
        if verdict == "neither":
            continue
        failures = failures + 1 if verdict == "bad" else 0
        if failures >= limit:
            return Run(failures=failures, blows_at=index)
    return Run(failures=failures)


def every(transaction: Transaction) -> dict[str, Fuse]:
    """By source; a source without one has not failed yet."""
    rows = transaction.execute(select(t.fuses))
    return {row.source: Fuse(**columns(row)) for row in rows}


def blown(transaction: Transaction) -> dict[str, Fuse]:
    return {name: fuse for name, fuse in every(transaction).items() if fuse.blown_at is not None}


def check(transaction: Transaction, source: str) -> int:
    """Failures in a row so far. Raises Blown."""
    row = _ONE.first(transaction, {"of": source})
    if row is None:
        return 0
    if row["blown_at"] is not None:
        raise Blown(source)
    return row["failures"]


_ONE: Final = Prepared(
    select(t.fuses.c.failures, t.fuses.c.blown_at).where(t.fuses.c.source == bindparam("of"))
)


def count(
    transaction: Transaction,
    source: str,
    events: Sequence[str | None],
    *,
    failures: int,
    limit: int,
    now: datetime,
    whole: bool = False,
) -> None:
    """Counts what became of events that this transaction took in: the last thing that it does.

    ``events``: ids in order; None for what says nothing about the source, such as a repeat.
    ``failures``: as ``check`` found. ``whole``: they came as one and stay together, whichever of them
    blows the fuse. Raises WouldBlow, and Blown where others were quicker; then nothing of the
    transaction may stay.
    """
    failed = _failed(transaction, [each for each in events if each is not None])
    verdicts: list[Verdict] = [_verdict(each, failed) for each in events]
    if not failed and (failures == 0 or "good" not in verdicts):
        return
    run = run_after(_held(transaction, source), verdicts, limit)
    if run.blows_at is not None and run.blows_at < len(events) - 1 and not whole:
        raise WouldBlow(run.blows_at)
    last = next((failed[each] for each in reversed(events) if each in failed), None)
    transaction.execute(
        update(t.fuses)
        .where(t.fuses.c.source == source)
        .values(
            failures=run.failures,
            blown_at=now if run.blows_at is not None else None,
            **({"detail": last} if last is not None else {}),
        )
    )


def reset(transaction: Transaction, source: str) -> bool:
    """Lets a source go on; False where it was not stopped."""
    before = transaction.execute(
        select(t.fuses.c.blown_at).where(t.fuses.c.source == source).with_for_update()
    ).scalar_one_or_none()
    transaction.execute(
        update(t.fuses)
        .where(t.fuses.c.source == source)
        .values(failures=0, blown_at=None, detail=None)
    )
    return before is not None


def _held(transaction: Transaction, source: str) -> int:
    """As ``check``, with the row locked: nobody else counts until this transaction ends."""
    statement = insert(transaction, t.fuses).values(source=source, failures=0)
    row = transaction.execute(
        statement.on_conflict_do_update(
            index_elements=["source"], set_={"failures": t.fuses.c.failures}
        ).returning(t.fuses.c.failures, t.fuses.c.blown_at)
    ).one()
    if row.blown_at is not None:
        raise Blown(source)
    return row.failures


def _verdict(event_id: str | None, failed: Mapping[str, object]) -> Verdict:
    if event_id is None:
        return "neither"
    return "bad" if event_id in failed else "good"


def _failed(transaction: Transaction, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of these events that ended at the door, each with where and why."""
    rows = transaction.execute(
        select(
            t.events.c.id,
            t.events.c.error,
            t.events.c.topic,
            t.events.c.partition,
            t.events.c.offset,
        ).where(
            among(transaction, t.events.c.id, ids),
            t.events.c.state.in_(("deadlettered", "rejected")),
        )
    )
    return {
        row.id: {
            "code": (row.error or {}).get("code"),
            "topic": row.topic,
            "partition": row.partition,
            "offset": row.offset,
        }
        for row in rows
    }
