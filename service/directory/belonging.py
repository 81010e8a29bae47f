"""What a user's groups are known by, and the connection that the rules choose by them."""

from __future__ import annotations

from sqlalchemy import select

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
    of_hr = worker_attribute(user, "groups") if only != "scim" else None
    names = of_hr if isinstance(of_hr, list) else []
    found = {each.casefold() for each in names if isinstance(each, str)}
    if only == "hr":
        return frozenset(found)
    groups = select(t.groups.c.id, t.groups.c.external_id, t.groups.c.display_name_key)
    kept = withheld_of(user).groups  # deleted, and in until an operator decides
    rows = transaction.execute(
        groups.where(t.groups.c.id.in_(kept))
        if kept
        else groups.join(t.members, t.members.c.group_id == t.groups.c.id).where(
            t.members.c.user_id == user.id
        )
    )
    for row in rows:
        found |= {row.id, row.display_name_key}
        if row.external_id:
            found.add(row.external_id)
    return frozenset(found)
