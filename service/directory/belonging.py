"""What a user's groups are known by, and the connection that the rules choose by them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, select

from service.choosing import choose
from service.directory import tables as t
from service.directory.database import Transaction
from service.organizations import Connection, Organization
from service.people import User, withheld_of, worker_attribute


def connection_of(transaction: Transaction, user: User, organization: Organization) -> Connection:
    """The connection that the organization's rules choose for a user as things stand."""
    asked = organization.asks_for_groups
    return choose(
        organization, user, groups_of(transaction, user, organization) if asked else frozenset()
    )


def groups_of(transaction: Transaction, user: User, organization: Organization) -> frozenset[str]:
    """Ids, ``externalId`` and names in lower case, of the groups that count: those of both sources,
    unless the organization names the one that does.
    """
    only = organization.attributes_from.get("groups")
    found = names_from_hr(user) if only != "scim" else set[str]()
    for row in rows_of(transaction, user) if only != "hr" else ():
        found |= {row.id, row.display_name_key, row.external_id or row.id}
    return frozenset(found)


def names_from_hr(user: User) -> set[str]:
    """The groups that HR names, in lower case."""
    said = worker_attribute(user, "groups")
    names: list[Any] = said if isinstance(said, list) else []
    return {each.casefold() for each in names if isinstance(each, str)}


def rows_of(transaction: Transaction, user: User) -> Iterable[Row[Any]]:
    """``id``, ``external_id`` and ``display_name_key`` of the groups that SCIM has a user in; of one
    who is deleted, and in until an operator decides, of those before that.
    """
    groups = select(t.groups.c.id, t.groups.c.external_id, t.groups.c.display_name_key)
    kept = withheld_of(user).groups
    if kept:
        return transaction.execute(groups.where(t.groups.c.id.in_(kept)))
    return transaction.execute(
        groups.join(t.members, t.members.c.group_id == t.groups.c.id).where(
            t.members.c.user_id == user.id
        )
    )
