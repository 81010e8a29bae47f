"""Who waits for which revision of an account, and which events a newer one makes moot."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, case, select, update

from service.directory import accounts, ending, moves, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among, insert
from service.directory.ending import Ending
from service.directory.many import LookUp
from service.directory.prepared import Prepared


def wait(
    transaction: Transaction, event_id: str, account_id: str, user_id: str, revision: int
) -> None:
    """Lets an event wait for a revision of an account."""
    _WAIT.run(
        transaction,
        {
            "event_id": event_id,
            "account_id": account_id,
            "user_id": user_id,
            "revision": revision,
        },
    )


_WAIT: Final = Prepared(t.waits.insert())


def wait_as_well(
    transaction: Transaction, event_id: str, account_id: str, user_id: str, revision: int
) -> None:
    """As ``wait``, where the event may wait for the account already."""
    keys = {"event_id": event_id, "account_id": account_id, "user_id": user_id}
    transaction.execute(
        insert(transaction, t.waits)
        .values(**keys, revision=revision)
        .on_conflict_do_update(index_elements=list(keys), set_={"revision": revision})
    )


def await_account(
    transaction: Transaction,
    account_id: str,
    user_id: str,
    event_id: str,
    *,
    leaver: bool,
    now: datetime,
) -> None:
    """Marks the account due and lets the event wait for the revision that this asks for."""
    revision = accounts.touch(transaction, account_id, leaver=leaver, now=now)
    wait(transaction, event_id, account_id, user_id, revision)
    if leaver:
        leave(transaction, user_id, (event_id,), now)
    people.store(transaction, user_id, state="pending", detail=None)


def lock_out(
    transaction: Transaction, user_id: str, event_ids: Collection[str], now: datetime
) -> None:
    """Has the former accounts locked that a user needed still, and lets events wait for it."""
    needed = moves.needed(transaction, user_id)
    _lock(transaction, user_id, needed, event_ids, now)


def leave(
    transaction: Transaction, user_id: str, event_ids: Collection[str], now: datetime
) -> None:
    """As ``lock_out``, of whoever is out: in every former account, since one may not be locked yet,
    or have been refused to be."""
    _lock(transaction, user_id, moves.every(transaction, user_id), event_ids, now)


def lock_again(transaction: Transaction, user_id: str, event_id: str, now: datetime) -> None:
    """Has the former accounts looked at that a user has left: one may have been refused its lock."""
    needed = moves.needed(transaction, user_id)
    left = [each for each in moves.every(transaction, user_id) if each not in needed]
    _lock(transaction, user_id, left, (event_id,), now)


def _lock(
    transaction: Transaction,
    user_id: str,
    account_ids: Sequence[str],
    event_ids: Collection[str],
    now: datetime,
) -> None:
    for account_id in account_ids:
        revision = moves.lock_out(transaction, user_id, account_id, now)
        for event_id in event_ids:
            wait_as_well(transaction, event_id, account_id, user_id, revision)


def touch_users(
    transaction: Transaction,
    user_ids: Sequence[str],
    *,
    event_id: str,
    now: datetime,
) -> int:
    """Lets an event wait for the accounts of some users, as after a change of a group.

    Returns the number of waits. For many users see ``fanouts.touch``.
    """
    # Users before accounts, each in order, as everywhere: two changes do not wait for each other.
    residents = _residents(transaction, user_ids)
    revisions = _revised(transaction, list(residents), now) if residents else {}
    waits = [
        {
            "event_id": event_id,
            "account_id": account_id,
            "user_id": resident,
            "revision": revision,
        }
        for account_id, revision in revisions.items()
        for resident in residents[account_id]
    ]
    if not waits:
        return 0
    transaction.execute(t.waits.insert(), waits)
    touched = [each for account_id in revisions for each in residents[account_id]]
    transaction.execute(
        update(t.users)
        .where(among(transaction, t.users.c.id, touched))
        .values(state="pending", detail=None, last_event_id=event_id)
    )
    return len(waits)


# Both by their ids and nothing else: for a join, or by a partial index, Postgres may read all of a
# table while its statistics lag behind.
def _residents(transaction: Transaction, user_ids: Sequence[str]) -> dict[str, list[str]]:
    """The accounts of these users, and who of them lives in each; the users are held."""
    lived = transaction.execute(
        select(t.users.c.account_id, t.users.c.id)
        .where(among(transaction, t.users.c.id, user_ids))
        .order_by(t.users.c.id)
        .with_for_update()
    )
    residents: dict[str, list[str]] = {}
    for row in lived:
        if row.account_id is not None:
            residents.setdefault(row.account_id, []).append(row.id)
    for former in moves.of_users(transaction, user_ids):
        residents.setdefault(former.account_id, []).append(former.user_id)
    return residents


def _revised(transaction: Transaction, account_ids: Sequence[str], now: datetime) -> dict[str, int]:
    """Marks those of these accounts due that are open; returns the revision that each has now."""
    theirs = (
        select(t.accounts.c.id, t.accounts.c.closed_at)
        .where(among(transaction, t.accounts.c.id, account_ids))
        .order_by(t.accounts.c.id)
        .with_for_update()
    )
    housed = [row.id for row in transaction.execute(theirs) if row.closed_at is None]
    if not housed:
        return {}
    revised = transaction.execute(
        update(t.accounts)
        .where(among(transaction, t.accounts.c.id, housed))
        .values(
            revision=t.accounts.c.revision + 1,
            # Who is due already keeps their place, a leaver most of all.
            due_at=case((t.accounts.c.due_at < now, t.accounts.c.due_at), else_=now),
            attempts=0,
            error=None,
            modified_at=now,
        )
        .returning(t.accounts.c.id, t.accounts.c.revision)
    )
    return {row.id: row.revision for row in revised}


def supersede_open(transaction: Transaction, user_id: str, *, by: str, now: datetime) -> None:
    """Ends a user's own older open events: a newer one made them moot."""
    older = transaction.execute(_OPEN_OF_USER, {"user": user_id, "by": by}).scalars()
    ending.finish_many(
        transaction,
        [Ending(event_id=event_id, ended="superseded", now=now, by=by) for event_id in older.all()],
    )


def supersede_open_of_many(
    transaction: Transaction, by: Mapping[str, tuple[str, datetime]]
) -> None:
    """As ``supersede_open``, of many users: by the event that makes them moot, and when."""
    users = sorted(by)
    waiting = {
        (users[at], row["event_id"])
        for at, row in _WAITING.all(transaction, [(each,) for each in users])
    }
    asked = sorted((event_id, user) for user, event_id in waiting if by[user][0] != event_id)
    older = [(row["number"], *asked[at]) for at, row in _ACCEPTED.all(transaction, asked)]
    ending.finish_many(
        transaction,
        [
            Ending(event_id=event_id, ended="superseded", now=by[user][1], by=by[user][0])
            for _, event_id, user in sorted(older)
        ],
    )


_WAITING: Final = LookUp(t.waits, ("user_id",), ("event_id",))
_ACCEPTED: Final = LookUp(t.events, ("id", "user_id"), ("number",), where="state = 'accepted'")
_OPEN_OF_USER: Final = (
    select(t.events.c.id)
    .where(
        t.events.c.user_id == bindparam("user"),
        t.events.c.state == "accepted",
        t.events.c.id != bindparam("by"),
        t.events.c.id.in_(select(t.waits.c.event_id).where(t.waits.c.user_id == bindparam("user"))),
    )
    .order_by(t.events.c.number)
)
