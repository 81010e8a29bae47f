"""Who is missing from a full export of HR: compared in small steps, and each missing one let go by a
termination of their own, which the threshold for many leavers sees like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, and_, or_, select

from service.directory import ending, events, inbox, organizations, people, snapshots, workers
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among
from service.directory.events import Event, Problem
from service.directory.sequels import REPLAY
from service.directory.snapshots import Snapshot
from service.outcomes.endings import Comparison
from service.people import Cause, User
from service.workers import WorkerEvent

PORTION: Final = 500
"""So many workers a step looks at,"""
AT_ONCE: Final = 20
"""and so many of them it lets go: some 30 ms on SQLite, whose other writers wait."""
IN: Final = ("active", "on_leave", "suspended")
"""What HR has not let go yet."""
_GONE: Final[Cause] = "terminated-in-hr"
_HR: Final = ("http", "kafka")
_SPOKE: Final = or_(
    and_(t.events.c.door.in_(_HR), t.events.c.causation_id.is_(None)),
    # What an operator brought in from a file of HR's, or had read once more.
    and_(
        t.events.c.door == "operator",
        t.events.c.type.startswith("worker.", autoescape=True),
        t.events.c.causation_id.is_(None),
    ),
    t.events.c.type == REPLAY,
)


def carry_on(transaction: Transaction, organization: str, name: str, now: datetime) -> bool:
    """The next step of comparing an export; False where there is nothing to do now.

    The event that completed the export ends when all of those who were missing have left, or when
    its lines have not come in time: then nobody leaves.
    """
    run = snapshots.take_if_free(transaction, organization, name)
    if run is None:
        return False
    event = events.get(transaction, run.event_id) if run.event_id is not None else None
    if event is None or event.state not in events.OPEN:
        return _close(transaction, run, now)
    if run.compared_at is not None:
        return snapshots.forget_some(transaction, run) or _conclude(transaction, run, event, now)
    if run.reached is None and not _is_whole(transaction, run):
        return run.due_at is not None and run.due_at <= now and _give_up(transaction, run, now)
    return _compare(transaction, run, event, now)


def _is_whole(transaction: Transaction, run: Snapshot) -> bool:
    return run.count is not None and snapshots.heard(transaction, run) >= run.count


def _close(transaction: Transaction, run: Snapshot, now: datetime) -> bool:
    """For one that was discarded, or never completed."""
    if not snapshots.forget_some(transaction, run):
        snapshots.store(transaction, run.organization, run.name, ended_at=now)
    return True


def _give_up(transaction: Transaction, run: Snapshot, now: datetime) -> bool:
    """Who was named is remembered a while: a replay compares once the lines have come."""
    assert run.event_id is not None
    heard = snapshots.heard(transaction, run)
    problem = Problem(
        kind="input",
        code="snapshot_incomplete",
        message=(
            f"Of {run.count} workers {heard} were named within 24 hours, so nobody was taken to have"
            " left: send the missing lines, then replay this event."
        ),
    )
    ending.finish(transaction, run.event_id, "deadlettered", now=now, problem=problem)
    snapshots.store(transaction, run.organization, run.name, event_id=None, count=None)
    return True


def _compare(transaction: Transaction, run: Snapshot, event: Event, now: datetime) -> bool:
    """Looks at the next workers, in order of their ids."""
    rows = workers_after(transaction, run.organization, run.reached or "")
    if not rows:
        snapshots.store(transaction, run.organization, run.name, compared_at=now)
        return True
    reached, gone = rows[-1].worker_id, 0
    missing = _missing(transaction, run, rows, now)
    people.lock_many(
        transaction, [row.id for row in missing[:AT_ONCE]]
    )  # before any of them leaves
    for row in missing:
        if gone == AT_ONCE or not people.hold_key_if_free(
            transaction, run.organization, row.worker_id
        ):
            reached = _before(rows, row, run)
            break
        gone += _let_go(transaction, run, event, row, now)
    snapshots.store(
        transaction, run.organization, run.name, reached=reached, absent=run.absent + gone
    )
    return reached != (run.reached or "")


def workers_after(transaction: Transaction, organization: str, after: str) -> Sequence[Row[Any]]:
    """The next workers of an organization, in order of their ids, as ``may_be_missing`` reads them."""
    return transaction.execute(
        select(t.users.c.id, t.users.c.worker_id, t.users.c.employment, t.users.c.withheld)
        .where(t.users.c.organization == organization, t.users.c.worker_id > after)
        .order_by(t.users.c.worker_id)
        .limit(PORTION)
    ).all()


def may_be_missing(user: User | Row[Any]) -> bool:
    """Whether a worker leaves who is not named: HR has them in, or let them go and an operator refused
    to believe it; that they are missing again is a newer word, and judged anew.
    """
    refused = (user.withheld or {}).get("refused", {})
    return user.employment in IN or (user.employment == "terminated" and _GONE in refused)


def _missing(
    transaction: Transaction, run: Snapshot, rows: Sequence[Row[Any]], now: datetime
) -> list[Row[Any]]:
    named = snapshots.named(transaction, run, [row.worker_id for row in rows])
    found = [row for row in rows if may_be_missing(row) and row.worker_id not in named]
    assert run.taken_at is not None
    since = heard_since(transaction, run.taken_at, now, [row.id for row in found])
    return [row for row in found if row.id not in since]


def heard_since(
    transaction: Transaction, taken_at: datetime, now: datetime, user_ids: Sequence[str]
) -> set[str]:
    """Of whom HR has spoken since an export was taken, which therefore cannot know of it: or what it
    said earlier has come true since, or is still being asked about.
    """
    of_users = among(transaction, t.events.c.user_id, user_ids)
    came_true = and_(t.events.c.effective_at >= taken_at, t.events.c.effective_at <= now)
    said = select(t.events.c.user_id).where(
        of_users, _SPOKE, or_(t.events.c.accepted_at >= taken_at, came_true)
    )
    asked = (
        select(t.users.c.id)
        .join(
            t.enrichments,
            and_(
                t.enrichments.c.organization == t.users.c.organization,
                t.enrichments.c.worker_id == t.users.c.worker_id,
            ),
        )
        .where(among(transaction, t.users.c.id, user_ids), t.enrichments.c.since >= taken_at)
    )
    return {
        *transaction.execute(said).scalars(),
        *transaction.execute(asked).scalars(),
    }


def _before(rows: Sequence[Row[Any]], row: Row[Any], run: Snapshot) -> str:
    at = rows.index(row)
    return rows[at - 1].worker_id if at else (run.reached or "")


def _let_go(
    transaction: Transaction, run: Snapshot, event: Event, row: Row[Any], now: datetime
) -> bool:
    """Ends whatever employment the worker has; False where HR has spoken of them meanwhile."""
    user = people.lock(transaction, row.id)
    if user is None or not may_be_missing(user) or user.worker_id != row.worker_id:
        return False
    assert run.taken_at is not None
    if heard_since(transaction, run.taken_at, now, [row.id]):
        return False
    registered = organizations.find(transaction, run.organization)
    assert registered is not None
    left = WorkerEvent(type="worker.terminated", worker_id=row.worker_id)
    received = inbox.caused_by(event, door=event.door, source=event.source, type=left.type, at=now)
    workers.accept(transaction, registered, left, received)
    return True


def _conclude(transaction: Transaction, run: Snapshot, event: Event, now: datetime) -> bool:
    """Ends the event once all that it caused has ended."""
    going = (
        select(t.events.c.id)
        .where(t.events.c.causation_id == event.id, t.events.c.state.in_(events.OPEN))
        .limit(1)
    )
    if transaction.execute(going).first() is not None:
        return False
    compared = Comparison(name=run.name, workers=run.count, absent=run.absent)
    ending.finish(transaction, event.id, "succeeded", now=now, result="applied", compared=compared)
    snapshots.store(transaction, run.organization, run.name, ended_at=now)
    return True
