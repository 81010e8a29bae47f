"""Imports: which accounts are created together by one users-import job of Auth0, and how far each is.

Knows no Auth0. An account that an import has keeps out of the lanes until that has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, and_, exists, func, select, update

from service.directory import accounts, migrants
from service.directory import tables as t
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.ids import new_id

State = Literal["waiting", "gathered", "uploading", "running", "ended"]
"""``waiting``: no file, but people with their password hashes who wait for one. ``gathered``: nothing was sent. ``uploading``: it may have been. ``running``: Auth0 has a job."""

PARKED: Final = timedelta(hours=1)
"""How far ahead a turn is put that waits for an import; it is put off again then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Some accounts of one connection. ``since``: how long the first of them was due when they were
    gathered. ``result``: how many rows came to what."""

    id: str
    tenant: str
    connection: str
    state: State
    job: str | None
    accounts: int
    since: datetime
    uploads: int
    uploaded_at: datetime | None
    looked_at: datetime | None
    due_at: datetime | None
    result: Mapping[str, int]
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An account that an import has. ``doubt``: what is sent of it."""

    id: str
    user_id: str
    leaver: bool
    doubt: Mapping[str, Any] | None
    sealed: bytes | None = None
    """The hash that comes with it, sealed: only by this import may the account be created."""


def _is_new(tenant: str, now: datetime) -> ColumnElement[bool]:
    """Accounts that nothing has been tried for yet: their next call creates a user. Who was imported,
    and waits for a lane, is there: thousands of them would stand before those who are not.
    """
    of = t.accounts.c
    return and_(
        of.tenant == tenant,
        of.leaver.is_(False),
        of.due_at <= now,
        of.applied_revision == 0,
        of.import_id.is_(None),
        of.doubt.is_(None),
        of.error.is_(None),
        of.closed_at.is_(None),
        func.coalesce(of.observed["presence"].as_string(), "absent") == "absent",
    )


def backlogs(
    transaction: Transaction, tenant: str, *, now: datetime, most: int
) -> list[tuple[str, int]]:
    """How many new accounts each connection has, of the ``most`` that have waited longest."""
    waiting = (
        select(t.accounts.c.connection)
        .where(_is_new(tenant, now))
        .order_by(t.accounts.c.due_at)
        .limit(most)
        .subquery()
    )
    rows = transaction.execute(
        select(waiting.c.connection, func.count()).group_by(waiting.c.connection)
    )
    return [(row[0], row[1]) for row in rows]


