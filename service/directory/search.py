"""Users and groups by predicate: what SCIM shows of them, and where each attribute is kept.

Shows only what the SCIM door shows, and only of one organization.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Row, literal, null, select

from service.directory import groups, keys, people
from service.directory import tables as t
from service.directory.conditions import Layout, Relation
from service.directory.database import Transaction
from service.directory.groups import Group
from service.directory.pages import Listing, Page, Query, fetch
from service.directory.people import Groups
from service.directory.users import groups_of
from service.people import User

T = TypeVar("T")
_INDEXED: Final = frozenset({("externalId",)})
PROVISIONING: Final = "urn:auth0-provisioner:scim:1.0:Provisioning"


def users(transaction: Transaction, organization: str, query: Query) -> Page[User]:
    found = keys.find(transaction, organization, query)
    return found[0] if found is not None else _listed(transaction, organization, query)


def users_and_groups(
    transaction: Transaction, organization: str, query: Query
) -> tuple[Page[User], dict[str, Groups]]:
    """As ``users``, with the groups of each of them by user id."""
    found = keys.find(transaction, organization, query)
    if found is not None:
        return found
    page = _listed(transaction, organization, query)
    return page, groups_of(transaction, [user.id for user in page.items])


def _listed(transaction: Transaction, organization: str, query: Query) -> Page[User]:
    listing = Listing(
        table=t.users,
        organization=organization,
        shown=(t.users.c.deleted_at.is_(None), t.users.c.resource.is_not(None)),
        walked=(t.users.c.deleted_at.is_(None), t.users.c.user_name_key.is_not(None)),
        layout=_user_layout(organization),
    )
    return _of(fetch(transaction, listing, query), people.as_user)


def groups_page(transaction: Transaction, organization: str, query: Query) -> Page[Group]:
    listing = Listing(
        table=t.groups, organization=organization, shown=(), walked=(), layout=_group_layout()
    )
    return _of(fetch(transaction, listing, query), groups.as_group)


def _of(page: Page[Row[Any]], read: Callable[[Row[Any]], T]) -> Page[T]:
    return Page(
        items=[read(row) for row in page.items],
        total=page.total,
        more=page.more,
        first=page.first,
        last=page.last,
    )


def _user_layout(organization: str) -> Layout:
    users, emails = t.users.c, t.user_emails.c

    def has_address(value: str) -> ColumnElement[bool]:
        return users.id.in_(
            select(emails.user_id).where(
                emails.organization == organization, emails.value_key == value.casefold()
            )
        )

    return Layout(
        resource=users.resource,
        columns={
            ("id",): users.id,
            ("externalId",): users.external_id,
            ("active",): users.active,
            ("meta", "created"): users.created_at,
            ("meta", "lastModified"): users.modified_at,
            ("meta", "version"): users.version,
            (PROVISIONING, "state"): users.state,
            (PROVISIONING, "detail"): users.detail,
            (PROVISIONING, "lastAppliedAt"): users.last_applied_at,
        },
        folded={
            ("userName",): users.user_name_key,
            ("displayName",): users.display_name_key,
        },
        keyed={("emails", "value"): has_address},
        relations={("groups",): _GROUPS_OF_USER},
        indexed=_INDEXED,
    )


def _group_layout() -> Layout:
    groups = t.groups.c
    return Layout(
        resource=groups.resource,
        columns={
            ("id",): groups.id,
            ("externalId",): groups.external_id,
            ("meta", "created"): groups.created_at,
            ("meta", "lastModified"): groups.modified_at,
            ("meta", "version"): groups.version,
        },
        folded={("displayName",): groups.display_name_key},
        relations={("members",): _MEMBERS_OF_GROUP},
        indexed=_INDEXED,
    )


_GROUPS_OF_USER: Final = Relation(
    rows=lambda: t.members.join(t.groups, t.groups.c.id == t.members.c.group_id),
    joined=lambda rows: rows.c.members_user_id == t.users.c.id,
    columns={
        "value": lambda rows: rows.c.members_group_id,
        "display": lambda rows: rows.c.groups_resource["displayName"].as_string(),
        "type": lambda _: literal("direct"),
        "$ref": lambda _: null(),
    },
)
_MEMBERS_OF_GROUP: Final = Relation(
    rows=lambda: t.members.alias(),
    joined=lambda rows: rows.c.group_id == t.groups.c.id,
    columns={
        "value": lambda rows: rows.c.user_id,
        "type": lambda _: literal("User"),
        "$ref": lambda _: null(),
    },
)
