"""The rows of users, whichever source speaks of them. What a row means is service.people's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Row,
    bindparam,
    select,
    union_all,
    update,
)

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import (
    IDS,
    columns,
    hold,
    hold_all,
    hold_if_free,
    hold_those_free,
    one_of,
    paired,
)
from service.directory.prepared import Prepared
from service.organizations import JoinKey
from service.people import User
from service.workers import Employment, Order, Said, Status, WorkerEvent, attributes_after

Groups = list[tuple[str, str]]
"""Id and ``displayName`` of the groups that a user is in, by id."""

GROUPS: Final = (
    select(paired(t.groups.c.id, t.groups.c.resource["displayName"].as_string()))
    .select_from(t.members.join(t.groups, t.groups.c.id == t.members.c.group_id))
    .where(t.members.c.user_id == t.users.c.id)
    .correlate(t.users)
    .scalar_subquery()
    .label("member_of")
)
"""To be asked for together with a user: what ``groups_in`` reads."""

_GET: Final = select(t.users).where(t.users.c.id == bindparam("of"))
_UPDATE: Final = update(t.users).where(t.users.c.id == bindparam("of"))
_ONE: Final = Prepared(_GET)
_LOCK: Final = Prepared(_GET.with_for_update())
_ONE_AND_GROUPS: Final = Prepared(_GET.add_columns(GROUPS))
_LOCK_AND_GROUPS: Final = Prepared(_GET.add_columns(GROUPS).with_for_update(of=t.users))
_LOCK_MANY: Final = Prepared(
    select(t.users).where(one_of(t.users.c.id, IDS)).order_by(t.users.c.id).with_for_update()
)
_LOCK_THOSE_FREE: Final = Prepared(
    select(t.users, GROUPS)
    .where(one_of(t.users.c.id, IDS))
    .order_by(t.users.c.id)
    .with_for_update(of=t.users, skip_locked=True)
)
_STORE: Final = Prepared(_UPDATE)
_CHANGE: Final = Prepared(_UPDATE.returning(t.users))


def found_by(*keys: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a user of ``:organization`` fulfils any of these, each of which an index answers.

    One look-up each: given an OR, SQLite reads every user of the organization.
    """
    of_organization = select(t.users.c.id).where(
        t.users.c.organization == bindparam("organization")
    )
    return t.users.c.id.in_(union_all(*(of_organization.where(key) for key in keys)))


def get(transaction: Transaction, user_id: str) -> User | None:
    row = _ONE.first(transaction, {"of": user_id})
    return user_of(row) if row is not None else None


def lock(transaction: Transaction, user_id: str) -> User | None:
    """The user, held against other transactions until this one ends."""
    row = _LOCK.first(transaction, {"of": user_id})
    return user_of(row) if row is not None else None


def get_with_groups(transaction: Transaction, user_id: str) -> tuple[User, Groups] | None:
    row = _ONE_AND_GROUPS.first(transaction, {"of": user_id})
    return (user_of(row), groups_in(row)) if row is not None else None


def lock_with_groups(transaction: Transaction, user_id: str) -> tuple[User, Groups] | None:
    """As ``lock``, with the groups as they are now."""
    row = _LOCK_AND_GROUPS.first(transaction, {"of": user_id})
    return (user_of(row), groups_in(row)) if row is not None else None


def lock_those_free(
    transaction: Transaction, user_ids: Collection[str]
) -> dict[str, tuple[User, Groups]]:
    """As ``lock_with_groups``, by id and without waiting: those whom no other transaction holds."""
    rows = _LOCK_THOSE_FREE.all(transaction, {"ids": sorted(user_ids)})
    return {row["id"]: (user_of(row), groups_in(row)) for row in rows}


def groups_in(row: Mapping[str, Any]) -> Groups:
    """The groups in a row that ``GROUPS`` was asked for with."""
    return sorted((group_id, name or "") for group_id, name in row["member_of"] or ())


def hold_key(transaction: Transaction, organization: str, key: str) -> None:
    """Keeps others from joining sources by this key or worker id until the end of this.

    Whatever the case of its letters: by some keys they are the same.
    """
    hold(transaction, *lock_of(organization, key))


def lock_of(organization: str, key: str) -> tuple[str, ...]:
    """What ``hold_key`` holds."""
    return "person", organization, key.casefold()


def lock_many(transaction: Transaction, user_ids: Collection[str]) -> list[User]:
    """These users, in order of their ids and held as by ``lock``."""
    given = {"ids": sorted(user_ids)}
    return [user_of(row) for row in _LOCK_MANY.all(transaction, given)] if user_ids else []


