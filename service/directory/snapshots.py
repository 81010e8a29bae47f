"""Full exports of HR that arrive as events: who was named in each, and what says that it was all.

Knows nothing of what follows for those who were not named: see service.directory.absences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, func, select, tuple_, update

from service.directory import ending, many
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import hold, hold_if_free, insert_unless_known
from service.directory.events import Problem
from service.directory.prepared import Prepared
from service.workers import WorkerEvent

PATIENCE: Final = timedelta(hours=24)
"""How long the last lines of an export may take after the word that it was all."""
KEPT: Final = timedelta(days=7)
"""How long it is remembered who was named in an export that never was complete."""
STALE: Final = timedelta(hours=12)
"""Lines that come so long after the first begin an export of that name anew, where none completed it."""
_PURGED_AT_ONCE: Final = 2000
_CLOSED: Final = Problem(
    kind="input",
    code="snapshot_closed",
    message="This snapshot has been compared before: give each export a name of its own.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One export. ``event_id``: of the event that said ``count``; None: it has not come yet."""

    organization: str
    name: str
    began_at: datetime
    event_id: str | None
    count: int | None
    taken_at: datetime | None
    due_at: datetime | None
    reached: str | None
    absent: int
    compared_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A worker who is named in an export, and when we heard it."""

    organization: str
    snapshot: str
    worker_id: str
    at: datetime


def hear(transaction: Transaction, lines: Sequence[Line]) -> None:
    """Notes who is named in exports, as far as they are still open."""
    first: dict[tuple[str, str], Line] = {}
    for line in lines:
        first.setdefault((line.organization, line.snapshot), line)
    still_open = {key for key in sorted(first) if _opened(transaction, first[key])}
    named = {
        (line.organization, line.snapshot, line.worker_id): {
            "organization": line.organization,
            "snapshot": line.snapshot,
            "worker_id": line.worker_id,
        }
        for line in lines
        if (line.organization, line.snapshot) in still_open
    }
    rows = [named[key] for key in sorted(named)]  # in order: two who insert the same do not circle
    many.insert_unknown(transaction, t.snapshot_workers, rows, (t.snapshot_workers.c.worker_id,))


def _opened(transaction: Transaction, line: Line) -> bool:
    run = get(transaction, line.organization, line.snapshot)
    if run is None:
        _begin(transaction, line.organization, line.snapshot, line.at)
    elif run.ended_at is None and run.due_at is None and line.at - run.began_at > STALE:
        _begin_anew(transaction, run, line.at)
    return run is None or run.ended_at is None


def _begin_anew(transaction: Transaction, run: Snapshot, now: datetime) -> None:
    """Forgets whom an export named that broke off: else the next one of its name would be thought whole
    while its lines are still coming. Of several who see it at once, one does so.
    """
    begun = transaction.execute(
        update(t.snapshots)
        .where(
            t.snapshots.c.organization == run.organization,
            t.snapshots.c.name == run.name,
            t.snapshots.c.began_at == run.began_at,
        )
        .values(began_at=now)
    )
    if begun.rowcount == 1:
        transaction.execute(t.snapshot_workers.delete().where(*_of(run)))


def _begin(transaction: Transaction, organization: str, name: str, now: datetime) -> None:
    row = {"organization": organization, "name": name, "began_at": now}
    insert_unless_known(transaction, t.snapshots, row, [t.snapshots.c.name])


def complete(
    transaction: Transaction, organization: str, event: WorkerEvent, event_id: str, now: datetime
) -> None:
    """Notes that an export was all; the compare is left to others, and ends the event.

    A newer word on an export that is not compared yet takes the place of the older.
    """
    assert event.snapshot is not None
    hold(transaction, "snapshot", organization, event.snapshot)
    run = get(transaction, organization, event.snapshot)
    if run is not None and (run.ended_at is not None or run.reached is not None):
        ending.finish(transaction, event_id, "deadlettered", now=now, problem=_CLOSED)
        return
    if run is None:
        _begin(transaction, organization, event.snapshot, now)
    elif run.event_id is not None:
        ending.finish(transaction, run.event_id, "superseded", now=now, by=event_id)
    began = run.began_at if run is not None else now
    store(
        transaction,
        organization,
        event.snapshot,
        event_id=event_id,
        count=event.count,
        taken_at=min(began, event.effective_at or began),
        due_at=now + PATIENCE,
    )


def get(transaction: Transaction, organization: str, name: str) -> Snapshot | None:
    row = _ONE.first(transaction, {"organization": organization, "name": name})
    return Snapshot(**row) if row is not None else None


_ONE: Final = Prepared(
    select(t.snapshots).where(
        t.snapshots.c.organization == bindparam("organization"),
        t.snapshots.c.name == bindparam("name"),
    )
)


def take_if_free(transaction: Transaction, organization: str, name: str) -> Snapshot | None:
    """The export, held; None where another process has it, or it has ended."""
    if not hold_if_free(transaction, "snapshot", organization, name):
        return None
    run = get(transaction, organization, name)
    return run if run is not None and run.ended_at is None else None


def next_open(
    transaction: Transaction, after: tuple[str, str], now: datetime
) -> tuple[str, str] | None:
    """Organization and name of the export whose turn it is when ``after`` has had its own.

    Those that wait for a comparison, and those that nobody ever completed.
    """
    key = tuple_(t.snapshots.c.organization, t.snapshots.c.name)
    waiting = (
        select(t.snapshots.c.organization, t.snapshots.c.name)
        .where(
            t.snapshots.c.ended_at.is_(None),
            t.snapshots.c.event_id.is_not(None) | (t.snapshots.c.began_at < now - KEPT),
        )
        .order_by(t.snapshots.c.organization, t.snapshots.c.name)
        .limit(1)
    )
    row = transaction.execute(waiting.where(key > after)).first()
    row = row or transaction.execute(waiting).first()
    return (row.organization, row.name) if row is not None else None


def store(transaction: Transaction, organization: str, name: str, **values: Any) -> None:
    transaction.execute(
        update(t.snapshots)
        .where(t.snapshots.c.organization == organization, t.snapshots.c.name == name)
        .values(**values)
    )


def heard(transaction: Transaction, run: Snapshot) -> int:
    """How many workers an export has named so far."""
    return transaction.execute(select(func.count()).where(*_of(run))).scalar_one()


def named(transaction: Transaction, run: Snapshot, worker_ids: Sequence[str]) -> set[str]:
    """Which of these workers an export names."""
    query = select(t.snapshot_workers.c.worker_id).where(
        *_of(run), t.snapshot_workers.c.worker_id.in_(worker_ids)
    )
    return set(transaction.execute(query).scalars())


def forget_some(transaction: Transaction, run: Snapshot) -> bool:
    """Forgets some of those whom an export named; False where nobody was left."""
    some = select(t.snapshot_workers.c.worker_id).where(*_of(run)).limit(_PURGED_AT_ONCE)
    done = transaction.execute(
        t.snapshot_workers.delete().where(*_of(run), t.snapshot_workers.c.worker_id.in_(some))
    )
    return done.rowcount > 0


def _of(run: Snapshot) -> tuple[Any, Any]:
    return (
        t.snapshot_workers.c.organization == run.organization,
        t.snapshot_workers.c.snapshot == run.name,
    )
