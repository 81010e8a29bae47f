"""Groups as rows, and their members as a set that is changed in SQL and never loaded to be changed.

A group maps to a role where its organization says so; only then do its members' accounts change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, literal, select, union, update

from service.directory import ending, fanouts, inbox
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among, columns, id_list
from service.directory.fanouts import Users
from service.directory.inbox import Received
from service.directory.organizations import Registered
from service.errors import NotFound, Refused, UniquenessConflict, VersionConflict
from service.ids import new_id
from service.organizations import Organization
from service.people import MemberChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group as stored, without its members. ``resource`` is as in service.people.User."""

    id: str
    organization: str
    resource: Mapping[str, Any]
    external_id: str | None
    version: int
    created_at: datetime
    modified_at: datetime

    @property
    def display_name(self) -> str:
        return str(self.resource["displayName"])


def get(transaction: Transaction, organization: str, group_id: str) -> Group | None:
    row = transaction.execute(
        select(t.groups).where(t.groups.c.id == group_id, t.groups.c.organization == organization)
    ).one_or_none()
    return as_group(row) if row is not None else None


def lock(transaction: Transaction, organization: str, group_id: str) -> Group:
    """The group, held until the transaction ends: changes of one group follow one another.

    Raises NotFound.
    """
    row = transaction.execute(
        select(t.groups)
        .where(t.groups.c.id == group_id, t.groups.c.organization == organization)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no group {group_id} in this organization.")
    return as_group(row)


def members_of(transaction: Transaction, group_ids: Sequence[str]) -> dict[str, list[str]]:
    """Group id to the ids of its members, in order."""
    found: dict[str, list[str]] = {group_id: [] for group_id in group_ids}
    if found:
        rows = transaction.execute(
            select(t.members.c.group_id, t.members.c.user_id)
            .where(t.members.c.group_id.in_(list(found)))
            .order_by(t.members.c.group_id, t.members.c.user_id)
        )
        for group_id, user_id in rows:
            found[group_id].append(user_id)
    return found


def create(
    transaction: Transaction,
    registered: Registered,
    resource: Mapping[str, Any],
    members: Collection[str],
    received: Received,
) -> Group:
    """A new group with its members.

    Raises UniquenessConflict where a group of the organization has this ``displayName``, Refused
    where a member is no user of it.
    """
    organization = registered.organization
    _require_free_name(transaction, organization.name, str(resource["displayName"]), None)
    event_id = inbox.admit(transaction, received, organization.name).event_id
    group = Group(
        id=new_id(received.at),
        organization=organization.name,
        resource=dict(resource),
        external_id=resource.get("externalId"),
        version=1,
        created_at=received.at,
        modified_at=received.at,
    )
    transaction.execute(
        t.groups.insert().values(
            id=group.id,
            organization=group.organization,
            version=1,
            created_at=received.at,
            modified_at=received.at,
            **_columns(resource),
        )
    )
    joining = _joining(transaction, group, frozenset(members))
    touched = [id_list(transaction, joining)] if _stands_for(group, organization) else []
    _settle(transaction, touched, event_id, received.at)
    _add(transaction, group, joining)
    return group


def change(
    transaction: Transaction,
    registered: Registered,
    group: Group,
    resource: Mapping[str, Any],
    members: MemberChange,
    received: Received,
    *,
    if_match: int | None = None,
) -> Group:
    """Gives a group (from ``lock``) a new resource and changes its members; all or nothing.

    One that changes nothing keeps its version and still is an event. Raises VersionConflict, and
    what ``create`` raises.
    """
    _require_version(group, if_match)
    organization = registered.organization
    if str(resource["displayName"]).casefold() != group.display_name.casefold():
        _require_free_name(transaction, group.organization, str(resource["displayName"]), group.id)
    event_id = inbox.admit(transaction, received, group.organization).event_id
    changed = Group(
        id=group.id,
        organization=group.organization,
        resource=dict(resource),
        external_id=resource.get("externalId"),
        version=group.version,
        created_at=group.created_at,
        modified_at=group.modified_at,
    )
    joining = _joining(transaction, group, members.add)
    leaving = _leaving(transaction, members)
    touched: list[Users] = []
    if _stands_for(group, organization) != _stands_for(changed, organization):
        # Who stays gains or loses what it stands for; who leaves may have it to lose.
        touched = [_members(group), id_list(transaction, joining)]
    elif _stands_for(group, organization):
        touched = [id_list(transaction, joining)]
        touched += [_members(group).where(leaving)] if leaving is not None else []
    _settle(transaction, touched, event_id, received.at)
    moved = _add(transaction, group, joining) + _remove(transaction, group, leaving)
    if moved or changed.resource != dict(group.resource):
        changed = _store(transaction, changed, received.at)
    return changed


def remove(
    transaction: Transaction,
    registered: Registered,
    group_id: str,
    received: Received,
    *,
    if_match: int | None = None,
) -> None:
    """Deletes a group; its members stay users. Raises NotFound and VersionConflict."""
    organization = registered.organization
    group = lock(transaction, organization.name, group_id)
    _require_version(group, if_match)
    event_id = inbox.admit(transaction, received, organization.name).event_id
    touched = [_members(group)] if _stands_for(group, organization) else []
    _settle(transaction, touched, event_id, received.at)
    transaction.execute(delete(t.members).where(t.members.c.group_id == group.id))
    transaction.execute(delete(t.groups).where(t.groups.c.id == group.id))


def as_group(row: Row[Any]) -> Group:
    known = columns(row)
    return Group(**{name: known[name] for name in Group.__slots__})


def _settle(
    transaction: Transaction, touched: Sequence[Users], event_id: str, now: datetime
) -> None:
    """Lets the event wait for the members whose roles may change, or ends it.

    Before the members change: they are told from those who are in the group now.
    """
    if touched:
        users = touched[0] if len(touched) == 1 else union(*touched)
        fanouts.touch(transaction, users, event_id=event_id, now=now)
    else:
        ending.finish(transaction, event_id, "succeeded", now=now, result="applied")


def _members(group: Group) -> Select[tuple[str]]:
    return select(t.members.c.user_id).where(t.members.c.group_id == group.id)


def _joining(transaction: Transaction, group: Group, ids: frozenset[str]) -> Sequence[str]:
    """Who of these users is not in the group yet. Raises Refused."""
    if not ids:
        return ()
    live = (
        select(t.users.c.id)
        .where(
            among(transaction, t.users.c.id, ids),
            # An expression: else SQLite may read the whole organization by one of its indexes.
            t.users.c.organization + "" == group.organization,
            t.users.c.deleted_at.is_(None),
            t.users.c.resource.is_not(None),
        )
        .order_by(t.users.c.id)
    )
    # Held, so that nobody is deleted between this look and the commit.
    known = set(transaction.execute(live.with_for_update(key_share=True)).scalars())
    if len(known) < len(ids):
        missing = min(ids - known)
        raise Refused(f"{missing[:100]} is not the id of a user of this organization.")
    there = _members(group).where(among(transaction, t.members.c.user_id, ids))
    return sorted(ids.difference(transaction.execute(there).scalars()))


def _leaving(transaction: Transaction, members: MemberChange) -> ColumnElement[bool] | None:
    """Which of the rows of a group's members are to go; None where none is."""
    if members.replace:
        return t.members.c.user_id.not_in(id_list(transaction, members.add))
    if members.remove:
        return among(transaction, t.members.c.user_id, members.remove)
    return None


def _add(transaction: Transaction, group: Group, joining: Sequence[str]) -> int:
    """Puts users into a group; returns how many."""
    if not joining:
        return 0
    pairs = select(literal(group.id), *id_list(transaction, joining).subquery().c)
    transaction.execute(t.members.insert().from_select(["group_id", "user_id"], pairs))
    return len(joining)


def _remove(transaction: Transaction, group: Group, leaving: ColumnElement[bool] | None) -> int:
    """Takes users out of a group; returns how many."""
    if leaving is None:
        return 0
    statement = delete(t.members).where(t.members.c.group_id == group.id, leaving)
    return transaction.execute(statement).rowcount


def _store(transaction: Transaction, group: Group, now: datetime) -> Group:
    row = transaction.execute(
        update(t.groups)
        .where(t.groups.c.id == group.id)
        .values(version=t.groups.c.version + 1, modified_at=now, **_columns(group.resource))
        .returning(*t.groups.c)
    ).one()
    return as_group(row)


def _require_version(group: Group, if_match: int | None) -> None:
    if if_match is not None and if_match != group.version:
        raise VersionConflict(f"The resource is at version {group.version}: read it, then repeat.")


def _require_free_name(
    transaction: Transaction, organization: str, name: str, own: str | None
) -> None:
    """Entra needs ``displayName`` to be unique. The organization's row makes takers queue up."""
    transaction.execute(
        select(t.organizations.c.name)
        .where(t.organizations.c.name == organization)
        .with_for_update(key_share=True)
    )
    taken = transaction.execute(
        select(t.groups.c.id).where(
            t.groups.c.organization == organization,
            t.groups.c.display_name_key == name.casefold(),
        )
    ).scalars()
    if any(group_id != own for group_id in taken):
        raise UniquenessConflict("Another group of this organization has this displayName.")


def _columns(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resource": dict(resource),
        "display_name_key": str(resource["displayName"]).casefold(),
        "external_id": resource.get("externalId"),
    }


def _stands_for(group: Group, organization: Organization) -> frozenset[tuple[str, str]]:
    """The role that its members have, and the rules of connections that name it: see
    service.directory.roles and service.choosing.
    """
    mapping = organization.roles
    by_name = {name.casefold(): role for name, role in mapping.items()}
    name = group.display_name.casefold()
    role = mapping.get(group.id) or mapping.get(group.external_id or "") or by_name.get(name)
    found = {("role", role)} if role is not None else set[tuple[str, str]]()
    if organization.policies.moves == "follow":
        found |= {
            ("connection", connection.name)
            for connection in organization.connections
            for rule in connection.every_rule
            for each in rule.groups
            if each in (group.id, group.external_id) or each.casefold() == name
        }
    return frozenset(found)
