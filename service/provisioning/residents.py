"""Who lives in an account, read from the directory for planning."""

from __future__ import annotations

from service.directory import ledger, organizations, people, roles
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.people import is_wanted
from service.provisioning.desired import Resident
from service.provisioning.inviting import Post


def residents_of(transaction: Transaction, account: Account) -> list[Resident]:
    """Everyone who lives in an account, with what decides on their being in."""
    post = Post(key=account.user_id, sent=ledger.of_account(transaction, account.id))
    found: list[Resident] = []
    for user in people.of_account(transaction, account.id):
        registered = organizations.find(transaction, user.organization)
        if registered is None:
            continue
        organization = registered.organization
        wanted = is_wanted(user, organization, decommissioned=registered.decommissioned)
        found.append(
            Resident(
                user=user,
                organization=organization,
                decommissioned=registered.decommissioned,
                deleting_at=registered.deleting_at,
                generation=registered.generation,
                roles=roles.of_user(transaction, user, organization) if wanted else frozenset(),
                post=post,
            )
        )
    return found
