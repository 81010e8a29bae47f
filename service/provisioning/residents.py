"""Who lives in an account, read from the directory for planning, and what they want of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from service.directory import ledger, moves, organizations, people, roles
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.provisioning.desired import Desired, Resident, desire
from service.provisioning.inviting import Post


def residents_of(transaction: Transaction, account: Account) -> list[Resident]:
    """Everyone who lives in an account, or did before they moved, with what decides on their being
    in."""
    post = Post(key=account.user_id, sent=ledger.of_account(transaction, account.id))
    around = moves.around(transaction, account.id)
    left = {each.user_id: each for each in around if each.account_id == account.id}
    former = (people.get(transaction, user_id) for user_id in sorted(left))
    everyone = [*people.of_account(transaction, account.id), *(u for u in former if u is not None)]
    found: list[Resident] = []
    for user in everyone:
        registered = organizations.find(transaction, user.organization)
        if registered is None:
            continue
        organization = registered.organization
        gone = left.get(user.id)
        left_at = gone.left_at if gone is not None else None
        wanted = left_at is None and registered.wants(user)
        found.append(
            Resident(
                user=user,
                organization=organization,
                decommissioned=registered.decommissioned,
                deleting_at=registered.deleting_at,
                generation=registered.generation,
                roles=roles.of_user(transaction, user, organization) if wanted else frozenset(),
                post=post,
                former=gone is not None,
                left_at=left_at,
                moving=any(
                    each.user_id == user.id and each.account_id != account.id and not each.left_at
                    for each in around
                ),
            )
        )
    return found


def joint_wish(residents: Sequence[Resident], account: Account, now: datetime) -> Desired:
    """What those who live in an account want of it."""
    return desire(
        residents,
        identifier=account.identifier,
        connection_name=account.connection,
        user_id=account.user_id,
        now=now,
    )
