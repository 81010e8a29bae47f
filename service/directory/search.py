"""Pages of users and groups by predicate. Exact totals, and always a stable order.

Shows only what the SCIM door shows, and only of one organization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import ColumnElement, Row, Table, func, literal, null, select

from service.directory import groups, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.groups import Group
from service.directory.predicates import (
    Layout,
    Predicate,
    Relation,
    Target,
    compile_predicate,
    compile_sort,
)
from service.people import User

T = TypeVar("T")
PROVISIONING: Final = "urn:auth0-provisioner:scim:1.0:Provisioning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """What to order by before the id; resources without a value come last, or first descending."""

    target: Target
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a page shows: ``offset`` resources are passed over, at most ``limit`` follow."""

    where: Predicate | None = None
    sort: Sort | None = None
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """``total`` counts everything that matches."""

    total: int
    items: Sequence[T]


def users(transaction: Transaction, organization: str, query: Query) -> Page[User]:
    shown = (
        t.users.c.organization == organization,
        t.users.c.deleted_at.is_(None),
        t.users.c.resource.is_not(None),
    )
    total, rows = _page(transaction, t.users, shown, _user_layout(organization), query)
    return Page(total=total, items=[people.as_user(row) for row in rows])


def groups_page(transaction: Transaction, organization: str, query: Query) -> Page[Group]:
    shown = (t.groups.c.organization == organization,)
    total, rows = _page(transaction, t.groups, shown, _group_layout(), query)
    return Page(total=total, items=[groups.as_group(row) for row in rows])


def _page(
    transaction: Transaction,
    table: Table,
    shown: tuple[ColumnElement[bool], ...],
    layout: Layout,
    query: Query,
) -> tuple[int, Sequence[Row[Any]]]:
    dialect = transaction.dialect.name
    conditions = list(shown)
    if query.where is not None:
        conditions.append(compile_predicate(query.where, layout, dialect))
    rows: Sequence[Row[Any]] = ()
    if query.limit > 0:
        order: list[ColumnElement[Any]] = [table.c.id]
        if query.where is not None and dialect == "sqlite":
            # An expression: else SQLite walks all ids in order, past the index that finds the few.
            order = [table.c.id + ""]
        if query.sort is not None:
            key = compile_sort(query.sort.target, layout, dialect)
            down = query.sort.descending
            order.insert(0, key.desc().nulls_first() if down else key.asc().nulls_last())
        rows = transaction.execute(
            select(table)
            .where(*conditions)
            .order_by(*order)
            .limit(query.limit)
            .offset(query.offset)
        ).all()
        ends_here = len(rows) < query.limit and (rows or query.offset == 0)
        if ends_here:  # the last page tells the total
            return query.offset + len(rows), rows
    total = transaction.execute(
        select(func.count()).select_from(table).where(*conditions)
    ).scalar_one()
    return total, rows


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
