"""What the SCIM door writes about users: create, replace, delete, each with its event.

Resources arrive validated and in canonical names (see service.people.User); passwords never do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service.directory import inbox, intent, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.errors import NotFound, UniquenessConflict, VersionConflict
from service.ids import new_id
from service.people import User, is_wanted


def get(transaction: Transaction, organization: str, user_id: str) -> User | None:
    """A user that the SCIM door shows; None for one that is deleted or another organization's."""
    user = people.get(transaction, user_id)
    return user if user and user.organization == organization and user.in_scim else None


def lock(transaction: Transaction, organization: str, user_id: str) -> User:
    """The user, held until the transaction ends. Raises NotFound."""
    user = people.lock(transaction, user_id)
    if user is None or user.organization != organization or not user.in_scim:
        raise NotFound(f"There is no user {user_id} in this organization.")
    return user


def create(
    transaction: Transaction,
    registered: Registered,
    resource: Mapping[str, Any],
    received: Received,
) -> User:
    """A new SCIM resource. Joins what HR knows of the person by ``externalId``; someone who comes
    back with the ``externalId`` of a deleted resource takes their account back.

    Raises UniquenessConflict where another user of the organization has this ``userName``.
    """
    organization = registered.organization.name
    _require_free_user_name(transaction, organization, resource, None)
    event_id = inbox.admit(transaction, received, organization).event_id
    earlier = _same_person(transaction, organization, resource.get("externalId"))
    was_wanted = earlier is not None and _wanted(earlier, registered)
    if earlier is not None and earlier.resource is None:
        user_id = earlier.id
        people.store(
            transaction,
            user_id,
            **_columns(resource),
            created_at=received.at,
            modified_at=received.at,
        )
    else:
        user_id = new_id(received.at)
        _insert(transaction, user_id, organization, resource, received.at)
        if earlier is not None:
            _succeed(transaction, earlier, user_id, by=event_id, now=received.at)
    _store_emails(transaction, organization, user_id, resource)
    inbox.attribute(transaction, event_id, user_id)
    return intent.settle(
        transaction,
        user_id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=received.at,
    )


def replace(
    transaction: Transaction,
    registered: Registered,
    user: User,
    resource: Mapping[str, Any],
    received: Received,
    *,
    if_match: int | None = None,
) -> User:
    """Gives a user (from ``lock``) a new resource, the result of a PUT or PATCH.

    One that changes nothing keeps its version and still is an event. Raises VersionConflict and
    UniquenessConflict.
    """
    organization = registered.organization.name
    _require_version(user, if_match)
    _require_free_user_name(transaction, organization, resource, user.id)
    event_id = inbox.admit(transaction, received, organization).event_id
    was_wanted = _wanted(user, registered)
    if dict(resource) != dict(user.resource or {}):
        people.store(
            transaction,
            user.id,
            **_columns(resource),
            version=user.version + 1,
            modified_at=received.at,
        )
        _store_emails(transaction, organization, user.id, resource)
    inbox.attribute(transaction, event_id, user.id)
    return intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=received.at,
    )


def delete(
    transaction: Transaction,
    registered: Registered,
    user_id: str,
    received: Received,
    *,
    if_match: int | None = None,
) -> None:
    """Leaves a tombstone: out of SCIM and of all groups, blocked in Auth0, remembered here.

    Raises NotFound and VersionConflict.
    """
    organization = registered.organization.name
    user = lock(transaction, organization, user_id)
    _require_version(user, if_match)
    event_id = inbox.admit(transaction, received, organization).event_id
    was_wanted = _wanted(user, registered)
    people.store(
        transaction,
        user.id,
        deleted_at=received.at,
        version=user.version + 1,
        modified_at=received.at,
    )
    transaction.execute(t.members.delete().where(t.members.c.user_id == user.id))
    transaction.execute(t.user_emails.delete().where(t.user_emails.c.user_id == user.id))
    inbox.attribute(transaction, event_id, user.id)
    intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=received.at,
    )


