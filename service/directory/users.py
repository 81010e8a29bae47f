"""What the SCIM door writes about users: create, replace, delete, each with its event.

Resources arrive validated and in canonical names (see service.people.User); passwords never do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError

from service.directory import claims, inbox, intent, joins, leavers, people, usual
from service.directory import tables as t
from service.directory import user_rows as rows
from service.directory.database import Transaction
from service.directory.dialect import insert_unless_known
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.directory.people import Groups
from service.directory.prepared import Prepared
from service.errors import NotFound, UniquenessConflict, VersionConflict
from service.people import User, join_key_of


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


def get_with_groups(
    transaction: Transaction, organization: str, user_id: str
) -> tuple[User, Groups] | None:
    """As ``get``, with the groups that the user is in."""
    return _shown(people.get_with_groups(transaction, user_id), organization)


def lock_with_groups(
    transaction: Transaction, organization: str, user_id: str
) -> tuple[User, Groups]:
    """As ``lock``, with the groups that the user is in. Raises NotFound."""
    found = _shown(people.lock_with_groups(transaction, user_id), organization)
    if found is None:
        raise NotFound(f"There is no user {user_id} in this organization.")
    return found


def _shown(found: tuple[User, Groups] | None, organization: str) -> tuple[User, Groups] | None:
    shown = found is not None and found[0].organization == organization and found[0].in_scim
    return found if shown else None


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
    new = rows.new_user(registered.organization, resource, received.at)
    address = usual.wanted_address(new, registered)
    # Held before whom it may be is looked for. Of two who then wait for each other, one of whom
    # comes back, Postgres undoes one, and it runs again.
    locks = [claims.lock_of(*address)] if address is not None else []
    earlier = joins.same_person(transaction, registered.organization, resource, locks)
    if earlier is None:
        return _create_stranger(transaction, registered, new, received)
    was_wanted = registered.wants(earlier)
    if earlier.resource is None:
        _require_free_user_name(transaction, organization, resource)
        said = rows.says(registered.organization, resource, active=True)
        user = dataclasses.replace(earlier, modified_at=received.at, **said)
        user = _write(transaction, user, {"created_at": received.at})
    else:
        user = _insert(transaction, new, {})
    event_id = inbox.admit(transaction, received, organization, user_id=user.id).event_id
    if earlier.id != user.id:
        user = joins.succeed(transaction, earlier, user, by=event_id, now=received.at)
        user = joins.join_worker(transaction, registered, user, by=event_id, now=received.at)
    _store_emails(transaction, user)
    return intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=received.at,
        user=user,
    )


def _create_stranger(
    transaction: Transaction,
    registered: Registered,
    new: User,
    received: Received,
) -> User:
    """Someone whom nobody knew: the row is written once, with what was decided for Auth0."""
    joined = usual.join(transaction, registered, new.resource or {}, received)
    if joined is not None:
        return joined
    organization = registered.organization.name
    event_id = inbox.admit(transaction, received, organization, user_id=new.id).event_id
    user = intent.settle(
        transaction,
        new.id,
        registered=registered,
        event_id=event_id,
        was_wanted=False,
        now=received.at,
        user=new,
        store=functools.partial(_insert, transaction, new),
    )
    _store_emails(transaction, user)
    return user


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

    Without ``active`` in it, who was in stays in, and who was out stays out. One that changes
    nothing keeps its version and still is an event. Raises VersionConflict and
    UniquenessConflict.
    """
    organization = registered.organization.name
    _require_version(user, if_match)
    known, before = user, user.resource or {}
    changes = dict(resource) != dict(before)
    if changes:
        user = rows.changed(registered.organization, user, resource, received.at)
        if rows.folded(resource["userName"]) != rows.folded(before.get("userName", "")):
            _require_free_user_name(transaction, organization, resource)
        if resource.get("emails") != before.get("emails"):
            _FORGET_EMAILS.run(transaction, {"of": user.id})
            _store_emails(transaction, user)
    known_by = join_key_of(before, registered.organization)
    joins_another = join_key_of(resource, registered.organization) != known_by
    if not joins_another:
        stayed = _stay(transaction, registered, known, user, received)
        if stayed is not None:
            return stayed
    was_wanted = registered.wants(known)
    event_id = inbox.admit(transaction, received, organization, user_id=user.id).event_id
    store = functools.partial(_write, transaction, user) if changes else None
    if changes and joins_another:
        user, store = _write(transaction, user, {}), None
        user = joins.join_worker(transaction, registered, user, by=event_id, now=received.at)
    return intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=received.at,
        user=user,
        store=store,
    )


