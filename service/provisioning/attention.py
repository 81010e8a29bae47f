"""Which accounts what was heard from Auth0 is about, and marking them to be looked at. Each mark is a
transaction; whatever is marked is read before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.directory import accounts, appearances, leases, organizations
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.provisioning.desired import Resident
from service.provisioning.hearing import CHANGED, Heard, Identity, follow_up
from service.provisioning.observed import Observed
from service.provisioning.residents import residents_of
from service.provisioning.turn import Owner

Places = Mapping[str, Sequence[str]]
"""The connections in which profiles appear by themselves, with the organizations that use each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An account that something heard may be about."""

    account_id: str
    news: Heard


def places_of(transaction: Transaction, tenant: str) -> Places:
    """Of a tenant, those of organizations that have ended too: nobody of theirs may come in."""
    found: dict[str, list[str]] = {}
    for each in organizations.of_tenant(transaction, tenant):
        organization = each.organization
        if organization.has_enterprise or organization.policies.invite == "invitation":
            for connection in organization.connections:
                found.setdefault(connection.name, []).append(organization.name)
    return found


def look_up(
    transaction: Transaction, tenant: str, news: Sequence[Heard], places: Places
) -> list[Mark]:
    """The accounts that are to be looked at; whether they still are is asked again by ``mark``."""
    found: list[Mark] = []
    for each in news:
        ids = {each.user_id, *(identity.user_id for identity in each.identities)}
        ours = appearances.by_user_ids(transaction, tenant, ids)
        if not ours:
            ours = _awaited(transaction, tenant, each, places)
        for account_id in ours:
            account = accounts.get(transaction, account_id)
            if account is not None and _changes(transaction, account, each):
                found.append(Mark(account_id=account_id, news=each))
    return found


def _awaited(transaction: Transaction, tenant: str, news: Heard, places: Places) -> list[str]:
    """Whose profile this may be: known by a stable id in its connection, else by address."""
    if news.kind not in ("user.created", "user.updated"):
        return []
    found: list[str] = []
    for identity in news.identities:
        if identity.connection in places:
            one = _awaited_in(transaction, tenant, news, identity, places[identity.connection])
            found += [one] if one is not None else []
    return found


def _awaited_in(
    transaction: Transaction,
    tenant: str,
    news: Heard,
    identity: Identity,
    theirs: Sequence[str],
) -> str | None:
    where = (transaction, tenant, identity.connection)
    known = appearances.by_stable_ids(*where, theirs, identity.stable_ids)
    if known is None and news.email is not None:
        known = appearances.by_address(*where, news.email)
    return known


def mark(transaction: Transaction, wanted: Mark, owner: Owner, now: datetime) -> bool:
    """Makes the account due, before those who join where somebody in it is out; whether it did."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, wanted.account_id)
    if account is None or account.closed_at is not None:
        return False
    changes = _changes(transaction, account, wanted.news)
    if not changes:
        return False
    residents = residents_of(transaction, account)
    due_at = min(account.due_at, now) if account.due_at is not None else now
    leaver = account.leaver and account.due_at is not None
    accounts.store(
        transaction,
        account.id,
        now,
        due_at=due_at,
        leaver=leaver or not any(resident.wanted for resident in residents),
        **changes,
    )
    return True


def _changes(transaction: Transaction, account: Account, news: Heard) -> dict[str, Any]:
    """What is to be written into the account's row; nothing where it is not concerned."""
    observed = Observed.from_document(account.observed)
    appeared: dict[str, Any] = {}
    if account.user_id != news.user_id:
        if news.kind in ("user.created", "user.updated") and account.appeared != news.user_id:
            appeared = {"appeared": news.user_id}
        # Whether our identity is a part of another user by now.
        linked = account.user_id in {identity.user_id for identity in news.identities}
        new = ({"kind": CHANGED},) if linked and observed.presence == "present" else ()
    else:
        left = (
            _left(residents_of(transaction, account))
            if news.kind.startswith("organization.")
            else set()
        )
        new = follow_up(news, observed, account.doubt, left)
    late = list((account.doubt or {}).get("late", ()))
    new = [one for one in new if one not in late]
    if not new:
        return appeared
    return {**appeared, "doubt": {**(account.doubt or {}), "late": [*late, *new]}}


def _left(residents: Sequence[Resident]) -> set[str]:
    return {each.organization.auth0_name for each in residents if not each.wanted}
