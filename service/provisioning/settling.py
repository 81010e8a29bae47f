"""The end of a turn: the account is as wanted or as near as it gets, and everyone who waits is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from service.directory import accounts, inbox, leavers, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.inbox import Problem, Tries
from service.organizations import Organization
from service.people import State, User, withheld_of
from service.provisioning.desired import Desired, Resident
from service.provisioning.doubt import Doubt, recorded
from service.provisioning.observed import Observed
from service.provisioning.residents import residents_of

LOOK_AGAIN: Final = timedelta(minutes=5)
"""How long until an enterprise profile that has not appeared is looked for again."""


def settle(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    residents: Sequence[Resident],
    now: datetime,
    *,
    desired: Desired | None = None,
    waiting: bool = False,
    doubts: Sequence[Doubt] = (),
) -> None:
    """The account is as it should be, or as near as it gets: everyone who waits for it is told."""
    held = desired is not None and desired.delete_at is not None and not desired.delete
    accounts.store(
        transaction,
        account.id,
        now,
        observed=observed.as_document(),
        doubt=recorded(doubts),
        applied_revision=account.revision,
        attempts=0,
        error=observed.refused.get("") or next(iter(observed.refused.values()), None),
        leaver=False,
        due_at=_due_again(desired, observed, now, waiting=waiting),
    )
    failed = {
        resident.user.id: problem
        for resident in residents
        if (problem := _problem_of(resident.organization, observed)) is not None
    }
    result: Literal["applied", "waiting", "held"] = (
        "waiting" if waiting else "held" if held else "applied"
    )
    _finish(transaction, account, failed, result, now)
    for resident in residents:
        problem = failed.get(resident.user.id)
        if problem is None and resident.user.state == "failed":
            continue  # the door refused the user's own wish, such as an address that is in use
        _status(transaction, resident.user, problem, observed, now, waiting=waiting)


def close(transaction: Transaction, account: Account, observed: Observed, now: datetime) -> None:
    """Ends an account whose user is deleted: its residents have none until they come back."""
    residents = residents_of(transaction, account)
    settle(transaction, account, observed, residents, now)
    accounts.store(transaction, account.id, now, closed_at=now, due_at=None)
    for resident in residents:
        people.store(transaction, resident.user.id, account_id=None)


def _due_again(
    desired: Desired | None, observed: Observed, now: datetime, *, waiting: bool
) -> datetime | None:
    if "" in observed.refused:
        return None
    if waiting:
        return now + LOOK_AGAIN
    if desired is not None and observed.presence == "present":
        return desired.delete_at
    return None


def _finish(
    transaction: Transaction,
    account: Account,
    failed: dict[str, Problem],
    result: Literal["applied", "waiting", "held"],
    now: datetime,
) -> None:
    waiting = {
        row.event_id: row.user_id for row in accounts.waiting_events(transaction, account.id)
    }
    for event_id, user_id in waiting.items():
        if (problem := failed.get(user_id)) is not None:
            accounts.note_failure(transaction, event_id, problem.as_document())
    for each in accounts.stop_waiting(transaction, account.id, account.revision):
        tries = Tries(count=each.failures + 1, first_failed_at=each.failed_at)
        inbox.conclude(transaction, each.event_id, now=now, result=result, tries=tries)


def _problem_of(organization: Organization, observed: Observed) -> Problem | None:
    known = observed.refused.get("") or observed.refused.get(organization.auth0_name)
    if known is None:
        return None
    return Problem.from_document(known)


def _status(
    transaction: Transaction,
    user: User,
    problem: Problem | None,
    observed: Observed,
    now: datetime,
    *,
    waiting: bool,
) -> None:
    state: State = "failed" if problem else "waiting" if waiting else "applied"
    detail = problem.message if problem else None
    withheld = withheld_of(user)
    if problem is None and withheld.staged:
        state, detail = "staged", leavers.STAGED
    elif problem is None and withheld.refused:
        detail = leavers.REFUSED
    if problem is None and observed.blocked and not observed.blocked_by_us:
        detail = "Blocked in Auth0 by somebody else; that block is left alone."
    if waiting:
        detail = "Waiting for the first login: enterprise profiles cannot be created beforehand."
    values: dict[str, Any] = {"state": state, "detail": detail}
    if problem is None:
        values["last_applied_at"] = now
    people.store(transaction, user.id, **values)
