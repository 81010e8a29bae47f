"""An operator's word that somebody's invitation goes out once more: an event of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from service.directory import accounts, ledger, locks
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.ledger import Intent, Way
from service.directory.locks import Locked
from service.errors import Refused
from service.organizations import Organization
from service.people import User

RESEND: Final = "operator.resend"


def resend(transaction: Transaction, user_id: str, *, actor: str, now: datetime) -> Locked:
    """Has one more invitation sent, as policy says, to the address of the account.

    Raises NotFound; Refused for whoever is not wanted, is blocked in Auth0 (a password reset would
    lift the block), needs none, or has one on its way.
    """
    user, registered = locks.held(transaction, user_id)
    organization = registered.organization
    if not registered.wants(user):
        why = registered.causes(user)
        raise Refused(f"{user.id} is out ({', '.join(sorted(why))}): nobody who is out is invited.")
    way = _way(organization)
    account = _account_of(transaction, user)
    if (
        not organization.connection(account.connection, account.user_id).is_database
        and way != "invitation"
    ):
        raise Refused(f"Users in {account.connection} have no password in Auth0 to choose.")
    _require_use(account, way)
    if any(
        each.state in ("wanted", "intended")
        and each.user_id == user.id
        and each.intent.startswith(account.user_id)
        for each in ledger.of_account(transaction, account.id)
    ):
        raise Refused(f"One more invitation for {user.id} is on its way already.")
    decided = locks.decide(transaction, RESEND, user, registered, {}, actor, now, {"by": way})
    assert decided.event_id is not None
    wanted = Intent(
        account_id=account.id,
        organization=user.organization,
        user_id=user.id,
        kind=way,
        intent=f"{account.user_id} {decided.event_id}",
    )
    ledger.want(transaction, wanted, decided.event_id, now)
    return decided


def _way(organization: Organization) -> Way:
    invite = organization.policies.invite
    if invite == "none":
        raise Refused(f"{organization.name} invites nobody: its policies.invite is none.")
    return invite


def _account_of(transaction: Transaction, user: User) -> Account:
    account = accounts.hold(transaction, user.account_id) if user.account_id is not None else None
    if account is None or account.closed_at is not None:
        raise Refused(f"{user.id} has no account: {user.detail or 'there is no address'}.")
    return account


def _require_use(account: Account, way: Way) -> None:
    """By what was last seen of the account; lanes look again before they send."""
    seen = account.observed
    if seen.get("blocked"):
        raise Refused("The account is blocked in Auth0, and a reset would lift the block.")
    if seen.get("presence") != "present":
        return
    if way == "invitation":
        raise Refused("There is an account in Auth0 already: an invitation would make none.")
    if seen.get("origin") not in ("created", "invited"):
        raise Refused("The account was there before us: its owner has a password of their own.")
