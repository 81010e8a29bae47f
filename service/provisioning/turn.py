"""One account's turn, step by step: each step is one transaction that records the last result and
says what to do next. Knows the directory and the plan; makes no call itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from service.directory import accounts, inbox, leases, ledger, organizations, outbox, people, roles
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.inbox import Problem
from service.ids import account_key
from service.organizations import Organization
from service.people import State, User, is_wanted
from service.provisioning.desired import Desired, Resident, desire
from service.provisioning.effects import Done, Later, NotThereYet, Refused, Setting, Told
from service.provisioning.observed import Observed, unsure
from service.provisioning.operations import Operation, Subject
from service.provisioning.plan import plan

Doubt = Mapping[str, Any]
"""What is recorded before a call, and stays while its answer is lost: the operation's document.
``also``: further operations in doubt. ``late``: those of a former owner, not yet taken up."""

LOOK_AGAIN: Final = timedelta(minutes=5)
"""How long until an enterprise profile that has not appeared is looked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next call of an account's turn. It is recorded as about to happen."""

    account: Account
    operation: Operation
    desired: Desired
    observed: Observed
    doubted: frozenset[str]
    """Kinds of operations whose answers were lost; not empty where this step reads because of it."""
    organization: str
    """Display name of the customer, for mails."""

    def setting(self, live_accounts: frozenset[str] = frozenset()) -> Setting:
        return Setting(
            account_id=self.account.id,
            user_id=self.account.user_id,
            connection=self.account.connection,
            desired=self.desired,
            observed=self.observed,
            doubted=self.doubted,
            live_accounts=live_accounts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who works the tenant's lanes: every step proves that it still holds the lease."""

    tenant: str
    fence: int


def begin(transaction: Transaction, account_id: str, owner: Owner, now: datetime) -> Step | None:
    """Opens a turn: what was left in doubt is read first. None where there is nothing to do."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, account_id)
    if account is None or account.due_at is None or account.due_at > now:
        return None
    observed = Observed.from_document(account.observed)
    doubts: list[Doubt] = []
    if account.doubt is not None:
        doubts = _doubts(account.doubt)
        _flag_doubtful_mails(transaction, account, now)
    return _next(transaction, account, observed, doubts, now)


def advance(
    transaction: Transaction,
    step: Step,
    effect: Done | Refused | NotThereYet,
    owner: Owner,
    now: datetime,
) -> Step | None:
    """Records what a call has brought, with its outcomes, and plans again on today's wishes."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, step.account.id)
    assert account is not None
    # A former owner's call may have landed meanwhile: then what we know of the user is old by now.
    doubts = _late(account)
    moved = account.revision != step.account.revision
    match effect:
        case NotThereYet() if moved or doubts:
            return _next(transaction, account, step.observed, doubts, now)
        case NotThereYet():
            return _settle(
                transaction,
                account,
                step.observed,
                residents_of(transaction, account),
                now,
                waiting=True,
            )
        case Refused():
            if step.doubted:  # a read that was refused answers no doubt
                doubts = _doubts(account.doubt or {})
            return _next(transaction, account, _refused(step, effect), doubts, now)
        case Done():
            _tell(transaction, step, effect.told, now)
            if effect.user_id is not None and effect.user_id != account.user_id:
                accounts.store(transaction, account.id, now, user_id=effect.user_id)
                account = replace(account, user_id=effect.user_id)
            if step.operation.kind == "send-ticket":
                ledger.done(transaction, account.id, now)
            if effect.observed.presence == "absent" and step.observed.origin is not None:
                account = _gone(transaction, step, account, now)
            if account.closed_at is not None:
                return _close(transaction, account, effect.observed, now)
            return _next(transaction, account, effect.observed, doubts, now)


def _refused(step: Step, effect: Refused) -> Observed:
    """The picture with a refusal. It holds for the wish that was refused, not for a newer one."""
    kind, code, message, status = effect.problem
    problem = Problem(kind=kind, code=code, message=message, status=status).as_document()
    problem["revision"] = step.account.revision
    observed = step.observed
    if observed.presence == "conflicting":
        # Whoever comes next looks anew: the other user may be gone by then.
        observed = replace(observed, presence="unknown")
    return replace(observed, refused={**observed.refused, effect.scope: problem})


def _doubts(recorded: Doubt) -> list[Doubt]:
    """The operations in a record of doubt, one document each."""
    first = {name: value for name, value in recorded.items() if name not in ("also", "late")}
    return [*([first] if first else []), *recorded.get("also", ()), *recorded.get("late", ())]


def _late(account: Account) -> list[Doubt]:
    """Calls of a former owner that this turn has not taken up."""
    return list((account.doubt or {}).get("late", ()))


def _recorded(doubts: Sequence[Doubt]) -> Doubt | None:
    if not doubts:
        return None
    return {**doubts[0], **({"also": list(doubts[1:])} if len(doubts) > 1 else {})}


def postpone(
    transaction: Transaction,
    step: Step,
    effect: Later,
    owner: Owner,
    now: datetime,
    until: datetime,
) -> None:
    """Leaves the account due at ``until``; what is in doubt stays recorded."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, step.account.id)
    assert account is not None
    counted = 1 if effect.counted else 0
    moved = account.revision != step.account.revision
    accounts.store(
        transaction,
        account.id,
        now,
        # A newer wish has made the account due at once; it need not wait for the older one.
        due_at=min(until, account.due_at) if moved and account.due_at else until,
        attempts=account.attempts + counted,
        error={"class": "transient", "code": "retrying", "message": effect.reason},
        doubt=account.doubt if effect.doubt or step.doubted else _recorded(_late(account)),
    )
    for user in people.of_account(transaction, account.id):
        if user.state == "pending":
            people.store(transaction, user.id, detail=f"Retrying: {effect.reason}")


def abandon(transaction: Transaction, step: Step, owner: Owner, now: datetime) -> None:
    """Gives a step back that was recorded and not begun, as when the process stops."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, step.account.id)
    if account is not None and not step.doubted:
        accounts.store(transaction, account.id, now, doubt=_recorded(_late(account)))


def intend_mail(transaction: Transaction, step: Step, owner: Owner, now: datetime) -> bool:
    """Records that the step's mail is about to go out; False where one has, or may have."""
    leases.require(transaction, owner.tenant, owner.fence)
    return ledger.intend(
        transaction,
        account_id=step.account.id,
        organization=step.operation.subject.organization,
        user_id=step.operation.subject.user_id,
        kind="invitation",
        intent=step.account.user_id,
        now=now,
    )


def withdraw_mail(transaction: Transaction, step: Step, owner: Owner) -> None:
    """The step's mail has certainly not gone out: it may be tried again."""
    leases.require(transaction, owner.tenant, owner.fence)
    ledger.withdraw(transaction, step.account.id, step.account.user_id)


def doubt_late(transaction: Transaction, step: Step, now: datetime) -> None:
    """A result came after the lease was lost: whoever owns the account now must read it."""
    account = accounts.lock(transaction, step.account.id)
    if account is not None and account.closed_at is None:
        late = [*_late(account), step.operation.as_document()]
        doubt = {**(account.doubt or {}), "late": late}
        accounts.store(transaction, account.id, now, doubt=doubt, due_at=now)


def crashed(
    transaction: Transaction, account_id: str, owner: Owner, now: datetime, until: datetime
) -> int:
    """Notes that working on an account raised; returns how often in a row. Doubt stays recorded."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, account_id)
    assert account is not None
    attempts = account.attempts + 1
    error = {"class": "poison", "code": "internal_error", "message": "see the log"}
    accounts.store(transaction, account_id, now, due_at=until, attempts=attempts, error=error)
    return attempts


def give_up(transaction: Transaction, account_id: str, owner: Owner, now: datetime) -> None:
    """Takes an account that crashes its worker out of the lanes; what waits for it dead-letters."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, account_id)
    assert account is not None
    problem = Problem(
        kind="poison",
        code="internal_error",
        message="Working on this account failed again and again: see the log, then replay.",
    )
    try:
        observed = Observed.from_document(account.observed)
    except (TypeError, ValueError, AttributeError):
        observed = Observed(presence="unknown")  # the picture itself may be what crashed us
    refused = {"": problem.as_document() | {"revision": account.revision}}
    observed = replace(observed, refused=refused)
    doubts = _doubts(account.doubt or {})
    residents = residents_of(transaction, account)
    _settle(transaction, account, observed, residents, now, doubts=doubts)


def _next(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    doubts: Sequence[Doubt],
    now: datetime,
) -> Step | None:
    """Plans on today's wishes and records the first call; where there is none, the turn ends."""
    observed = replace(observed, refused=_current(observed, account.revision))
    if doubts:
        observed = unsure(observed, doubts)
        account = replace(account, doubt=_recorded(doubts))
    residents = residents_of(transaction, account)
    if not residents:
        accounts.store(
            transaction,
            account.id,
            now,
            due_at=None,
            observed=observed.as_document(),
            doubt=_recorded(doubts),
        )
        return None
    desired = desire(
        residents,
        identifier=account.identifier,
        connection_name=account.connection,
        now=now,
    )
    operations = plan(desired, observed)
    if not operations:
        return _settle(
            transaction, account, observed, residents, now, desired=desired, doubts=doubts
        )
    operation = operations[0]
    accounts.store(
        transaction,
        account.id,
        now,
        observed=observed.as_document(),
        # While doubt is being resolved, what is in doubt stays recorded; a read adds none.
        doubt=_recorded(doubts) or operation.as_document(),
    )
    display = {r.organization.auth0_name: r.organization.display_name for r in residents}
    named = getattr(operation, "organization", "")
    return Step(
        account=account,
        operation=operation,
        desired=desired,
        observed=observed,
        doubted=frozenset(str(doubt["kind"]) for doubt in doubts),
        organization=display.get(named) or named,
    )


def _current(observed: Observed, revision: int) -> dict[str, Mapping[str, Any]]:
    """Refusals of what is wanted now: a newer wish may go where the older one could not."""
    return {
        scope: problem
        for scope, problem in observed.refused.items()
        if problem.get("revision") == revision
    }


def _settle(
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
        doubt=_recorded(doubts),
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
        _status(
            transaction, resident.user, failed.get(resident.user.id), observed, now, waiting=waiting
        )


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
    for event_id in accounts.stop_waiting(transaction, account.id, account.revision):
        failure = accounts.failure_of(transaction, event_id)
        if failure is not None:
            problem = _problem(failure)
            inbox.finish(transaction, event_id, "deadlettered", now=now, problem=problem)
            continue
        inbox.finish(transaction, event_id, "succeeded", now=now, result=result)


def _problem_of(organization: Organization, observed: Observed) -> Problem | None:
    known = observed.refused.get("") or observed.refused.get(organization.auth0_name)
    if known is None:
        return None
    return _problem(known)


def _problem(document: Mapping[str, Any]) -> Problem:
    return Problem(
        kind=document["class"],
        code=document["code"],
        message=document["message"],
        status=document["httpStatus"],
    )


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
    if problem is None and observed.blocked and not observed.blocked_by_us:
        detail = "Blocked in Auth0 by somebody else; that block is left alone."
    if waiting:
        detail = "Waiting for the first login: enterprise profiles cannot be created beforehand."
    values: dict[str, Any] = {"state": state, "detail": detail}
    if problem is None:
        values["last_applied_at"] = now
    people.store(transaction, user.id, **values)


def _gone(transaction: Transaction, step: Step, account: Account, now: datetime) -> Account:
    """The user has gone from Auth0: as was wanted, or by somebody else's hand.

    Either way its key is never used again: the account is closed, or goes on under a fresh key
    where somebody is wanted in it (again).
    """
    residents = residents_of(transaction, account)
    deleted = "delete-user" in {step.operation.kind, *step.doubted}
    if deleted and not any(resident.wanted for resident in residents):
        return replace(account, closed_at=now)
    fresh = f"auth0|{account_key()}"
    accounts.store(transaction, account.id, now, user_id=fresh)
    return replace(account, user_id=fresh)


def _close(transaction: Transaction, account: Account, observed: Observed, now: datetime) -> None:
    """Ends an account whose user is deleted: its residents have none until they come back."""
    residents = residents_of(transaction, account)
    _settle(transaction, account, observed, residents, now)
    accounts.store(transaction, account.id, now, closed_at=now, due_at=None)
    for resident in residents:
        people.store(transaction, resident.user.id, account_id=None)


def _tell(transaction: Transaction, step: Step, told: Sequence[Told], now: datetime) -> None:
    for outcome in told:
        _emit(transaction, step.operation.subject, outcome, now)


def _emit(transaction: Transaction, subject: Subject, told: Told, now: datetime) -> None:
    """An effect, caused by the newest event of the user whose wish it fulfils."""
    user = people.get(transaction, subject.user_id)
    cause = user.last_event_id if user is not None else None
    event = inbox.get(transaction, cause) if cause is not None else None
    outbox.emit(
        transaction,
        told.outcome,
        now=now,
        organization=subject.organization,
        user_id=subject.user_id,
        event_id=cause,
        correlation_id=event.correlation_id if event is not None else None,
        traceparent=event.traceparent if event is not None else None,
        data=told.data,
    )


def _flag_doubtful_mails(transaction: Transaction, account: Account, now: datetime) -> None:
    """A mail that may or may not have gone out is not repeated: an operator is told."""
    for organization, user_id in ledger.doubt(transaction, account.id, now):
        told = Told(
            outcome="invitation.sent",
            data={"auth0UserId": account.user_id, "by": "ticket", "delivery": "doubtful"},
        )
        _emit(transaction, Subject(organization=organization, user_id=user_id), told, now)


def residents_of(transaction: Transaction, account: Account) -> list[Resident]:
    """Everyone who lives in an account, with what decides on their being in."""
    # A user who is made anew has a password that nobody knows, and needs a link of their own.
    invited = ledger.intended(transaction, account.id, account.user_id)
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
                roles=roles.of_user(transaction, user, organization) if wanted else frozenset(),
                invited=invited,
            )
        )
    return found
