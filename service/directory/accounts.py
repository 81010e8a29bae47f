"""Accounts: the Auth0 users we answer for, when each is due, and what was last observed of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    update,
)

from service.directory import many
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import IDS, one_of
from service.directory.prepared import Prepared
from service.ids import account_key, new_id

_GET: Final = select(t.accounts).where(t.accounts.c.id == bindparam("of"))
_ONE: Final = Prepared(_GET)
_HOLD: Final = Prepared(_GET.with_for_update())
_THOSE: Final = select(t.accounts).where(one_of(t.accounts.c.id, IDS)).order_by(t.accounts.c.id)
_HOLD_MANY: Final = Prepared(_THOSE.with_for_update())
_HOLD_THOSE_FREE: Final = Prepared(_THOSE.with_for_update(skip_locked=True))
_STORE: Final = Prepared(update(t.accounts).where(t.accounts.c.id == bindparam("of")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One Auth0 user. ``observed`` and ``doubt`` are documents of service.provisioning."""

    id: str
    tenant: str
    connection: str
    user_id: str
    identifier: str
    closed_at: datetime | None
    revision: int
    applied_revision: int
    observed: Mapping[str, Any]
    doubt: Mapping[str, Any] | None
    due_at: datetime | None
    leaver: bool
    attempts: int
    error: Mapping[str, Any] | None
    import_id: str | None = None
    """The import that has it: see service.directory.imports."""
    looked: int = 0
    appeared: str | None = None
    """Auth0's id of a user who may be the one that is awaited: to be read before it is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An account whose turn has come."""

    id: str
    leaver: bool
    due_at: datetime


def find_open(
    transaction: Transaction, tenant: str, connection: str, identifier: str
) -> str | None:
    """The id of the account that this address has in this connection."""
    return transaction.execute(
        select(t.accounts.c.id).where(
            t.accounts.c.tenant == tenant,
            t.accounts.c.connection == connection,
            t.accounts.c.identifier == identifier,
            t.accounts.c.closed_at.is_(None),
        )
    ).scalar_one_or_none()


