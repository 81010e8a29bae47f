"""Operators' own word on who is in: one user locked out or let back, a whole organization ended.

Each is an event of the door ``operator`` and an audit entry, in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, select, update

from service.directory import (
    accounts,
    audit,
    fanouts,
    inbox,
    intent,
    organizations,
    people,
    windingup,
)
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.errors import NotFound, Refused
from service.people import Cause, User

SOURCE: Final = "/operators"
"""The source of operators' events. Who it was is in the audit entry, and not published."""
BLOCK: Final = "operator.block"
UNBLOCK: Final = "operator.unblock"
DECOMMISSION: Final = "operator.decommission"
RELEASE: Final = "operator.release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """What became of a lock. ``causes``: everything that keeps the person out now."""

    user: User
    event_id: str | None
    causes: frozenset[Cause]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decommissioned:
    """An ended organization. ``event_id`` None: it had been ended before, nothing was changed."""

    event_id: str | None
    accounts: int = 0
    tokens: int = 0


def block(
    transaction: Transaction,
    user_id: str,
    *,
    actor: str,
    reason: str | None,
    now: datetime,
) -> Locked:
    """Locks a user out at once. One who is locked already is brought to Auth0 once more.

    Raises NotFound.
    """
    user, registered = held(transaction, user_id)
    changes = {
        "locked_at": user.locked_at or now,
        "lock_reason": reason if reason is not None else user.lock_reason,
    }
    detail = {"reason": reason}
    return decide(transaction, BLOCK, user, registered, changes, actor, now, detail)


def unblock(transaction: Transaction, user_id: str, *, actor: str, now: datetime) -> Locked:
    """Lifts an operator's lock, and no other cause. ``event_id`` None where there was no lock.

    Raises NotFound.
    """
    user, registered = held(transaction, user_id)
    if user.locked_at is None:
        return _locked(user, registered, None)
    changes = {"locked_at": None, "lock_reason": None}
    return decide(transaction, UNBLOCK, user, registered, changes, actor, now)


def release(transaction: Transaction, user_id: str, *, actor: str, now: datetime) -> Locked:
    """Gives a deleted user's address free: the account in Auth0 is deleted now, whatever the policy.

    Whoever waits for the address is provisioned by a replay afterwards. Raises NotFound; Refused
    for a user who is not deleted, whom HR still has, or who lives in a shared or enterprise account.
    """
    user, registered = held(transaction, user_id)
    if user.deleted_at is None:
        raise Refused(f"{user.id} is not deleted: only a former user can be released.")
    if user.employment in ("active", "on_leave"):
        raise Refused(f"HR still has {user.id}: it must say first that the person has left.")
    if not _is_its_own(transaction, user, registered):
        raise Refused("Only an account of an isolated organization is its own to delete.")
    return decide(transaction, RELEASE, user, registered, {"released_at": now}, actor, now)


def _is_its_own(transaction: Transaction, user: User, registered: Registered) -> bool:
    account = accounts.get(transaction, user.account_id) if user.account_id is not None else None
    organization = registered.organization
    if account is None:
        return organization.model == "isolated"
    return (
        organization.model_in(organization.connection(account.connection, account.user_id))
        == "isolated"
    )


def decommission(
    transaction: Transaction, name: str, *, actor: str, now: datetime
) -> Decommissioned:
    """Ends an organization: its tokens are revoked, its users' accounts due to be blocked.

    One event waits for all of the accounts. Raises NotFound.
    """
    registered = organizations.find(transaction, name)
    if registered is None:
        raise NotFound(f"There is no organization {name}.")
    if registered.decommissioned:
        return Decommissioned(event_id=None)
    transaction.execute(
        update(t.organizations)
        .where(t.organizations.c.name == name)
        .values(decommissioned_at=now, modified_at=now, version=t.organizations.c.version + 1)
    )
    revoked = transaction.execute(
        update(t.credentials)
        .where(t.credentials.c.organization == name, t.credentials.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    event_id = _admit(transaction, DECOMMISSION, name, now)
    ended = windingup.wind_up(transaction, name, now)
    touched = touch_organization(transaction, name, event_id=event_id, now=now)
    audit.record(
        transaction,
        actor=actor,
        action="organization.decommission",
        now=now,
        organization=name,
        subject=name,
        detail={
            "event": event_id,
            "accounts": touched,
            "tokens": revoked.rowcount,
            "ended": ended,
        },
    )
    return Decommissioned(event_id=event_id, accounts=touched, tokens=revoked.rowcount)


def touch_organization(transaction: Transaction, name: str, *, event_id: str, now: datetime) -> int:
    """Lets an event wait until every account of an organization has been looked at again."""
    housed = select(t.users.c.id).where(
        t.users.c.organization == name, t.users.c.account_id.is_not(None)
    )
    return fanouts.touch(transaction, housed, event_id=event_id, now=now)


def has_users(transaction: Transaction, name: str) -> bool:
    """Whether anybody is known in an organization, by SCIM or by HR, today or before."""
    query = select(t.users.c.id).where(t.users.c.organization == name).limit(1)
    return transaction.execute(query).first() is not None


def accounts_of(transaction: Transaction, name: str) -> int:
    """How many users of an organization have an account."""
    return transaction.execute(
        select(func.count()).where(
            t.users.c.organization == name, t.users.c.account_id.is_not(None)
        )
    ).scalar_one()


def held(transaction: Transaction, user_id: str) -> tuple[User, Registered]:
    """A user, held, and their organization. Raises NotFound."""
    user = people.lock(transaction, user_id)
    registered = organizations.find(transaction, user.organization) if user is not None else None
    if user is None or registered is None:
        raise NotFound(f"There is no user {user_id}.")
    return user, registered


def decide(
    transaction: Transaction,
    kind: str,
    user: User,
    registered: Registered,
    changes: Mapping[str, Any],
    actor: str,
    now: datetime,
    detail: Mapping[str, Any] | None = None,
) -> Locked:
    """An operator's word about one user: the event, what it changes, and who said it."""
    event_id = _admit(transaction, kind, user.organization, now)
    was_wanted = registered.wants(user)
    people.store(transaction, user.id, modified_at=now, **changes)
    inbox.attribute(transaction, event_id, user.id)
    settled = intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=now,
    )
    audit.record(
        transaction,
        actor=actor,
        action=kind.replace("operator.", "user."),
        now=now,
        organization=user.organization,
        subject=user.id,
        detail={"event": event_id, **(detail or {})},
    )
    return _locked(settled, registered, event_id)


def _admit(transaction: Transaction, kind: str, organization: str, now: datetime) -> str:
    received = Received(door="operator", source=SOURCE, type=kind, at=now)
    return inbox.admit(transaction, received, organization).event_id


def _locked(user: User, registered: Registered, event_id: str | None) -> Locked:
    found = registered.causes(user)
    return Locked(user=user, event_id=event_id, causes=frozenset(found))