def new_accounts(
    transaction: Transaction,
    tenant: str,
    connection: str,
    *,
    now: datetime,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[tuple[datetime, str]]:
    """When they became due, and their ids: who has waited longest first."""
    of = t.accounts.c
    query = select(of.due_at, of.id).where(_is_new(tenant, now), of.connection == connection)
    if after is not None:
        query = query.where((of.due_at > after[0]) | and_(of.due_at == after[0], of.id > after[1]))
    rows = transaction.execute(query.order_by(of.due_at, of.id).limit(limit))
    return [(row.due_at, row.id) for row in rows]


def is_new(account: Account, now: datetime) -> bool:
    """As it is now that it is held: whether it may go into an import."""
    return (
        account.due_at is not None
        and account.due_at <= now
        and not account.leaver
        and account.applied_revision == 0
        and (account.import_id, account.doubt, account.error, account.closed_at) == (None,) * 4
    )


def begin(
    transaction: Transaction,
    tenant: str,
    connection: str,
    since: datetime,
    now: datetime,
    state: State = "gathered",
) -> str:
    """A new import that has no accounts yet; its id."""
    import_id = new_id(now)
    transaction.execute(
        t.imports.insert().values(
            id=import_id,
            tenant=tenant,
            connection=connection,
            state=state,
            since=since,
            due_at=now,
            result={},
            created_at=now,
        )
    )
    return import_id


def waiting_room(transaction: Transaction, tenant: str, connection: str, now: datetime) -> str:
    """The import in which people of a connection wait for a file, held; made where there is none."""
    here = t.imports.c
    known = transaction.execute(
        select(here.id)
        .where(
            here.tenant == tenant,
            here.connection == connection,
            here.state == "waiting",
            here.ended_at.is_(None),
        )
        .order_by(here.id)
        .limit(1)
        .with_for_update()
    ).scalar_one_or_none()
    return known or begin(transaction, tenant, connection, now, now, "waiting")


def waiting_in(
    transaction: Transaction, import_id: str, *, after: str, limit: int
) -> list[tuple[str, datetime]]:
    """Who waits for a file and stays, by id, and since when."""
    of = t.accounts.c
    rows = transaction.execute(
        select(of.id, t.migrants.c.created_at)
        .join(t.migrants, t.migrants.c.account_id == of.id)
        .where(of.import_id == import_id, of.id > after, of.leaver.is_(False))
        .order_by(of.id)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in rows]


def is_ready(transaction: Transaction, import_id: str, *, still: datetime, most: int) -> bool:
    """Whether ``most`` wait, or nobody has come since ``still``."""
    of = t.accounts.c
    here = select(of.id).where(of.import_id == import_id)
    came = here.join(t.migrants, t.migrants.c.account_id == of.id).where(
        t.migrants.c.created_at > still
    )
    if transaction.execute(came.limit(1)).first() is None:
        return True
    return transaction.execute(here.limit(1).offset(most - 1)).first() is not None


def close_room(transaction: Transaction, import_id: str, now: datetime) -> bool:
    """Ends a waiting room that nobody is in; False where somebody is."""
    transaction.execute(select(t.imports.c.id).where(t.imports.c.id == import_id).with_for_update())
    if held(transaction, import_id, limit=1):
        return False
    end(transaction, import_id, now)
    return True


def open_ones(transaction: Transaction, tenant: str) -> list[Import]:
    """Those that have not ended, the oldest first."""
    rows = transaction.execute(
        select(t.imports)
        .where(t.imports.c.tenant == tenant, t.imports.c.ended_at.is_(None))
        .order_by(t.imports.c.id)
    )
    return [Import(**row) for row in rows.mappings()]


def listing(transaction: Transaction, tenant: str | None, limit: int) -> list[Import]:
    """The newest first."""
    query = select(t.imports).order_by(t.imports.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(t.imports.c.tenant == tenant)
    return [Import(**row) for row in transaction.execute(query).mappings()]


def store(transaction: Transaction, import_id: str, **values: Any) -> None:
    transaction.execute(update(t.imports).where(t.imports.c.id == import_id).values(**values))


def count_results(transaction: Transaction, import_id: str, results: Mapping[str, int]) -> None:
    """Adds to what its rows came to."""
    known = transaction.execute(
        select(t.imports.c.result).where(t.imports.c.id == import_id).with_for_update()
    ).scalar_one()
    added = {name: known.get(name, 0) + count for name, count in results.items()}
    store(transaction, import_id, result={**known, **added})


def start_upload(transaction: Transaction, import_id: str, now: datetime) -> list[Held]:
    """Marks it as about to be sent, and returns what it sends; nothing of it is let go after this.

    Nobody in it any more: then it has ended.
    """
    store(
        transaction,
        import_id,
        state="uploading",
        uploads=t.imports.c.uploads + 1,
        uploaded_at=func.coalesce(t.imports.c.uploaded_at, now),
        looked_at=now,
        due_at=now,
    )
    found = held(transaction, import_id)
    store(transaction, import_id, accounts=len(found))
    if not found:
        end(transaction, import_id, now)
    return found


def held(
    transaction: Transaction, import_id: str, *, limit: int | None = None, stayers: bool = False
) -> list[Held]:
    """Accounts that it still has, by id. ``stayers``: without those who leave."""
    of = t.accounts.c
    waits = and_(t.migrants.c.account_id == of.id, t.migrants.c.state == "waiting")
    query = (
        select(of.id, of.user_id, of.leaver, of.doubt, t.migrants.c.sealed)
        .select_from(t.accounts.outerjoin(t.migrants, waits))
        .where(of.import_id == import_id)
    )
    if stayers:
        query = query.where(of.leaver.is_(False))
    return [
        Held(**row) for row in transaction.execute(query.order_by(of.id).limit(limit)).mappings()
    ]


def with_leavers(transaction: Transaction, tenant: str) -> frozenset[str]:
    """Open imports of a tenant that have somebody who leaves."""
    of = t.accounts.c
    somebody = exists().where(of.import_id == t.imports.c.id, of.leaver)
    return frozenset(
        transaction.execute(
            select(t.imports.c.id).where(
                t.imports.c.tenant == tenant, t.imports.c.ended_at.is_(None), somebody
            )
        ).scalars()
    )


def end(transaction: Transaction, import_id: str, now: datetime) -> None:
    store(transaction, import_id, state="ended", ended_at=now, due_at=None)


def drop(transaction: Transaction, import_id: str) -> None:
    """Forgets one that nothing was put into."""
    transaction.execute(t.imports.delete().where(t.imports.c.id == import_id))


def forget_old(transaction: Transaction, before: datetime) -> None:
    """Drops what ended long ago."""
    transaction.execute(t.imports.delete().where(t.imports.c.ended_at < before))


def take(
    transaction: Transaction,
    account: Account,
    import_id: str,
    doubt: Mapping[str, Any] | None,
    now: datetime,
) -> None:
    """Puts a new account into an import. ``doubt``: what will be sent of it, where that is a file."""
    accounts.store(
        transaction, account.id, now, import_id=import_id, doubt=doubt, due_at=now + PARKED
    )


def released(transaction: Transaction, account: Account, now: datetime) -> Account | None:
    """The account, where its turn may begin although an import has it: somebody leaves of whom
    nothing was sent. Else its turn is put off until the import lets go of it, and None is returned.
    """
    state = transaction.execute(
        select(t.imports.c.state)
        .where(t.imports.c.id == account.import_id)
        .with_for_update(read=True)
    ).scalar_one_or_none()
    unsent = state in ("waiting", "gathered")
    if state in ("uploading", "running") or (unsent and not account.leaver):
        accounts.store(transaction, account.id, now, due_at=now + PARKED)
        return None
    doubt = None if unsent else account.doubt
    migrants.end(transaction, [account.id], "refused", now, reason=migrants.LEFT)
    accounts.store(transaction, account.id, now, import_id=None, doubt=doubt)
    return replace(account, import_id=None, doubt=doubt)


def of_accounts(transaction: Transaction, import_id: str, ids: Sequence[str]) -> list[Account]:
    """Those of these accounts that the import still has, each held."""
    held = accounts.hold_many(transaction, ids)
    return [account for account in held.values() if account.import_id == import_id]
