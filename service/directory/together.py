"""What SCIM writes of users, for many at once: whoever simply joins or stays, in a few statements for
all.

Leaves out, with nothing written, whoever else has a part in: they are done alone. Waits for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Text, column, text

from service.directory import accounts, claims, joins, many, organizations, people, usual
from service.directory import tables as t
from service.directory import user_rows as rows
from service.directory.accounts import Touch
from service.directory.database import Transaction
from service.directory.dialect import favour_indexes, hold_those_free, plan_anew
from service.directory.inbox import Received
from service.directory.many import PLACE
from service.directory.organizations import Registered
from service.directory.people import Groups
from service.directory.prepared import Prepared
from service.directory.several import Several
from service.directory.usual import Joining, Staying
from service.organizations import Organization
from service.people import User, join_key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A resource that is to be created, and the event that asks for it; see ``new``.

    ``joining``: what is to be written where the organization is still this one; None: nothing here.
    """

    organization: Organization
    resource: Mapping[str, Any]
    received: Received
    joining: tuple[Joining, _Claim] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A user's resource that is to become another. ``changed`` makes it of the user as locked, or
    refuses by any error.
    """

    organization: str
    user_id: str
    changed: Callable[[User], Mapping[str, Any]]
    received: Received


def new(organization: Organization, resource: Mapping[str, Any], received: Received) -> New:
    """All that needs no database, while others write: nobody waits for it then."""
    joining = usual.joining(organization, resource, received)
    return New(
        organization=organization,
        resource=resource,
        received=received,
        joining=(joining, _claim_of(organization, joining)) if joining is not None else None,
    )


def create(transaction: Transaction, news: Sequence[New]) -> list[User | None]:
    """As ``users.create``, of all who get an account of their own and are nobody known."""
    plan_anew(transaction)
    known = organizations.find_many(transaction, {each.organization.name for each in news})
    taken: set[tuple[str, ...]] = set()
    joining: dict[int, tuple[Joining, _Claim]] = {}
    for place, each in enumerate(news):
        registered = known.get(each.organization.name)
        if registered is None or registered.decommissioned:
            continue
        if registered.organization is not each.organization:  # it was changed meanwhile
            each = new(registered.organization, each.resource, each.received)
        if each.joining is not None and taken.isdisjoint(each.joining[1].names):
            taken |= each.joining[1].names
            joining[place] = each.joining
    free = _free(transaction, joining)
    stored = _join(transaction, [joining[place][0] for place in free])
    done = {place: joining[place][0].user for place in free}
    return [
        user if (user := done.get(place)) and user.id in stored else None
        for place in range(len(news))
    ]


def change(transaction: Transaction, changes: Sequence[Change]) -> list[tuple[User, Groups] | None]:
    """As ``users.replace``, of all who stay in and keep their names and addresses, with the groups
    that they are in.
    """
    favour_indexes(transaction)
    known = organizations.find_many(transaction, {each.organization for each in changes})
    users = people.lock_those_free(transaction, {each.user_id for each in changes})
    staying: dict[int, tuple[Staying, Groups]] = {}
    for place, each in enumerate(changes):
        registered = known.get(each.organization)
        found = users.pop(each.user_id, None)  # of two changes of one user the second has to wait
        if registered is None or found is None:
            continue
        user, groups = found
        stays = _staying(registered, user, each)
        if stays is not None:
            staying[place] = stays, groups
    stayed = _stay(transaction, {place: stays for place, (stays, _) in staying.items()})
    return [
        (staying[place][0].user, staying[place][1]) if place in stayed else None
        for place in range(len(changes))
    ]


# Whoever joins


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What a new user must be the only one to have. ``locks``: of it, what is held meanwhile."""

    locks: frozenset[tuple[str, ...]]
    names: frozenset[tuple[str, ...]]
    values: Mapping[str, Any]


def _claim_of(organization: Organization, joins_as: Joining) -> _Claim:
    account, user = joins_as.account, joins_as.user
    keys = joins.keys_of(organization, user.resource or {})
    key = join_key_of(user.resource or {}, organization)
    by_id = organization.join == "externalId"
    locks = {people.lock_of(organization.name, each) for each in keys}
    locks.add(claims.lock_of(account["tenant"], account["identifier"]))
    named = ("userName", organization.name, joins_as.row["user_name_key"])
    return _Claim(
        locks=frozenset(locks),
        names=frozenset({*locks, named}),
        values={
            "organization": organization.name,
            "external_id": user.external_id or None,
            "worker_id": key if by_id else None,
            "join_key": None if by_id else key,
            "identifier": account["identifier"],
            "tenant": account["tenant"],
            "connection": account["connection"],
        },
    )


def _free(transaction: Transaction, joining: Mapping[int, tuple[Joining, _Claim]]) -> Sequence[int]:
    """Those whose claims nobody else has, or may be about to have; their names are held then."""
    places = list(joining)
    many_write = transaction.dialect.name == "postgresql"
    if many_write:
        wanted = {lock for _, claim in joining.values() for lock in claim.locks}
        held = hold_those_free(transaction, wanted)
        places = [place for place in places if joining[place][1].locks <= held]
    values = [joining[place][1].values for place in places]
    if many_write:
        found = _TAKEN_OF_MANY.all(transaction, _lists(values)) if values else []
    else:
        placed = [{**each, PLACE.name: at} for at, each in enumerate(values, 1)]
        found = _TAKEN.all(transaction, placed)
    in_use = {row["place"] - 1 for row in found}
    return [place for at, place in enumerate(places) if at not in in_use]