def _stay(
    transaction: Transaction, registered: Registered, before: User, user: User, received: Received
) -> User | None:
    with _names_taken():
        return usual.stay(transaction, registered, before, user, received)


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
    event_id = inbox.admit(transaction, received, organization, user_id=user.id).event_id
    was_wanted = registered.wants(user)
    user = people.change(
        transaction,
        user.id,
        deleted_at=received.at,
        version=user.version + 1,
        modified_at=received.at,
    )
    groups = [row["group_id"] for row in _LEAVE_GROUPS.all(transaction, {"of": user.id})]
    _FORGET_EMAILS.run(transaction, {"of": user.id})
    settled = intent.settle(
        transaction,
        user.id,
        registered=registered,
        event_id=event_id,
        was_wanted=was_wanted,
        now=received.at,
        user=user,
    )
    if groups and settled.withheld is not None:
        people.store(transaction, user.id, withheld=leavers.with_groups(settled, groups))


def groups_of(
    transaction: Transaction, user_ids: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """User id to (group id, displayName) of the groups that the user is in."""
    found: dict[str, list[tuple[str, str]]] = {user_id: [] for user_id in user_ids}
    if found:
        for row in transaction.execute(_GROUPS_OF, {"users": list(found)}).mappings():
            name = row["resource"].get("displayName", "")
            found[row["user_id"]].append((row["id"], name))
    return found


_GROUPS_OF: Final = (
    select(t.members.c.user_id, t.groups.c.id, t.groups.c.resource)
    .join(t.groups, t.groups.c.id == t.members.c.group_id)
    .where(t.members.c.user_id.in_(bindparam("users", expanding=True)))
    .order_by(t.groups.c.id)
)


def _require_version(user: User, if_match: int | None) -> None:
    if if_match is not None and if_match != user.version:
        raise VersionConflict(f"The resource is at version {user.version}: read it, then repeat.")


def _require_free_user_name(
    transaction: Transaction, organization: str, resource: Mapping[str, Any]
) -> None:
    wanted = {"organization": organization, "key": rows.folded(resource["userName"])}
    if _NAMED.first(transaction, wanted) is not None:
        raise UniquenessConflict(usual.NAME_TAKEN)


_NAMED: Final = Prepared(
    select(t.users.c.id).where(
        t.users.c.organization == bindparam("organization"),
        t.users.c.user_name_key == bindparam("key"),
        t.users.c.deleted_at.is_(None),
    )
)


def _insert(transaction: Transaction, user: User, decided: Mapping[str, Any]) -> User:
    values = {**rows.first_columns(user), **decided}
    if insert_unless_known(transaction, t.users, values, [t.users.c.id]) is None:
        raise UniquenessConflict(usual.NAME_TAKEN)
    return dataclasses.replace(user, **decided)


def _write(transaction: Transaction, user: User, decided: Mapping[str, Any]) -> User:
    with _names_taken():
        return people.change(transaction, user.id, **rows.columns(user), **decided)


@contextlib.contextmanager
def _names_taken() -> Generator[None]:
    try:
        yield
    except IntegrityError as error:  # another transaction took the name since we looked
        raise UniquenessConflict(usual.NAME_TAKEN) from error


def _store_emails(transaction: Transaction, user: User) -> None:
    for key in sorted(rows.email_keys(user)):
        row = {"user_id": user.id, "value_key": key, "organization": user.organization}
        _STORE_EMAIL.run(transaction, row)


_STORE_EMAIL: Final = Prepared(t.user_emails.insert())
_FORGET_EMAILS: Final = Prepared(
    t.user_emails.delete().where(t.user_emails.c.user_id == bindparam("of"))
)
_LEAVE_GROUPS: Final = Prepared(
    t.members.delete().where(t.members.c.user_id == bindparam("of")).returning(t.members.c.group_id)
)
