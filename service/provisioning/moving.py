"""Who an organization's rules send to another connection moves there, in the turn of the account that
they live in; and is locked out of that one when the new one is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from service.directory import accounts, intent, organizations, people
from service.directory.accounts import Account
from service.directory.belonging import connection_of
from service.directory.database import Transaction
from service.provisioning.desired import Desired, Resident
from service.provisioning.observed import Observed
from service.provisioning.residents import residents_of


def follow_rules(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    residents: Sequence[Resident],
    now: datetime,
) -> Sequence[Resident]:
    """The residents once those have moved whom the rules send elsewhere. Who cannot is ``stuck``."""
    moved = False
    found: list[Resident] = []
    for resident in residents:
        if not _may_move(resident) or _fits(transaction, resident, account):
            found.append(resident)
            continue
        user = people.lock(transaction, resident.user.id)
        registered = organizations.find(transaction, resident.user.organization)
        if user is None or registered is None or user.account_id != account.id:
            found.append(resident)
            continue
        to = connection_of(transaction, user, resident.organization)
        problem = intent.move(transaction, user, registered, to, now)
        if problem is None:
            moved = True
            if observed.presence == "absent" and observed.origin is None:
                # There is nothing yet that the person could need.
                intent.lock_out(transaction, user.id, (), now)
        else:
            found.append(replace(resident, stuck=problem))
    if not moved:
        return found
    stuck = {each.user.id: each.stuck for each in found}
    return [
        replace(each, stuck=stuck.get(each.user.id)) for each in residents_of(transaction, account)
    ]


def arrive(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    desired: Desired | None,
    residents: Sequence[Resident],
    now: datetime,
) -> None:
    """Locks the former accounts of those who moved here, now that this one is as wanted; what waits
    for this one waits for that, too.

    At an identity provider nobody needs a profile beforehand: whoever can log in there, has arrived.
    """
    if desired is None or not desired.wanted or observed.refused:
        return
    if observed.presence != "present" and desired.connection.is_database:
        return
    for resident in residents:
        if not resident.moving or resident.former or not resident.wanted or resident.stuck:
            continue
        waiting = accounts.waiting_events(transaction, account.id)
        events = [each.event_id for each in waiting if each.user_id == resident.user.id]
        intent.lock_out(transaction, resident.user.id, events, now)


def _may_move(resident: Resident) -> bool:
    follows = resident.organization.policies.moves == "follow"
    return follows and not resident.former and resident.wanted and bool(resident.user.identifier)


def _fits(transaction: Transaction, resident: Resident, account: Account) -> bool:
    chosen = connection_of(transaction, resident.user, resident.organization)
    return chosen.name == account.connection
