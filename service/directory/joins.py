"""One person from several rows: who comes back, and whom both SCIM and HR know.

The key is the organization's: ``externalId`` = worker id unless it says otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, select

from service.directory import accounts, inbox, leavers, moves, people, waits
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import hold_in_order
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.organizations import Organization
from service.people import User, identifier_of, join_key_of


def same_person(
    transaction: Transaction,
    organization: Organization,
    resource: Mapping[str, Any],
    locks: Sequence[tuple[str, ...]] = (),
) -> User | None:
    """Who was deleted with this ``externalId`` or join key last, or whom HR knows by that key and
    SCIM does not. ``locks``: what is to be held besides, with the same round trip.
    """
    external_id = resource.get("externalId") or None
    key = join_key_of(resource, organization)
    keys = keys_of(organization, resource)
    hold_in_order(
        transaction, [*(people.lock_of(organization.name, each) for each in keys), *locks]
    )
    if not keys:
        return None
    known = {"organization": organization.name, "external_id": external_id, "key": key}
    find = _SAME_PERSON if organization.join == "externalId" else _SAME_PERSON_BY_KEY
    candidates = [people.user_of(row) for row in find.all(transaction, known)]
    holding = [user for user in candidates if user.account_id or user.worker_id]
    return next(iter(holding or candidates), None)


def keys_of(organization: Organization, resource: Mapping[str, Any]) -> list[str]:
    """By what a resource may be somebody known, in order."""
    keys = resource.get("externalId") or None, join_key_of(resource, organization)
    return sorted({each for each in keys if each is not None})


def _same(*keys: ColumnElement[bool]) -> Prepared:
    deleted = (t.users.c.external_id == bindparam("external_id")) & t.users.c.deleted_at.is_not(
        None
    )
    return Prepared(
        select(t.users)
        .where(people.found_by(deleted, *keys))
        .order_by(t.users.c.deleted_at.desc().nulls_last(), t.users.c.id.desc())
        .with_for_update()
    )


_SAME_PERSON: Final = _same(
    (t.users.c.worker_id == bindparam("key")) & t.users.c.resource.is_(None)
)
_SAME_PERSON_BY_KEY: Final = _same(
    (t.users.c.join_key == bindparam("key"))
    & (t.users.c.resource.is_(None) | t.users.c.deleted_at.is_not(None))
)


def succeed(transaction: Transaction, earlier: User, user: User, *, by: str, now: datetime) -> User:
    """Hands the account, the HR record and an operator's lock of a deleted user to the new one."""
    waits.supersede_open(transaction, earlier.id, by=by, now=now)
    taken = _hr_and_lock(earlier) | {"withheld": leavers.hand_over(transaction, earlier, user)}
    people.store(transaction, earlier.id, account_id=None, worker_id=None, withheld=None)
    inbox.hand_over(transaction, earlier.id, user.id)
    moves.hand_over(transaction, earlier.id, user.id)
    return people.change(transaction, user.id, account_id=earlier.account_id, **taken)


def join_worker(
    transaction: Transaction, registered: Registered, user: User, *, by: str, now: datetime
) -> User:
    """Joins a user whose new key is that of a worker whom only HR knew.

    Who is joined stays joined: another key must not shake off what HR said. Of two accounts the one
    with the person's address is kept, else SCIM's; the other is a former user's then, and blocked.
    """
    key = join_key_of(user.resource or {}, registered.organization)
    if user.worker_id is not None or key is None:
        return user
    people.hold_key(transaction, user.organization, key)
    by_id = registered.organization.join == "externalId"
    row = transaction.execute(
        select(t.users)
        .where(
            t.users.c.organization == user.organization,
            (t.users.c.worker_id if by_id else t.users.c.join_key) == key,
            t.users.c.worker_id.is_not(None),
            t.users.c.resource.is_(None),
        )
        .order_by(t.users.c.id)
        .with_for_update()
    ).first()
    if row is None:
        return user
    worker = people.as_user(row)
    waits.supersede_open(transaction, worker.id, by=by, now=now)
    taken = _hr_and_lock(worker) | {"withheld": leavers.hand_over(transaction, worker, user)}
    if user.locked_at is not None:
        taken |= {"locked_at": user.locked_at, "lock_reason": user.lock_reason}
    identifier = identifier_of(dataclasses.replace(user, **taken), registered.organization)
    kept, left = _accounts(transaction, user, worker, identifier)
    people.store(transaction, user.id, account_id=None)  # no two users hold one account
    people.store(
        transaction,
        worker.id,
        account_id=left,
        worker_id=None,
        join_key=None,
        deleted_at=now,
        withheld=None,
    )
    inbox.hand_over(transaction, worker.id, user.id)
    moves.hand_over(transaction, worker.id, user.id)
    if kept is not None:
        moves.forget(transaction, user.id, kept)
    if left is not None:
        waits.await_account(transaction, left, worker.id, by, leaver=True, now=now)
    return people.change(transaction, user.id, account_id=kept, **taken)


def _accounts(
    transaction: Transaction, user: User, worker: User, identifier: str | None
) -> tuple[str | None, str | None]:
    """Which account is kept, and which is one too many."""
    if user.account_id is None or worker.account_id is None:
        return user.account_id or worker.account_id, None
    of_hr = accounts.get(transaction, worker.account_id)
    if of_hr is not None and of_hr.closed_at is None and of_hr.identifier == identifier:
        return worker.account_id, user.account_id
    return user.account_id, worker.account_id


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
