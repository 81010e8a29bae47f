"""One account's turn, step by step: each step is one transaction that records the last result and
says what to do next. Knows the directory and the plan; makes no call itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from service.directory import accounts, imports, leases, ledger, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.events import Problem
from service.directory.ledger import Intent
from service.ids import account_key
from service.provisioning import deleting, granting
from service.provisioning.desired import Desired, Resident
from service.provisioning.doubt import Doubt, doubts_in, late_calls, recorded
from service.provisioning.effects import Done, Later, NotThereYet, Refused, Setting
from service.provisioning.moving import follow_rules, is_to_be_read, with_address
from service.provisioning.observed import BLOCK, SESSIONS, Observed, anew, of_generations, unsure
from service.provisioning.operations import Operation, ReadAppeared, Sending
from service.provisioning.plan import plan
from service.provisioning.residents import joint_wish, residents_of
from service.provisioning.settling import close, give_up_resends, never_was, settle
from service.provisioning.telling import flag_doubtful_mails, tell, tell_expired


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
    at: datetime
    """When it was planned."""

    def intent(self) -> Intent:
        """The mail that this step sends, as it is recorded before it goes out."""
        operation = self.operation
        assert isinstance(operation, Sending)
        return Intent(
            account_id=self.account.id,
            organization=operation.subject.organization,
            user_id=operation.subject.user_id,
            kind=operation.by,
            intent=operation.intent,
            address=operation.email,
            auth0_organization=operation.organization,
            expires_at=self.at + operation.lifetime,
        )

    def setting(
        self,
        live_accounts: frozenset[str] = frozenset(),
        *,
        of_others: frozenset[str] = frozenset(),
    ) -> Setting:
        return Setting(
            account_id=self.account.id,
            user_id=self.account.user_id,
            connection=self.account.connection,
            desired=self.desired,
            observed=self.observed,
            doubted=self.doubted,
            live_accounts=live_accounts,
            of_others=of_others,
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
    if account.import_id is not None:
        account = imports.released(transaction, account, now)
        if account is None:
            return None
    observed = Observed.from_document(account.observed)
    if account.appeared is not None:  # what was refused before is no word on them
        of_them = ("", BLOCK, SESSIONS)
        kept = {scope: it for scope, it in observed.refused.items() if scope not in of_them}
        observed = replace(observed, refused=kept)
    being_made = account.applied_revision == 0
    observed = anew(observed, fresh=observed.fresh and being_made)
    observed = replace(observed, taken=granting.still_taken(observed, now))
    doubts: list[Doubt] = []
    if account.doubt is not None:
        doubts = doubts_in(account.doubt)
        flag_doubtful_mails(transaction, account, now)
    # Nothing new is wanted: it is due for being looked at.
    looking = account.applied_revision == account.revision and not doubts
    return _next(transaction, account, observed, doubts, now, looking=looking)


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
    doubts = late_calls(account)
    moved = account.revision != step.account.revision
    match effect:
        case NotThereYet() if moved or doubts or _is_news(account, step):
            return _next(transaction, account, step.observed, doubts, now)
        case NotThereYet():
            return settle(
                transaction,
                account,
                step.observed,
                residents_of(transaction, account),
                now,
                desired=step.desired,
                waiting=step.desired.wanted,
                awaited=True,
            )
        case Refused():
            if step.doubted:  # a read that was refused answers no doubt
                doubts = doubts_in(account.doubt or {})
            account = _heard_of(transaction, account, step, now)
            return _next(transaction, account, _refused(step, effect), doubts, now)
        case Done():
            tell(transaction, step.operation.subject, step.account, effect.told, now)
            account = _heard_of(transaction, account, step, now)
            if effect.user_id is not None and effect.user_id != account.user_id:
                accounts.store(transaction, account.id, now, user_id=effect.user_id)
                account = replace(account, user_id=effect.user_id)
            _record_mails(transaction, step, effect, now)
            if effect.observed.presence == "absent" and step.observed.origin is not None:
                account = _gone(transaction, step, account, now)
            if account.closed_at is not None:
                return close(transaction, account, effect.observed, now)
            observed = granting.with_taken(step.observed, effect.observed, step.operation, now)
            return _next(transaction, account, observed, doubts, now)


def _record_mails(transaction: Transaction, step: Step, effect: Done, now: datetime) -> None:
    if isinstance(step.operation, Sending):
        ledger.done(transaction, step.account.id, now, reference=effect.reference)
    ledger.refer(transaction, effect.found)
    ledger.end(transaction, effect.ended, now)


def _is_news(account: Account, step: Step) -> bool:
    """Whether somebody has appeared whom this step has not read."""
    read = step.operation.user_id if isinstance(step.operation, ReadAppeared) else None
    return account.appeared not in (None, read)


def _heard_of(transaction: Transaction, account: Account, step: Step, now: datetime) -> Account:
    """Without whoever had appeared, where nobody else has since this step was planned."""
    # Whoever has not taken up the one who is missing may still be the one who is awaited instead.
    missing = step.observed.presence == "missing"
    if account.appeared is None or missing or _is_news(account, step):
        return account
    accounts.store(transaction, account.id, now, appeared=None)
    return replace(account, appeared=None)


def _refused(step: Step, effect: Refused) -> Observed:
    """The picture with a refusal. It holds for the wish that was refused, not for a newer one."""
    kind, code, message, status = effect.problem
    problem = Problem(
        kind=kind,
        code=code,
        message=message,
        status=status,
        retry_after=effect.retry_after,
        request_id=effect.request_id,
    ).as_document()
    problem["revision"] = step.account.revision
    observed = step.observed
    if observed.presence == "conflicting":
        # Whoever comes next looks anew: the other user may be gone by then.
        observed = replace(observed, presence="unknown")
    if effect.scope == BLOCK:  # whoever stays unblocked has their sessions ended all the same
        observed = replace(observed, sessions="owed")
    return replace(observed, refused={**observed.refused, effect.scope: problem})


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
        doubt=account.doubt if effect.doubt or step.doubted else recorded(late_calls(account)),
    )
    if effect.counted:
        accounts.note_failed_try(transaction, account.id, now)
    for user in people.of_account(transaction, account.id):
        if user.state == "pending":
            people.store(transaction, user.id, detail=f"Retrying: {effect.reason}")


def abandon(transaction: Transaction, step: Step, owner: Owner, now: datetime) -> None:
    """Gives a step back that was recorded and not begun, as when the process stops."""
    leases.require(transaction, owner.tenant, owner.fence)
    account = accounts.lock(transaction, step.account.id)
    if account is not None and not step.doubted:
        accounts.store(transaction, account.id, now, doubt=recorded(late_calls(account)))


def intend_mail(transaction: Transaction, step: Step, owner: Owner, now: datetime) -> bool:
    """Records that the step's mail is about to go out; False where one has, or may have."""
    leases.require(transaction, owner.tenant, owner.fence)
    return ledger.intend(transaction, step.intent(), now)