def hold_keys(transaction: Transaction, keys: Collection[tuple[str, str]]) -> None:
    """As ``hold_key``, of many pairs of an organization and a key."""
    hold_all(transaction, [lock_of(*key) for key in keys])


def hold_key_if_free(transaction: Transaction, organization: str, key: str) -> bool:
    """As ``hold_key``, but without waiting: False where another transaction holds it."""
    return hold_if_free(transaction, *lock_of(organization, key))


def hold_keys_if_free(
    transaction: Transaction, keys: Collection[tuple[str, str]]
) -> set[tuple[str, str]]:
    """As ``hold_keys``, but without waiting: those of them that are held now."""
    names = {("person", name, key.casefold()) for name, key in keys}
    free = hold_those_free(transaction, names)
    return {key for key in keys if ("person", key[0], key[1].casefold()) in free}


def joined_by(join: JoinKey) -> Column[Any]:
    """The column that holds what HR calls a SCIM user by; what is in it: service.people.join_key_of."""
    return t.users.c.external_id if join == "externalId" else t.users.c.join_key


def of_account(transaction: Transaction, account_id: str) -> list[User]:
    """Everyone, of any organization, who lives in this account; the longest known first."""
    rows = transaction.execute(
        select(t.users).where(t.users.c.account_id == account_id).order_by(t.users.c.id)
    )
    return [as_user(row) for row in rows]


def store(transaction: Transaction, user_id: str, **values: Any) -> None:
    """Writes columns of a user."""
    _STORE.run(transaction, {"of": user_id, **values})


def change(transaction: Transaction, user_id: str, **values: Any) -> User:
    """Writes columns of a user, and returns the user as it is then."""
    row = _CHANGE.first(transaction, {"of": user_id, **values})
    assert row is not None, "a user is never taken out of the table"
    return user_of(row)


def as_user(row: Row[Any]) -> User:
    return user_of(columns(row))


def user_of(known: Mapping[Any, Any]) -> User:
    return User(**{name: known[name] for name in User.__slots__})


def employment_of(user: User) -> Employment:
    """What HR has said so far of a user's employments."""
    status = cast("Status | None", user.employment)
    named = dict(user.employments or {})
    rescinded: Mapping[str, Order] = {}
    if _WHOLE in named:
        whole = _said_in(named.pop(_WHOLE))
        status, rescinded = whole.status, whole.rescinded
    elif user.employment_order is None:
        status = None
    elif status == "on_leave":
        status = "active"
    return Employment(
        whole=Said(
            status=status, order=user.employment_order, leave=user.leave, rescinded=rescinded
        ),
        named={name: _said_in(said) for name, said in named.items()},
    )


def _said_in(entry: Sequence[Any]) -> Said:
    """From ``[status, order, leave, rescinded]``, of which the last two may be missing."""
    status, order, leave, rescinded = [*entry, None, None][:4]
    return Said(status=status, order=order, leave=leave, rescinded=rescinded or {})


def _entry_of(said: Said, leave: list[Any] | None) -> list[Any]:
    if said.rescinded:
        return [said.status, said.order, leave, dict(said.rescinded)]
    return [said.status, said.order, *([leave] if leave is not None else [])]


def changes_by(
    user: User, event: WorkerEvent, order: Order, now: datetime
) -> tuple[dict[str, Any], bool]:
    """What an event writes into a user's row if it is carried out, and whether it came too late:
    then that is only what it was the first to name.
    """
    changes: dict[str, Any] = {"worker_id": event.worker_id}
    attributes = attributes_after(user.worker or {}, event, order)
    late = attributes is None
    if attributes is not None:
        changes["worker"] = attributes
    if event.kind != "attributes":
        employment = employment_of(user).after(event, order)
        late = employment is None
        if employment is not None:
            changes |= columns_of(employment)
    if not user.in_scim:
        changes["modified_at"] = now
    return changes, late


EMPLOYMENT: Final = ("employment", "employment_order", "leave", "employments")
"""The columns that ``employment_of`` reads, and ``columns_of`` writes."""


def columns_of(employment: Employment) -> dict[str, Any]:
    """What a user's row holds of it: all of ``EMPLOYMENT``."""
    whole = employment.whole
    named = {name: _entry_of(said, said.leave) for name, said in employment.named.items()}
    is_said = bool(named or whole.rescinded)
    return {
        "employment": employment.status,
        "employment_order": whole.order,
        "leave": whole.leave,  # a column of its own
        "employments": {_WHOLE: _entry_of(whole, None), **named} if is_said else None,
    }


_WHOLE: Final = ""
"""Stands among the ids for what was said of all employments; no id is empty."""
