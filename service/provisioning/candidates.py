"""Which users that were found in Auth0 are somebody else's of ours: by our mark, or by a stable id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.directory import accounts, appearances
from service.directory.database import Transaction
from service.provisioning.attention import places_of
from service.provisioning.hearing import of_user
from service.provisioning.observed import marker
from service.provisioning.operations import FindByEmail, ReadAppeared
from service.provisioning.turn import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """``live``: accounts that we answer for, among those that users are marked as. ``of_others``:
    users, by Auth0's id, whom the directories know as somebody else than the account at work."""

    live: frozenset[str] = frozenset()
    of_others: frozenset[str] = frozenset()


def candidates(step: Step, found: object) -> Sequence[Mapping[str, Any]]:
    """The users in an answer, where one of them may become the account's."""
    if not isinstance(step.operation, FindByEmail | ReadAppeared):
        return ()
    every: Sequence[object] = found if isinstance(found, list) else [found]
    return [user for user in every if isinstance(user, dict)]


def claims(transaction: Transaction, step: Step, users: Sequence[Mapping[str, Any]]) -> Claims:
    """Who has them already."""
    account = step.account
    marks = {mark for user in users if (mark := marker(user)) is not None}
    theirs = places_of(transaction, account.tenant).get(account.connection, ())
    of_others: set[str] = set()
    for user in users:
        known = of_user("user.created", user, None)
        for identity in known.identities if known is not None and theirs else ():
            if known is None or identity.connection != account.connection:
                continue
            where = (transaction, account.tenant, account.connection)
            owner = appearances.by_stable_ids(*where, theirs, identity.stable_ids)
            if owner not in (None, account.id):
                of_others.add(known.user_id)
    live = accounts.live(transaction, marks) if marks else frozenset[str]()
    return Claims(live=live, of_others=frozenset(of_others))