def withdraw_mail(transaction: Transaction, step: Step, owner: Owner) -> None:
    """The step's mail has certainly not gone out: it may be tried again."""
    leases.require(transaction, owner.tenant, owner.fence)
    ledger.withdraw(transaction, step.account.id, step.intent().intent)


def doubt_late(transaction: Transaction, step: Step, now: datetime) -> None:
    """A result came after the lease was lost: whoever owns the account now must read it."""
    account = accounts.lock(transaction, step.account.id)
    if account is not None and account.closed_at is None:
        late = [*late_calls(account), step.operation.as_document()]
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
    accounts.note_failed_try(transaction, account_id, now)
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
    doubts = doubts_in(account.doubt or {})
    residents = residents_of(transaction, account)
    settle(transaction, account, observed, residents, now, doubts=doubts)


def _next(
    transaction: Transaction,
    account: Account,
    observed: Observed,
    doubts: Sequence[Doubt],
    now: datetime,
    *,
    looking: bool = False,
) -> Step | None:
    """Plans on today's wishes and records the first call; where there is none, the turn ends.

    ``looking``: what is there is read before anything is decided.
    """
    observed = replace(observed, refused=_current(observed, account.revision))
    if doubts:
        observed = unsure(observed, doubts)
        account = replace(account, doubt=recorded(doubts))
    residents = residents_of(transaction, account)
    if is_to_be_read(transaction, account, observed, residents):
        observed = replace(observed, presence="unknown")
    residents = follow_rules(transaction, account, observed, residents, now)
    account = with_address(transaction, account, residents, now)
    if not residents:
        known = {"observed": observed.as_document(), "doubt": recorded(doubts)}
        accounts.store(transaction, account.id, now, due_at=None, **known)
        return None
    _forget_wanted(transaction, account, residents)
    generations = {each.organization.auth0_name: each.generation for each in residents}
    observed = of_generations(observed, generations)
    desired = joint_wish(residents, account, now)
    if (
        looking
        and observed.presence == "present"
        and not (desired.delete and desired.deletes_by_order)
    ):
        observed = replace(observed, presence="unknown")
    observed = deleting.unread(desired, observed)
    observed = deleting.judged(desired, observed, account.revision)
    tell_expired(transaction, account, desired.invitations, now)
    operations = plan(desired, observed, appeared=account.appeared)
    if not operations:
        _end(transaction, account, desired, observed, residents, doubts, now)
        return None
    # While doubt is being resolved, what is in doubt stays recorded; a read adds none.
    doubt = recorded(doubts) or operations[0].as_document()
    accounts.store(transaction, account.id, now, observed=observed.as_document(), doubt=doubt)
    return Step(
        account=account,
        operation=operations[0],
        desired=desired,
        observed=observed,
        doubted=frozenset(str(doubt["kind"]) for doubt in doubts),
        organization=_display_name(operations[0], residents),
        at=now,
    )


def _end(
    transaction: Transaction,
    account: Account,
    desired: Desired,
    observed: Observed,
    residents: Sequence[Resident],
    doubts: Sequence[Doubt],
    now: datetime,
) -> None:
    """Nothing is left to do."""
    give_up_resends(transaction, account, desired, observed, residents)
    if never_was(desired, observed):
        close(transaction, account, observed, now)
    else:
        settle(transaction, account, observed, residents, now, desired=desired, doubts=doubts)


def _forget_wanted(
    transaction: Transaction, account: Account, residents: Sequence[Resident]
) -> None:
    """What an operator wanted sent to somebody who has left since is sent no more."""
    for resident in residents:
        if not resident.wanted and resident.asked:
            ledger.forget_wanted(transaction, account.id, resident.user.id)


def _display_name(operation: Operation, residents: Sequence[Resident]) -> str:
    """Of the organization that an operation is done in."""
    display = {r.organization.auth0_name: r.organization.display_name for r in residents}
    named = getattr(operation, "organization", "")
    return display.get(named) or named


def _current(observed: Observed, revision: int) -> dict[str, Mapping[str, Any]]:
    """Refusals of what is wanted now: a newer wish may go where the older one could not."""
    return {
        scope: problem
        for scope, problem in observed.refused.items()
        if problem.get("revision") == revision
    }


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
