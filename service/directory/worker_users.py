"""Which user a worker is: the one that their id names, or whom SCIM pushed under the join key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from service.directory import (
    people,
)
from service.directory import tables as t
from service.directory.batches import Person
from service.directory.database import Transaction
from service.directory.many import LookUp
from service.directory.people import joined_by
from service.organizations import JoinKey, Organization
from service.people import User, worker_key


def find(transaction: Transaction, organization: Organization, worker_id: str) -> User | None:
    person = (organization.name, worker_id)
    return find_many(transaction, {person: organization}).get(person)


def find_many(
    transaction: Transaction, persons: Mapping[Person, Organization]
) -> dict[Person, User]:
    """The workers' users, held; else the SCIM users whom the join key names, live before deleted."""
    matches: dict[str, set[Person]] = {}
    named = sorted(persons)
    for at, row in _BY_WORKER_ID.all(transaction, named):
        matches.setdefault(row["id"], set()).add(named[at])
    for column, by_key in _BY_JOIN_KEY.items():
        joined = [person for person in named if joined_by(persons[person].join).name == column]
        keys = [(name, worker_key(key, persons[name, key].join)) for name, key in joined]
        for at, row in by_key.all(transaction, keys):
            matches.setdefault(row["id"], set()).add(joined[at])
    users: dict[Person, User] = {}
    for user in people.lock_many(transaction, matches):
        theirs = [each for each in matches[user.id] if _is_of(user, each, persons[each].join)]
        if len(theirs) == 1:  # of two whose keys are alike the first takes it, in its turn
            users[theirs[0]] = max(users.get(theirs[0], user), user, key=_nearness)
    return users


_BY_WORKER_ID: Final = LookUp(t.users, ("organization", "worker_id"), ("id",))


_BY_JOIN_KEY: Final = {
    name: LookUp(t.users, ("organization", name), ("id",), where="worker_id IS NULL")
    for name in ("external_id", "join_key")
}


def _is_of(user: User, person: Person, join: JoinKey) -> bool:
    """Whether this is still so: somebody may have changed the user while we waited for it."""
    if user.worker_id is not None:
        return user.worker_id == person[1]
    return getattr(user, joined_by(join).name) == worker_key(person[1], join)


def _nearness(user: User) -> tuple[bool, bool, bool, str]:
    """How sure it is that this is the worker; of two who are as near, the one who came later."""
    return (
        user.worker_id is not None,
        user.deleted_at is None,
        user.account_id is not None,
        user.id,
    )
