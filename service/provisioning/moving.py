"""Who an organization's rules send to another connection moves there, in the turn of the account that
they live in; and is locked out of that one when the new one is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from service.directory import accounts, intent, moves, organizations, people, waits
from service.directory.accounts import Account
from service.directory.belonging import connection_of
from service.directory.database import Transaction
from service.directory.events import Problem
from service.provisioning import listing
from service.provisioning.desired import Desired, Resident
from service.provisioning.observed import Observed
from service.provisioning.residents import residents_of

_BLOCKED: Final = Problem(
    kind="conflict",
    code="blocked_by_another",
    message=(
        "The rules send this person to another connection, and somebody else has blocked the account"
        " in Auth0: a move would undo that. Lift the block there, then replay this event."
    ),
)
_LINKED: Final = Problem(
    kind="conflict",
    code="identity_linked",
    message=(
        "The rules send this person to another connection, and their identity is a part of another"
        " user in Auth0: to lock it would be to lock all of that user. Unlink it there, then replay"
        " this event."
    ),
)


def is_to_be_read(
    transaction: Transaction, account: Account, observed: Observed, residents: Sequence[Resident]
) -> bool:
    """Whether somebody is about to move out of an account that was last seen in an earlier turn: it
    may have been blocked since."""
    return (
        observed.presence == "present"
        and not observed.fresh
        and any(_is_sent_elsewhere(transaction, each, account) for each in residents)
    )


def follow_rules(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    residents: Sequence[Resident],
    now: datetime,
) -> Sequence[Resident]:
    """The residents once those have moved whom the rules send elsewhere. Who cannot is ``stuck``.

    Nobody moves out of an account that is to be read first, or whose user is looked for.
    """
    if observed.presence in ("unknown", "missing"):
        return residents
    moved = False
    found: list[Resident] = []
    for resident in residents:
        if not _is_sent_elsewhere(transaction, resident, account):
            found.append(resident)
            continue
        problem = _move(transaction, account, observed, resident, now)
        if problem is None:
            moved = True
        else:
            found.append(replace(resident, stuck=problem))
    if not moved:
        return found
    stuck = {each.user.id: each.stuck for each in found}
    return [
        replace(each, stuck=stuck.get(each.user.id)) for each in residents_of(transaction, account)
    ]


def _move(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    resident: Resident,
    now: datetime,
) -> Problem | None:
    if observed.presence == "present" and observed.linked:
        return _LINKED
    if observed.presence == "present" and observed.blocked and not observed.blocked_by_us:
        return _BLOCKED
    user = people.lock(transaction, resident.user.id)
    registered = organizations.find(transaction, resident.user.organization)
    assert user is not None, "users are never taken out of the table"
    assert registered is not None, "a resident's organization was just found"
    to = connection_of(transaction, user, resident.organization)
    problem = intent.move(transaction, user, registered, to, now)
    if problem is None and observed.presence == "absent" and observed.origin is None:
        # There is nothing here yet that the person could need.
        moves.leave(transaction, user.id, account.id, now)
    return problem


def with_address(
    transaction: Transaction, account: Account, residents: Sequence[Resident], now: datetime
) -> Account:
    """The account with today's address of who lives in it, where a move was to take that elsewhere
    and was called off."""
    for each in residents:
        behind = _follows(each) and each.user.identifier != account.identifier
        if not behind or _is_sent_elsewhere(transaction, each, account):
            continue
        address = intent.catch_up_address(transaction, each.user, each.organization, account, now)
        account = replace(account, identifier=address)
    return account


def arrive(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    desired: Desired | None,
    residents: Sequence[Resident],
    now: datetime,
) -> None:
    """Locks the former accounts of those who moved here, now that this one is as wanted; what waits
    for this one waits for that, too. Who has not arrived has what is wanted in the former ones.

    At an identity provider nobody needs a profile beforehand: whoever can log in there, has arrived.
    """
    for resident in residents:
        if not resident.moving or resident.former or not resident.wanted:
            continue
        if desired is None or not _has_arrived(resident, observed, desired):
            for former in moves.needed(transaction, resident.user.id):
                accounts.touch(transaction, former, leaver=False, now=now)
            continue
        waiting = accounts.waiting_events(transaction, account.id)
        events = [each.event_id for each in waiting if each.user_id == resident.user.id]
        waits.lock_out(transaction, resident.user.id, events, now)


def _has_arrived(resident: Resident, observed: Observed, desired: Desired) -> bool:
    organization = resident.organization
    theirs = {"", organization.auth0_name}
    if organization.app_metadata_organizations:
        theirs.add(listing.SCOPE)
    if resident.stuck or not theirs.isdisjoint(observed.refused):
        return False
    return observed.presence == "present" or not desired.connection.is_database


def _is_sent_elsewhere(transaction: Transaction, resident: Resident, account: Account) -> bool:
    if not _follows(resident):
        return False
    chosen = connection_of(transaction, resident.user, resident.organization)
    return chosen.name != account.connection


def _follows(resident: Resident) -> bool:
    follows = resident.organization.policies.moves == "follow"
    return follows and not resident.former and resident.wanted and bool(resident.user.identifier)