def open_account(
    transaction: Transaction, tenant: str, connection: str, identifier: str, now: datetime
) -> str | None:
    """A new account with a key of its own, stored before Auth0 hears of it, and due at once for
    its revision 1.

    None where this address has an open account already.
    """
    opening = Opening(tenant=tenant, connection=connection, identifier=identifier, now=now)
    return next(iter(open_many(transaction, [opening]).values()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A new account. ``revision``: more than 1 where it has been touched already."""

    tenant: str
    connection: str
    identifier: str
    now: datetime
    revision: int = 1

    @property
    def place(self) -> tuple[str, str, str]:
        return self.tenant, self.connection, self.identifier


def open_many(
    transaction: Transaction, openings: Sequence[Opening]
) -> dict[tuple[str, str, str], str]:
    """As ``open_account``: ids by tenant, connection and address."""
    rows = [
        {
            "id": new_id(each.now),
            "tenant": each.tenant,
            "connection": each.connection,
            "user_id": f"auth0|{account_key()}",
            "identifier": each.identifier,
            "revision": each.revision,
            "applied_revision": 0,
            "observed": {},
            "due_at": each.now,
            "modified_at": each.now,
        }
        for each in openings
    ]
    told = (t.accounts.c.id, t.accounts.c.tenant, t.accounts.c.connection, t.accounts.c.identifier)
    return {
        (row["tenant"], row["connection"], row["identifier"]): row["id"]
        for row in many.insert_unknown(transaction, t.accounts, rows, told)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """An account that changes for so many events at once. ``revision``: what it is afterwards.
    ``leaver``: whether somebody leaves.
    """

    account: Account
    revision: int
    now: datetime
    leaver: bool = False


def touch_many(transaction: Transaction, touches: Sequence[Touch]) -> None:
    """As ``touch``, of accounts that are held."""
    rows = [
        {
            "id": each.account.id,
            "revision": each.revision,
            "due_at": min(each.account.due_at or each.now, each.now),
            "leaver": each.leaver or (each.account.leaver and each.account.due_at is not None),
            "attempts": 0,
            "error": None,
            "modified_at": each.now,
        }
        for each in touches
    ]
    many.write(transaction, t.accounts, rows)


def touch(transaction: Transaction, account_id: str, *, leaver: bool, now: datetime) -> int:
    """Marks an account due for a new revision of what is wanted, and returns that revision.

    A leaver that is still due stays in front, whoever else of a shared account changes meanwhile;
    and whoever is due already keeps their place.
    """
    given = {"of": account_id, "leaves": leaver, "now": now}
    row = _TOUCH.first(transaction, given)
    assert row is not None, "an account is never taken out of the table"
    return row["revision"]


_NOW: Final = bindparam("now", type_=t.accounts.c.due_at.type)
_TOUCH: Final = Prepared(
    update(t.accounts)
    .where(t.accounts.c.id == bindparam("of"))
    .values(
        revision=t.accounts.c.revision + 1,
        due_at=case((t.accounts.c.due_at < _NOW, t.accounts.c.due_at), else_=_NOW),
        leaver=or_(
            bindparam("leaves", type_=Boolean),
            and_(t.accounts.c.due_at.is_not(None), t.accounts.c.leaver),
        ),
        attempts=0,
        error=None,
        modified_at=_NOW,
    )
    .returning(t.accounts.c.revision)
)


def look(transaction: Transaction, account_id: str, now: datetime) -> None:
    """Makes an account due for being read in Auth0, with nothing new wanted of it, as when something
    was seen to happen there. What is not as it should be is put right.
    """
    transaction.execute(
        update(t.accounts)
        .where(
            t.accounts.c.id == account_id,
            t.accounts.c.closed_at.is_(None),
            or_(t.accounts.c.due_at.is_(None), t.accounts.c.due_at > now),
        )
        .values(due_at=now)
    )


def due(
    transaction: Transaction,
    tenant: str,
    *,
    now: datetime,
    limit: int,
    others: int | None = None,
    busy: Collection[str] = (),
) -> list[Due]:
    """Accounts of a tenant whose time has come, leavers first, then the longest due.

    ``others``: how many at most who do not leave.
    """
    found: list[Due] = []
    # Apart, so that each is a stretch of the index: most that have a due_at have it far ahead.
    for leaver in (True, False):
        room = limit - len(found) if leaver or others is None else min(limit - len(found), others)
        if room <= 0:
            break
        query = (
            select(t.accounts.c.id, t.accounts.c.due_at)
            .where(
                t.accounts.c.tenant == tenant,
                t.accounts.c.leaver == leaver,
                t.accounts.c.due_at <= now,
            )
            .order_by(t.accounts.c.due_at)
            .limit(room)
        )
        if busy:
            query = query.where(t.accounts.c.id.not_in(list(busy)))
        rows = transaction.execute(query)
        found += [Due(id=row.id, leaver=leaver, due_at=row.due_at) for row in rows]
    return found


def leavers_among(transaction: Transaction, account_ids: Collection[str]) -> list[str]:
    """Which of these accounts have somebody who leaves, and are due for it."""
    if not account_ids:
        return []
    return list(
        transaction.execute(
            select(t.accounts.c.id).where(
                t.accounts.c.id.in_(list(account_ids)),
                t.accounts.c.leaver,
                t.accounts.c.due_at.is_not(None),
            )
        ).scalars()
    )


def live(transaction: Transaction, account_ids: Collection[str]) -> frozenset[str]:
    """Which of these accounts are ours and open."""
    return frozenset(
        transaction.execute(
            select(t.accounts.c.id).where(
                t.accounts.c.id.in_(list(account_ids)), t.accounts.c.closed_at.is_(None)
            )
        ).scalars()
    )


def lock(transaction: Transaction, account_id: str) -> Account | None:
    """The account and its users, held against other transactions until this one ends.

    Users first, as the doors do who hold a user and then want the account.
    """
    if transaction.dialect.name == "postgresql":
        transaction.execute(
            select(t.users.c.id)
            .where(t.users.c.account_id == account_id)
            .order_by(t.users.c.id)
            .with_for_update()
        )
    return hold(transaction, account_id)


def hold(transaction: Transaction, account_id: str) -> Account | None:
    """The account alone, for one who holds its user already."""
    row = _HOLD.first(transaction, {"of": account_id})
    return of_row(row) if row is not None else None


def hold_many(transaction: Transaction, account_ids: Collection[str]) -> dict[str, Account]:
    """As ``hold``, by id."""
    if not account_ids:
        return {}
    rows = _HOLD_MANY.all(transaction, {"ids": sorted(account_ids)})
    return {row["id"]: of_row(row) for row in rows}


def hold_those_free(transaction: Transaction, account_ids: Collection[str]) -> dict[str, Account]:
    """As ``hold_many``, without waiting: those that no other transaction holds."""
    if not account_ids:
        return {}
    rows = _HOLD_THOSE_FREE.all(transaction, {"ids": sorted(account_ids)})
    return {row["id"]: of_row(row) for row in rows}


def get(transaction: Transaction, account_id: str) -> Account | None:
    row = _ONE.first(transaction, {"of": account_id})
    return of_row(row) if row is not None else None


def store(transaction: Transaction, account_id: str, now: datetime, **values: Any) -> None:
    """Writes columns of an account."""
    _STORE.run(transaction, {"of": account_id, "modified_at": now, **values})


def waiting_events(transaction: Transaction, account_id: str) -> Sequence[Row[Any]]:
    """Open events that wait for this account: event_id, user_id, revision, oldest first."""
    return transaction.execute(
        select(t.waits.c.event_id, t.waits.c.user_id, t.waits.c.revision)
        .join(t.events, t.events.c.id == t.waits.c.event_id)
        .where(t.waits.c.account_id == account_id)
        .order_by(t.events.c.number)
    ).all()


def note_failed_try(transaction: Transaction, account_id: str, now: datetime) -> None:
    """Counts a failed try of an account, for the events that wait for it."""
    transaction.execute(
        update(t.waits)
        .where(t.waits.c.account_id == account_id)
        .values(failures=t.waits.c.failures + 1, failed_at=func.coalesce(t.waits.c.failed_at, now))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """An event that waits for nothing more; how many tries of its last account failed, since when."""

    event_id: str
    failures: int
    failed_at: datetime | None


def stop_waiting(
    transaction: Transaction, account_id: str, revision: int, *, but: Collection[str] = ()
) -> list[Waited]:
    """Drops waits of this account up to a revision; returns events that now wait for nothing more.

    ``but``: ids of users for whom it is not done.
    """
    here = and_(t.waits.c.account_id == account_id, t.waits.c.revision <= revision)
    if but:
        here = and_(here, t.waits.c.user_id.not_in(but))
    told = (t.waits.c.event_id, t.waits.c.failures, t.waits.c.failed_at)
    touched = {
        row.event_id: Waited(event_id=row.event_id, failures=row.failures, failed_at=row.failed_at)
        for row in transaction.execute(t.waits.delete().where(here).returning(*told))
    }
    if not touched:
        return []
    # Held, so that of two lanes that end an event's last waits the second one sees the first.
    transaction.execute(
        select(t.events.c.id)
        .where(t.events.c.id.in_(touched))
        .order_by(t.events.c.id)
        .with_for_update()
    )
    return [touched[each] for each in waiting_for_nothing(transaction, list(touched))]


def waiting_for_nothing(transaction: Transaction, event_ids: Sequence[str]) -> list[str]:
    """Which of these events wait for no account, with nobody left who is still to be touched.

    Whoever ends one holds its row first, else of two that end its last waits neither ends it.
    """
    # Not as conditions: for joins the planner would read all waits of an event that has many.
    rows = transaction.execute(
        select(
            t.events.c.id,
            exists().where(t.waits.c.event_id == t.events.c.id).label("waits"),
            exists().where(t.fanouts.c.event_id == t.events.c.id).label("fans_out"),
        )
        .where(t.events.c.id.in_(event_ids))
        .order_by(t.events.c.number)
    )
    return [row.id for row in rows if not row.waits and not row.fans_out]


def note_failure(transaction: Transaction, event_id: str, problem: Mapping[str, Any]) -> None:
    """Keeps the first failure among an event's accounts until the last of them has ended."""
    transaction.execute(
        update(t.events)
        .where(t.events.c.id == event_id, t.events.c.error.is_(None))
        .values(error=problem)
    )


def of_row(known: Mapping[Any, Any]) -> Account:
    """An account, of a row that has all its columns and maybe others."""
    return Account(**{name: known[name] for name in Account.__slots__})
