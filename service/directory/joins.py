"""One person from several rows: who comes back, and whom both SCIM and HR know.

The key is ``externalId`` = worker id, never an address.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, select

from service.directory import intent, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.prepared import Prepared
from service.people import User

_SAME_PERSON: Final = Prepared(
    select(t.users)
    .where(
        people.found_by(
            (t.users.c.external_id == bindparam("key")) & t.users.c.deleted_at.is_not(None),
            (t.users.c.worker_id == bindparam("key")) & t.users.c.resource.is_(None),
        )
    )
    .order_by(t.users.c.deleted_at.desc().nulls_last(), t.users.c.id.desc())
    .with_for_update()
)


def same_person(transaction: Transaction, organization: str, external_id: str) -> User | None:
    """Who was deleted with this ``externalId`` last, or whom HR knows by it and SCIM does not."""
    people.hold_key(transaction, organization, external_id)
    rows = _SAME_PERSON.all(transaction, {"organization": organization, "key": external_id})
    candidates = [people.user_of(row) for row in rows]
    holding = [user for user in candidates if user.account_id or user.worker_id]
    return next(iter(holding or candidates), None)


def succeed(transaction: Transaction, earlier: User, user: User, *, by: str, now: datetime) -> User:
    """Hands the account, the HR record and an operator's lock of a deleted user to the new one."""
    intent.supersede_open(transaction, earlier.id, by=by, now=now)
    people.store(transaction, earlier.id, account_id=None, worker_id=None)
    return people.change(
        transaction, user.id, account_id=earlier.account_id, **_hr_and_lock(earlier)
    )


def join_worker(transaction: Transaction, user: User, *, by: str, now: datetime) -> User:
    """Joins a user whose new ``externalId`` is that of a worker whom only HR knew.

    Who is joined stays joined: another ``externalId`` must not shake off what HR said. An account
    that is one too many then is a former user's, and blocked.
    """
    if user.worker_id is not None or not user.external_id:
        return user
    people.hold_key(transaction, user.organization, user.external_id)
    row = transaction.execute(
        select(t.users)
        .where(
            t.users.c.organization == user.organization,
            t.users.c.worker_id == user.external_id,
            t.users.c.resource.is_(None),
        )
        .with_for_update()
    ).one_or_none()
    if row is None:
        return user
    worker = people.as_user(row)
    intent.supersede_open(transaction, worker.id, by=by, now=now)
    left = worker.account_id if user.account_id is not None else None
    people.store(transaction, worker.id, account_id=left, worker_id=None, deleted_at=now)
    if left is not None:
        intent.await_account(transaction, left, worker.id, by, leaver=True, now=now)
    taken = _hr_and_lock(worker)
    if user.locked_at is not None:
        taken |= {"locked_at": user.locked_at, "lock_reason": user.lock_reason}
    return people.change(
        transaction, user.id, account_id=user.account_id or worker.account_id, **taken
    )


def _hr_and_lock(user: User) -> dict[str, Any]:
    """What outlives a SCIM resource."""
    return {
        "worker_id": user.worker_id,
        "worker": user.worker,
        "employment": user.employment,
        "employment_order": user.employment_order,
        "leave": user.leave,
        "employments": user.employments,
        "locked_at": user.locked_at,
        "lock_reason": user.lock_reason,
    }