def groups_of(
    transaction: Transaction, user_ids: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """User id to (group id, displayName) of the groups that the user is in."""
    found: dict[str, list[tuple[str, str]]] = {user_id: [] for user_id in user_ids}
    if found:
        rows = transaction.execute(
            select(t.members.c.user_id, t.groups.c.id, t.groups.c.resource)
            .join(t.groups, t.groups.c.id == t.members.c.group_id)
            .where(t.members.c.user_id.in_(list(found)))
            .order_by(t.groups.c.id)
        )
        for row in rows:
            found[row.user_id].append((row.id, row.resource.get("displayName", "")))
    return found


def _wanted(user: User, registered: Registered) -> bool:
    return is_wanted(user, registered.organization, decommissioned=registered.decommissioned)


def _require_version(user: User, if_match: int | None) -> None:
    if if_match is not None and if_match != user.version:
        raise VersionConflict(f"The resource is at version {user.version}: read it, then repeat.")


def _require_free_user_name(
    transaction: Transaction, organization: str, resource: Mapping[str, Any], own: str | None
) -> None:
    taken = transaction.execute(
        select(t.users.c.id).where(
            t.users.c.organization == organization,
            t.users.c.user_name_key == str(resource["userName"]).casefold(),
            t.users.c.deleted_at.is_(None),
        )
    ).scalar_one_or_none()
    if taken not in (None, own):
        raise UniquenessConflict("Another user of this organization has this userName.")


def _same_person(transaction: Transaction, organization: str, external_id: object) -> User | None:
    """Who was deleted with this ``externalId`` last, or whom HR knows by it and SCIM does not."""
    if not isinstance(external_id, str) or not external_id:
        return None
    rows = transaction.execute(
        select(t.users)
        .where(
            t.users.c.organization == organization,
            (t.users.c.external_id == external_id) & t.users.c.deleted_at.is_not(None)
            | (t.users.c.worker_id == external_id) & t.users.c.resource.is_(None),
        )
        .order_by(t.users.c.deleted_at.desc().nulls_last(), t.users.c.id.desc())
        .with_for_update()
    ).all()
    candidates = [people.as_user(row) for row in rows]
    holding = [user for user in candidates if user.account_id or user.worker_id]
    return next(iter(holding or candidates), None)


def _succeed(
    transaction: Transaction, earlier: User, user_id: str, *, by: str, now: datetime
) -> None:
    """Hands the account, the HR record and an operator's lock of a deleted user to the new one."""
    intent.supersede_open(transaction, earlier.id, by=by, now=now)
    people.store(transaction, earlier.id, account_id=None, worker_id=None)
    people.store(
        transaction,
        user_id,
        account_id=earlier.account_id,
        worker_id=earlier.worker_id,
        worker=earlier.worker,
        employment=earlier.employment,
        employment_order=earlier.employment_order,
        locked_at=earlier.locked_at,
        lock_reason=earlier.lock_reason,
    )


def _insert(
    transaction: Transaction,
    user_id: str,
    organization: str,
    resource: Mapping[str, Any],
    now: datetime,
) -> None:
    try:
        transaction.execute(
            t.users.insert().values(
                id=user_id,
                organization=organization,
                state="pending",
                version=1,
                created_at=now,
                modified_at=now,
                **_columns(resource),
            )
        )
    except IntegrityError as error:  # another transaction took the name since we looked
        raise UniquenessConflict("Another user of this organization has this userName.") from error


def _columns(resource: Mapping[str, Any]) -> dict[str, Any]:
    display_name = resource.get("displayName")
    return {
        "resource": dict(resource),
        "user_name_key": str(resource["userName"]).casefold(),
        "display_name_key": display_name.casefold() if isinstance(display_name, str) else None,
        "external_id": resource.get("externalId"),
        "active": resource.get("active", True) is not False,
    }


def _store_emails(
    transaction: Transaction, organization: str, user_id: str, resource: Mapping[str, Any]
) -> None:
    transaction.execute(t.user_emails.delete().where(t.user_emails.c.user_id == user_id))
    keys = {
        str(entry["value"]).casefold()
        for entry in resource.get("emails") or []
        if entry.get("value")
    }
    if keys:
        transaction.execute(
            t.user_emails.insert(),
            [
                {"user_id": user_id, "value_key": key, "organization": organization}
                for key in sorted(keys)
            ],
        )
