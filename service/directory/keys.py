"""Users by one of their keys: what identity providers ask before each write, so it is kept short.

Says the same as the general way in pages, for the few shapes that it takes.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, bindparam, select

from service.directory import people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.pages import Page, Query
from service.directory.people import Groups
from service.directory.predicates import Compare
from service.directory.prepared import Prepared
from service.people import User

_MOST: Final = 20
"""So many users with the same key are shown from here; more are a list like any other."""
_KEY: Final = bindparam("key")


def _those(condition: ColumnElement[bool], *, by_id: bool = False) -> Prepared:
    """``by_id``: the organization is compared as an expression, else SQLite may read all of it."""
    owner = t.users.c.organization + "" if by_id else t.users.c.organization
    return Prepared(
        select(t.users, people.GROUPS)
        .where(
            owner == bindparam("organization"),
            t.users.c.deleted_at.is_(None),
            t.users.c.resource.is_not(None),
            condition,
        )
        .order_by(t.users.c.id + "")  # no index in this order: the few have to be found first
        .limit(_MOST + 1)
    )


_BY: Final[dict[tuple[str, ...], Prepared]] = {
    ("id",): _those(t.users.c.id == _KEY, by_id=True),
    ("userName",): _those(t.users.c.user_name_key == _KEY),
    ("externalId",): _those(t.users.c.external_id == _KEY),
    ("displayName",): _those(t.users.c.display_name_key == _KEY),
    ("emails", "value"): _those(
        t.users.c.id.in_(
            select(t.user_emails.c.user_id).where(
                t.user_emails.c.organization == bindparam("organization"),
                t.user_emails.c.value_key == _KEY,
            )
        ),
        by_id=True,
    ),
}
_UNIQUE: Final[frozenset[tuple[str, ...]]] = frozenset({("id",), ("userName",)})
_FOLDED: Final[frozenset[tuple[str, ...]]] = frozenset(
    {("userName",), ("displayName",), ("emails", "value")}
)


def names_one(query: Query) -> bool:
    """Whether at most one user can be meant."""
    key = _key_in(query)
    return key is not None and key[0] in _UNIQUE


def find(
    transaction: Transaction, organization: str, query: Query
) -> tuple[Page[User], dict[str, Groups]] | None:
    """The page, and the groups of those on it, where the query names users by one key and all of
    them fit on it; else None.
    """
    key = _key_in(query)
    if key is None:
        return None
    name, value = key
    given = {"organization": organization, "key": value}
    rows = _BY[name].all(transaction, given)
    if len(rows) > min(_MOST, query.limit):
        return None
    page = Page(items=[people.user_of(row) for row in rows], total=len(rows))
    return page, {row["id"]: people.groups_in(row) for row in rows}


def _key_in(query: Query) -> tuple[tuple[str, ...], str] | None:
    if query.walk is not None or query.sort is not None or query.offset or not query.limit:
        return None
    match query.where:
        case Compare(target=target, operator="eq", value=str(value)) if target.name in _BY:
            return target.name, value.casefold() if target.name in _FOLDED else value
        case _:
            return None
