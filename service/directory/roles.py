"""Which Auth0 roles a user's groups stand for, by the organization's mapping."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select

from service.directory import setups
from service.directory import tables as t
from service.directory.belonging import names_from_hr, rows_of
from service.directory.database import Transaction
from service.organizations import Organization
from service.people import User


def of_user(transaction: Transaction, user: User, organization: Organization) -> frozenset[str]:
    """Role names: a group maps by id or ``externalId``, by ``displayName`` only where unique.

    The groups of both sources count, unless the organization names the one that does. The first
    administrator has the declared role beside them.
    """
    granted = _from_groups(transaction, user, organization)
    first = organization.administrator
    if first is None or not first.role:
        return granted
    is_first = setups.administrator_of(transaction, organization.name) == user.id
    return granted | {first.role} if is_first else granted


def _from_groups(
    transaction: Transaction, user: User, organization: Organization
) -> frozenset[str]:
    mapping = organization.roles
    if not mapping:
        return frozenset()
    only = organization.attributes_from.get("groups")
    if only == "hr":
        return _from_hr(user, mapping)
    granted: set[str] = set()
    by_name = {name.casefold(): role for name, role in mapping.items()}
    named: set[str] = set()
    for row in rows_of(transaction, user):
        role = mapping.get(row.id) or mapping.get(row.external_id or "")
        if role is not None:
            granted.add(role)
        elif row.display_name_key in by_name:
            named.add(row.display_name_key)
    for name in named - _ambiguous(transaction, organization.name, named):
        granted.add(by_name[name])
    return frozenset(granted if only == "scim" else granted | _from_hr(user, mapping))


def _from_hr(user: User, mapping: Mapping[str, str]) -> frozenset[str]:
    by_name = {name.casefold(): role for name, role in mapping.items()}
    return frozenset(by_name[name] for name in names_from_hr(user) if name in by_name)


def _ambiguous(transaction: Transaction, organization: str, names: set[str]) -> set[str]:
    if not names:
        return set()
    return set(
        transaction.execute(
            select(t.groups.c.display_name_key)
            .where(
                t.groups.c.organization == organization,
                t.groups.c.display_name_key.in_(names),
            )
            .group_by(t.groups.c.display_name_key)
            .having(func.count() > 1)
        ).scalars()
    )
