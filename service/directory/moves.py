"""People who move between connections: which accounts they lived in before, and since when they are
locked out there. Knows neither rules nor Auth0.

A former account stays open to its person until the new one is there, and is locked then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, func, or_, select, update

from service.directory import accounts
from service.directory import tables as t
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.dialect import among, insert
from service.directory.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """An account that a user lived in. ``left_at``: since when it is to be locked; None while the
    user needs it still.
    """

    account_id: str
    user_id: str
    left_at: datetime | None


def depart(transaction: Transaction, user_id: str, account_id: str, now: datetime) -> None:
    """Notes that a user lives elsewhere from now on, and needs this account until that is there."""
    values = {"moved_at": now, "left_at": None}
    transaction.execute(
        insert(transaction, t.former_accounts)
        .values(user_id=user_id, account_id=account_id, **values)
        .on_conflict_do_update(index_elements=["user_id", "account_id"], set_=values)
    )


def had(transaction: Transaction, user_id: str, tenant: str, connection: str) -> Account | None:
    """The open account that a user had in a connection before, held; None without one."""
    asked = {"of": user_id, "tenant": tenant, "connection": connection}
    row = _HAD.first(transaction, asked)
    account = accounts.hold(transaction, row["id"]) if row is not None else None
    return account if account is not None and account.closed_at is None else None


def forget(transaction: Transaction, user_id: str, account_id: str) -> None:
    """Notes that an account is no former one: the user lives there again."""
    of = t.former_accounts.c
    transaction.execute(
        delete(t.former_accounts).where(of.user_id == user_id, of.account_id == account_id)
    )


def around(transaction: Transaction, account_id: str) -> list[Former]:
    """Who lived in an account, and the other accounts of those who live in it."""
    return [Former(**row) for row in _AROUND.all(transaction, {"of": account_id})]


def of_users(transaction: Transaction, user_ids: Sequence[str]) -> list[Former]:
    """The former accounts of some users, in order."""
    if not user_ids:
        return []
    of = t.former_accounts.c
    rows = transaction.execute(
        select(*_TOLD).where(among(transaction, of.user_id, user_ids)).order_by(of.account_id)
    )
    return [Former(**row) for row in rows.mappings()]


def needed(transaction: Transaction, user_id: str) -> list[str]:
    """The former accounts that a user needs still."""
    return [
        each["account_id"] for each in _OPEN.all(transaction, {"of": user_id}) if each["needed"]
    ]


def every(transaction: Transaction, user_id: str) -> list[str]:
    """The former accounts of a user that are open: needed still, locked, or refused to be."""
    return [each["account_id"] for each in _OPEN.all(transaction, {"of": user_id})]


def leave(transaction: Transaction, user_id: str, account_id: str, now: datetime) -> None:
    """Notes that a user does not need a former account any more."""
    of = t.former_accounts.c
    transaction.execute(
        update(t.former_accounts)
        .where(of.user_id == user_id, of.account_id == account_id, of.left_at.is_(None))
        .values(left_at=now)
    )


def lock_out(transaction: Transaction, user_id: str, account_id: str, now: datetime) -> int:
    """Has a former account locked; the revision of it that this asks for."""
    leave(transaction, user_id, account_id, now)
    return accounts.touch(transaction, account_id, leaver=True, now=now)


def hand_over(transaction: Transaction, user_id: str, to_user_id: str) -> None:
    """Gives the former accounts of one user to another, who is the same person."""
    of = t.former_accounts.c
    known = select(of.account_id).where(of.user_id == to_user_id)
    theirs = of.user_id == user_id
    transaction.execute(delete(t.former_accounts).where(theirs, of.account_id.in_(known)))
    transaction.execute(update(t.former_accounts).where(theirs).values(user_id=to_user_id))


_TOLD: Final = (
    t.former_accounts.c.account_id,
    t.former_accounts.c.user_id,
    t.former_accounts.c.left_at,
)
_AROUND: Final = Prepared(
    select(*_TOLD).where(
        or_(
            t.former_accounts.c.account_id == bindparam("of"),
            t.former_accounts.c.user_id.in_(
                select(t.users.c.id).where(t.users.c.account_id == bindparam("of"))
            ),
        )
    )
)
_OPEN: Final = Prepared(
    select(t.former_accounts.c.account_id, t.former_accounts.c.left_at.is_(None).label("needed"))
    .join(t.accounts, t.accounts.c.id == t.former_accounts.c.account_id)
    .where(t.former_accounts.c.user_id == bindparam("of"), t.accounts.c.closed_at.is_(None))
    .order_by(t.former_accounts.c.account_id)
)
_HAD: Final = Prepared(
    select(t.accounts.c.id)
    .join(t.former_accounts, t.former_accounts.c.account_id == t.accounts.c.id)
    .where(
        t.former_accounts.c.user_id == bindparam("of"),
        # Not by an index of the tenant: SQLite would read everybody in the connection for it.
        func.coalesce(t.accounts.c.tenant, "") == bindparam("tenant"),
        t.accounts.c.connection == bindparam("connection"),
        t.accounts.c.closed_at.is_(None),
    )
    .order_by(t.former_accounts.c.moved_at.desc())
    .limit(1)
)
