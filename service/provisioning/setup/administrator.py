"""The first administrator of an organization: made once by declaring, then a user like all others."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import select

from service.directory import audit, fanouts, inbox, locks, setups, users
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.setups import SetUpState
from service.errors import UniquenessConflict
from service.organizations import Administrator
from service.provisioning.setup.plan import Problem

APPOINT: Final = "operator.administrator"
_ACTOR: Final = "org apply"


def appoint(
    transaction: Transaction, registered: Registered, state: SetUpState, now: datetime
) -> list[Problem]:
    """Makes the declared person a user, or finds who has this address, and gives them the role.

    Once for an address: whoever has left since, or was deleted, is not made anew. What stands in
    the way is returned.
    """
    declared = registered.organization.administrator
    known = state.administrator
    if declared is None or (known is not None and known["email"] == declared.email):
        return []
    name = registered.organization.name
    received = Received(door="operator", source=locks.SOURCE, type=APPOINT, at=now)
    user_id = _holder(transaction, name, declared.email)
    if user_id is None:
        try:
            user_id = users.create(transaction, registered, _resource(declared), received).id
        except UniquenessConflict:
            return [_taken(declared)]
        touched: list[str] = []
    else:
        touched = [user_id]
    if known is not None:
        touched.append(known["user_id"])
    appointed = {"email": declared.email, "user_id": user_id}
    setups.store(transaction, name, now, administrator=appointed)
    audit.record(
        transaction,
        actor=_ACTOR,
        action="organization.administrator",
        now=now,
        organization=name,
        subject=user_id,
    )
    if touched:
        event_id = inbox.admit(transaction, received, name).event_id
        theirs = select(t.users.c.id).where(t.users.c.id.in_(touched))
        fanouts.touch(transaction, theirs, event_id=event_id, now=now)
    return []


def _holder(transaction: Transaction, organization: str, address: str) -> str | None:
    return transaction.execute(
        select(t.users.c.id)
        .where(
            t.users.c.organization == organization,
            t.users.c.identifier == address,
            t.users.c.deleted_at.is_(None),
        )
        .limit(1)
    ).scalar_one_or_none()


def _resource(declared: Administrator) -> dict[str, object]:
    named = {"givenName": declared.given_name, "familyName": declared.family_name}
    resource: dict[str, object] = {
        "userName": declared.email,
        "active": True,
        "emails": [{"value": declared.email, "primary": True, "type": "work"}],
    }
    if name := {key: value for key, value in named.items() if value}:
        resource["name"] = name
    return resource


def _taken(declared: Administrator) -> Problem:
    return Problem(
        code="administrator_taken",
        message=f"Another user has {declared.email} as userName, with another address.",
        advice="Give administrator.email as that user's address, or change the user.",
    )
