"""The end of a turn: the account is as wanted or as near as it gets, and everyone who waits is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from service.directory import accounts, appearances, ending, inbox, leavers, ledger, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.events import Problem, Tries
from service.directory.inbox import Received
from service.people import State, User, withheld_of
from service.provisioning import granting, listing
from service.provisioning.desired import Desired, Resident
from service.provisioning.doubt import Doubt, recorded
from service.provisioning.moving import arrive
from service.provisioning.observed import BLOCK, DELETION, SESSIONS, Observed
from service.provisioning.residents import residents_of

Result = Literal["applied", "waiting", "held"]
_ADDRESS_KEPT: Final = (
    "The address in Auth0 is another one and stays: others use the account, too, and no organization"
    " changes its profile."
)
KEPT: Final = "account.deletion"
_SOURCE: Final = "/provisioner"
"""Of the events of our own by which operators see what nobody waits for any more."""
_FIRST_LOOK: Final = timedelta(minutes=1)
_LAST_LOOKS: Final = timedelta(minutes=15)
"""How often a former user is looked at whom an open link might let back in: soon after they left,
then each quarter of the time that has passed, at last so often."""


def settle(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    residents: Sequence[Resident],
    now: datetime,
    *,
    desired: Desired | None = None,
    waiting: bool = False,
    awaited: bool = False,
    doubts: Sequence[Doubt] = (),
) -> None:
    """The account is as it should be, or as near as it gets: everyone who waits for it is told.

    ``awaited``: the profile has not appeared and is looked for again. ``waiting``: somebody who is in
    waits for it.
    """
    if desired is not None and desired.wanted and observed.presence == "absent":
        waiting = waiting or "" not in observed.refused
        is_open = any(each.open_until > now for each in desired.invitations)
        # Into a database nobody comes by themselves.
        awaited = waiting and (is_open or not desired.connection.is_database)
    full = _full(observed)
    settled = _settled(desired, observed, full)
    held = desired is not None and desired.delete_at is not None and not desired.delete
    accounts.store(
        transaction,
        account.id,
        now,
        observed=settled.as_document(),
        doubt=recorded(doubts),
        applied_revision=account.applied_revision if full else account.revision,
        attempts=account.attempts + 1 if full else 0,
        error=_worst({**settled.refused, **full}),
        leaver=False,
        due_at=_earliest(
            _due_again(desired, settled, now),
            _room_again(full, now),
            now + _FIRST_LOOK if _is_left_to_others(desired, observed) else None,
        ),
        look_at=appearances.next_look(account.looked + 1, now) if awaited else None,
        looked=account.looked + 1 if awaited else 0,
        appeared=None,
    )
    arrive(
        transaction, account, replace(settled, refused=observed.refused), desired, residents, now
    )
    result: Result = "waiting" if waiting else "held" if held else "applied"
    if (kept := observed.refused.get(DELETION)) is not None and not kept.get("told"):
        _tell_of_kept(transaction, account, Problem.from_document(kept), residents, now)
    _tell(transaction, account, settled, residents, full, result, desired, now)


def _tell_of_kept(
    transaction: Transaction,
    account: Account,
    problem: Problem,
    residents: Sequence[Resident],
    now: datetime,
) -> None:
    """Who was to be deleted and is not: where the event that asked for it has ended long ago, one of
    our own says so, and can be replayed."""
    waiting = {row.user_id for row in accounts.waiting_events(transaction, account.id)}
    for resident in residents:
        user = resident.user
        if user.id in waiting:
            continue
        received = Received(
            door="operator", source=_SOURCE, type=KEPT, at=now, causation_id=user.last_event_id
        )
        admitted = inbox.admit(transaction, received, user.organization, user_id=user.id)
        ending.finish(transaction, admitted.event_id, "deadlettered", now=now, problem=problem)


def _settled(
    desired: Desired | None, observed: Observed, full: Mapping[str, Mapping[str, Any]]
) -> Observed:
    """The picture as it is kept: without what is tried again by itself."""
    observed = granting.settled(observed, desired) if desired is not None else observed
    refused = {scope: each for scope, each in observed.refused.items() if scope not in full}
    if DELETION in refused:
        refused[DELETION] = {**refused[DELETION], "told": True}
    return replace(
        observed,
        lifted=False,
        newborn=observed.newborn and bool(full),
        entries=listing.settled(observed, desired).entries if desired else observed.entries,
        foreign_stay=observed.foreign_stay or _is_left_to_others(desired, observed),
        refused=refused,
    )


def _tell(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    residents: Sequence[Resident],
    full: Mapping[str, Mapping[str, Any]],
    result: Result,
    desired: Desired | None,
    now: datetime,
) -> None:
    """Ends the events that waited for the account, and says of each resident how far they are. Those
    of ``full`` Organizations go on waiting.
    """
    failed = {
        resident.user.id: problem
        for resident in residents
        if (problem := resident.stuck or _problem_of(resident, observed)) is not None
    }
    waits = {each.user.id for each in residents if each.organization.auth0_name in full}
    # Of those who moved on, their new account says how far they are.
    elsewhere = {each.user.id for each in residents if each.former and each.user.state == "waiting"}
    _finish(transaction, account, failed, result, now, but=waits, elsewhere=elsewhere)
    awaited = _awaited(desired, now) if result == "waiting" and desired is not None else None
    for resident in residents:
        problem = failed.get(resident.user.id)
        if resident.user.id in waits:
            message = full[resident.organization.auth0_name]["message"]
            people.store(transaction, resident.user.id, state="pending", detail=message)
        elif problem is None and resident.former:
            continue  # the account that they live in by now says how far they are
        elif problem is None and resident.user.state == "failed":
            continue  # the door refused the user's own wish, such as an address that is in use
        else:
            shared = desired is not None and desired.model == "shared"
            kept = shared and resident.user.identifier not in (None, account.identifier)
            _status(transaction, resident.user, problem, observed, now, awaited=awaited, kept=kept)


def _full(observed: Observed) -> dict[str, Mapping[str, Any]]:
    """Refusals that are to be tried again by themselves, by Organization; none where the account as a
    whole is refused."""
    if "" in observed.refused:
        return {}
    return {
        scope: problem
        for scope, problem in observed.refused.items()
        if problem["class"] == "transient"
    }


def _worst(refused: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return refused.get("") or next(iter(refused.values()), None)


def _room_again(full: Mapping[str, Mapping[str, Any]], now: datetime) -> datetime | None:
    """When to ask again whether there is room."""
    waits = [float(problem.get("retryAfter") or 0.0) for problem in full.values()]
    return now + timedelta(seconds=min(waits)) if waits else None


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((each for each in moments if each is not None), default=None)


def close(transaction: Transaction, account: Account, observed: Observed, now: datetime) -> None:
    """Ends an account whose user is deleted: its residents have none until they come back."""
    residents = residents_of(transaction, account)
    settle(transaction, account, observed, residents, now)
    accounts.store(transaction, account.id, now, closed_at=now, due_at=None)
    for resident in residents:
        if not resident.former:
            people.store(transaction, resident.user.id, account_id=None)


def never_was(desired: Desired, observed: Observed) -> bool:
    """Whether an account that is to be deleted has no user in Auth0, and nobody may still become it."""
    is_sure = observed.presence == "absent" and "" not in observed.refused
    return desired.delete and is_sure and desired.watch_until is None


def _due_again(desired: Desired | None, observed: Observed, now: datetime) -> datetime | None:
    if "" in observed.refused or desired is None:
        return None
    is_there = observed.presence == "present" and not observed.linked
    deletes = (is_there and DELETION not in observed.refused) or (
        observed.presence == "absent" and not desired.delete
    )
    moments = [desired.delete_at] if deletes else []
    # A link lifts a block, or makes an account; whoever is neither blocked nor missing was left in.
    if desired.watch_until is not None and (observed.blocked or observed.presence == "absent"):
        moments.append(_next_look(desired, desired.watch_until, now))
    return _earliest(*moments)


def _is_left_to_others(desired: Desired | None, observed: Observed) -> bool:
    """Whether nobody of ours has the person, and others alone keep the account from a block, as was
    just seen: what they have taken away shows seconds later. Once more, then they are believed.
    """
    nobody = desired is not None and not desired.wanted
    seen = observed.presence == "present" and not observed.foreign_stay
    return nobody and seen and bool(observed.foreign)


def _next_look(desired: Desired, until: datetime, now: datetime) -> datetime:
    """When to see again whether a former user is still out, the last time when nothing is open."""
    since = now - desired.changed_at if desired.changed_at is not None else _LAST_LOOKS
    after = min(max(since / 4, _FIRST_LOOK), _LAST_LOOKS)
    return min(now + after, until + timedelta(seconds=1))


def give_up_resends(
    transaction: Transaction,
    account: Account,
    desired: Desired,
    observed: Observed,
    residents: Sequence[Resident],
) -> None:
    """What an operator wanted sent and cannot be, with nothing else left to do: it is said why."""
    if observed.refused:
        return
    asked = desired.invite.asked if desired.invite is not None else None
    staying = {resident.user.id for resident in residents if resident.wanted}
    for each in residents[0].post.sent:
        if each.state != "wanted" or each.event_id is None or each.user_id not in staying:
            continue
        if each.event_id != asked:
            why = "Policy invites in another way by now, or the account was made anew: ask again."
        elif observed.blocked:
            why = "The account is blocked in Auth0, and a reset would lift the block."
        else:
            why = (
                "The account is one that needs no such mail: it was there before us, or is in use."
            )
        problem = Problem(kind="operator", code="not_resent", message=why)
        accounts.note_failure(transaction, each.event_id, problem.as_document())
        ledger.forget_wanted(transaction, account.id, each.user_id)


def _finish(
    transaction: Transaction,
    account: Account,
    failed: dict[str, Problem],
    result: Result,
    now: datetime,
    *,
    but: Collection[str],
    elsewhere: Collection[str],
) -> None:
    """``but``: users whose events go on waiting. ``elsewhere``: those who wait in another account."""
    waiting = {
        row.event_id: row.user_id for row in accounts.waiting_events(transaction, account.id)
    }
    for event_id, user_id in waiting.items():
        if (problem := failed.get(user_id)) is not None:
            accounts.note_failure(transaction, event_id, problem.as_document())
    for each in accounts.stop_waiting(transaction, account.id, account.revision, but=but):
        tries = Tries(count=each.failures + 1, first_failed_at=each.failed_at)
        came = "waiting" if waiting.get(each.event_id) in elsewhere else result
        ending.conclude(transaction, each.event_id, now=now, result=came, tries=tries)
    if but:
        accounts.note_failed_try(transaction, account.id, now)


def _problem_of(resident: Resident, observed: Observed) -> Problem | None:
    """Who is in hears nothing of what was refused of somebody else's leaving."""
    refused, organization = observed.refused, resident.organization
    leaving = () if resident.wanted else (BLOCK, SESSIONS, DELETION)
    scopes = ("", *leaving, organization.auth0_name)
    known = next((refused[scope] for scope in scopes if scope in refused), None)
    if known is None:
        return listing.problem_of(organization, observed)
    return Problem.from_document(known)