def _lists(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [each[name] for each in values] for name in values[0]}


_VALUES: Final = (
    *("organization", "external_id", "worker_id", "join_key", "identifier", "tenant"),
    "connection",
)


def _taken(given: str) -> str:
    """Whether somebody has any of a claim's values: each asked for by itself, by its own index.

    Counted: where one row is enough, Postgres may look for it in all of the organization.

    ``given``: what stands before the name of a value.
    """
    of_users = {
        "external_id": "deleted_at IS NOT NULL",
        "worker_id": "worker_id IS NOT NULL",
        "join_key": "join_key IS NOT NULL",
        "identifier": "account_id IS NOT NULL",
    }
    asked = [
        f"(SELECT count(*) FROM users WHERE organization = {given}organization"  # noqa: S608 - our own names
        f" AND {name} = {given}{name} AND {where}) > 0"
        for name, where in of_users.items()
    ]
    account = (
        f"(SELECT count(*) FROM accounts WHERE tenant = {given}tenant"  # noqa: S608 - our own names
        f" AND connection = {given}connection AND identifier = {given}identifier"
        " AND closed_at IS NULL) > 0"
    )
    return " OR ".join([*asked, account])


_ARRAYS: Final = ", ".join(f"CAST(:{name} AS text[])" for name in _VALUES)
_TAKEN_OF_MANY: Final = Prepared(
    text(
        f"SELECT given.place FROM unnest({_ARRAYS}) WITH ORDINALITY"  # noqa: S608 - our own names
        f" AS given({', '.join(_VALUES)}, place) WHERE {_taken('given.')}"
    ).columns(PLACE)
)
_TAKEN: Final = Several(
    [*(column(name, Text) for name in _VALUES), PLACE],
    lambda values: (
        f"WITH given ({', '.join(_VALUES)}, place) AS ({values})"  # noqa: S608 - our own names
        f" SELECT place FROM given WHERE {_taken('given.')}"
    ),
    [PLACE],
)


def _join(transaction: Transaction, joining: Sequence[Joining]) -> set[str]:
    """Writes it all for those whose ``userName`` nobody has; returns the ids of those users."""
    named = _rows(transaction, [each.row for each in joining])
    done = many.insert_unknown(transaction, t.users, named, (t.users.c.id,))
    stored = {row["id"] for row in done}
    joined = [each for each in joining if each.user.id in stored]
    opened = [each.account for each in joined]
    waiting = [
        {
            "event_id": each.event["id"],
            "account_id": each.account["id"],
            "user_id": each.user.id,
            "revision": each.account["revision"],
        }
        for each in joined
    ]
    found_by = [
        {"user_id": each.user.id, "value_key": key, "organization": each.user.organization}
        for each in joined
        for key in each.emails
    ]
    many.insert(transaction, t.accounts, opened)
    many.insert(transaction, t.events, _rows(transaction, [each.event for each in joined]))
    many.insert(transaction, t.waits, waiting)
    many.insert(transaction, t.user_emails, found_by)
    return stored


# Whoever stays


def _staying(registered: Registered, user: User, change: Change) -> Staying | None:
    organization = registered.organization
    if user.organization != change.organization or not user.in_scim:
        return None
    before = user.resource or {}
    try:
        resource = change.changed(user)
    except Exception:  # whichever it is: alone it is raised to whoever asked
        return None
    if resource == before:
        return usual.staying(registered, user, user, change.received)
    kept = all(resource.get(name) == before.get(name) for name in ("userName", "emails"))
    if not kept or join_key_of(resource, organization) != join_key_of(before, organization):
        return None
    after = rows.changed(organization, user, resource, change.received.at)
    return usual.staying(registered, user, after, change.received)


def _stay(transaction: Transaction, staying: Mapping[int, Staying]) -> set[int]:
    """Writes it all for those whose account is open, theirs and free; returns who they are."""
    held = accounts.hold_those_free(transaction, {each.account_id for each in staying.values()})
    stayed: dict[int, tuple[Staying, Touch]] = {}
    for place, stays in staying.items():
        account = held.pop(stays.account_id, None)  # of two users of one the second has to wait
        if account is None or account.closed_at or account.identifier != stays.identifier:
            continue
        now = stays.event["accepted_at"]
        stayed[place] = stays, Touch(account=account, revision=account.revision + 1, now=now)
    accounts.touch_many(transaction, [touch for _, touch in stayed.values()])
    events = [stays.event for stays, _ in stayed.values()]
    many.insert(transaction, t.events, _rows(transaction, events))
    waiting = [
        {
            "event_id": stays.event["id"],
            "account_id": stays.account_id,
            "user_id": stays.user.id,
            "revision": touch.revision,
        }
        for stays, touch in stayed.values()
    ]
    many.insert(transaction, t.waits, waiting)
    by_columns: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for stays, _ in stayed.values():
        row = {"id": stays.user.id, **stays.row}
        by_columns.setdefault(tuple(row), []).append(row)
    for alike in by_columns.values():
        many.write(transaction, t.users, alike)
    return set(stayed)


def _rows(transaction: Transaction, rows: Sequence[Mapping[str, Any]]) -> many.Rows:
    """For Postgres, which is sent whole columns, without those that no row says anything of."""
    if transaction.dialect.name != "postgresql":
        return rows
    said: dict[str, None] = {}
    for row in rows:
        said |= {name: None for name, value in row.items() if value is not None}
    return [{name: row[name] for name in said} for row in rows]