def _status(
    transaction: Transaction,
    user: User,
    problem: Problem | None,
    observed: Observed,
    now: datetime,
    *,
    awaited: str | None,
    kept: bool,
) -> None:
    """``awaited``: what a user waits for who is not in Auth0 yet. ``kept``: whether the account keeps
    another address than the organization's."""
    state: State = "failed" if problem else "waiting" if awaited else "applied"
    detail = problem.message if problem else None
    withheld = withheld_of(user)
    if problem is None and kept:
        detail = _ADDRESS_KEPT
    if problem is None and withheld.staged:
        state, detail = "staged", leavers.STAGED
    elif problem is None and withheld.refused:
        detail = leavers.REFUSED
    if problem is None and observed.blocked and not observed.blocked_by_us:
        detail = "Blocked in Auth0 by somebody else; that block is left alone."
    if awaited is not None:
        detail = awaited
    values: dict[str, Any] = {"state": state, "detail": detail}
    if problem is None:
        values["last_applied_at"] = now
    people.store(transaction, user.id, **values)


def _awaited(desired: Desired, now: datetime) -> str:
    """What somebody waits for who is in and has no account."""
    last = max(desired.invitations, key=lambda each: each.at, default=None)
    if last is not None and last.open_until > now:
        until = last.open_until.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        sure = (
            "" if last.state == "done" else " It may not have gone out: 'provisioner user resend'."
        )
        return f"Invited: the invitation can be accepted until {until}.{sure}"
    if desired.by_invitation and desired.invited_to:
        return "The invitation has expired: 'provisioner user resend' sends a new one."
    if not desired.connection.is_database:
        return "Waiting for the first login: enterprise profiles cannot be created beforehand."
    return "Waiting to be invited."
