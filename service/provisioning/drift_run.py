"""One check under way: how it reads, how far it is, and how what it finds is told and given to the
lanes to mend. Knows not what is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.jobs import Jobs
from service.clock import Clock, pause
from service.directory import accounts, drift, leases
from service.directory.accounts import Account
from service.directory.database import Database, Transaction
from service.directory.drift import Check, Finding
from service.outcomes.data import DriftCorrected, DriftDetected
from service.provisioning.comparing import doubts_of, is_idle, is_ours_to_mend, lets_in
from service.provisioning.desired import Resident
from service.provisioning.doubt import recorded
from service.provisioning.observed import Observed
from service.provisioning.operations import Subject
from service.provisioning.residents import residents_of
from service.provisioning.telling import tell
from service.provisioning.tenancy import Tenure

PAGE: Final = 200


class CheckFailed(Exception):
    """A check cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``look``: seconds between two questions whether an export is ready; ``counts``: what is told at
    the end, added to by whoever compares.
    """

    tenant: str
    check: Check
    tenure: Tenure
    counts: Counter[str]
    database: Database
    client: Auth0Client
    jobs: Jobs
    clock: Clock
    look: float
    on_found: Callable[[str], None]

    async def found(self, account: Account, aspect: str, told: Mapping[str, Any]) -> None:
        """Tells what differs, once, and has it mended where policy or the check says so."""
        now = self.clock.now()
        if await self.database.transact(lambda tx: self._record(tx, account, aspect, told, now)):
            self.counts["differ"] += 1
            self.on_found(aspect.partition(":")[0])

    def _record(
        self, tx: Transaction, account: Account, aspect: str, told: Mapping[str, Any], now: datetime
    ) -> bool:
        """False where it does not differ, or the account has changed since: the next check sees."""
        leases.require(tx, self.tenant, self.tenure.owner.fence)
        held = accounts.lock(tx, account.id)
        if held is None or held.observed != account.observed or not is_idle(held, now):
            return False
        residents = residents_of(tx, held)
        theirs = self._concerned(residents, told)
        if not theirs:
            return False
        wanted = any(resident.wanted for resident in residents)
        if _noted(tx, held, told, wanted=wanted, now=now):
            drift.forget(tx, self.tenant, aspect, [account.id])
            return False
        principal = max(theirs, key=lambda resident: resident.user.modified_at)
        policy = principal.organization.policies.drift
        urgent = lets_in(told, wanted=wanted)
        mend = is_ours_to_mend(told) and (self.check.correct or policy == "correct" or urgent)
        finding = Finding(
            tenant=self.tenant,
            subject=account.id,
            aspect=aspect,
            organization=principal.user.organization,
            user_id=principal.user.id,
            auth0_user_id=account.user_id,
            detail=told,
            check_id=self.check.id,
            correcting=mend,
            found_at=now,
        )
        # A block that was lifted is told by the lane that places it again.
        silent = mend and set(told) == {"blocked"}
        if drift.find(tx, finding) and not silent:
            tell(tx, principal.subject, held, (DriftDetected(**_members(told)),), now)
        if mend:
            doubt = recorded(doubts_of(told, Observed.from_document(held.observed)))
            accounts.store(tx, account.id, now, doubt=doubt, due_at=now, leaver=urgent)
        return True

    def _concerned(self, residents: Sequence[Resident], told: Mapping[str, Any]) -> list[Resident]:
        """Those that the check is about and, where it is a membership that differs, whose it is."""
        name = told.get("auth0_organization")
        return [
            each
            for each in residents
            if name in (None, each.organization.auth0_name)
            and self.check.organization in (None, each.organization.name)
        ]

    async def forget(self, aspect: str, subjects: Sequence[str]) -> None:
        """These do not differ any more."""
        if not subjects:
            return

        def work(tx: Transaction) -> None:
            leases.require(tx, self.tenant, self.tenure.owner.fence)
            drift.forget(tx, self.tenant, aspect, subjects)

        await self.database.transact(work)

    async def again(self, call: Callable[[], Any]) -> Answer:
        """A read, repeated a few times while nobody answers it."""
        answer: Answer = await call()
        for attempt in range(5):
            if answer.verdict not in ("rate-limited", "unreachable", "doubtful"):
                break
            await pause(self.tenure.ended, answer.retry_after or float(attempt + 1))
            if self.tenure.ended.is_set():
                break
            answer = await call()
        return answer

    async def say(self, phase: str, done: int, total: int) -> None:
        """How far it is, for whoever asked."""
        await self.store(progress={"phase": phase, "done": done, "total": total})

    async def store(self, **values: Any) -> None:
        """Members of the check. Raises LostLease."""

        def work(tx: Transaction) -> None:
            leases.require(tx, self.tenant, self.tenure.owner.fence)
            drift.store(tx, self.check.id, **values)

        await self.database.transact(work)


async def tell_corrected(tenure: Tenure) -> None:
    """What the lanes have mended since."""
    found = await tenure.database.read(lambda tx: drift.being_corrected(tx, tenure.tenant, PAGE))
    for finding in found:
        now = tenure.clock.now()

        def settle(tx: Transaction, finding: Finding = finding, now: datetime = now) -> None:
            leases.require(tx, tenure.tenant, tenure.owner.fence)
            account = accounts.get(tx, finding.subject)
            if account is None or account.closed_at is not None:
                drift.drop(tx, finding)
                return
            if (
                account.doubt is not None
                or account.applied_revision != account.revision
                or (account.due_at is not None and account.due_at <= now)
            ):
                return
            if account.error is not None:
                drift.give_up(tx, finding)
                return
            drift.drop(tx, finding)
            if set(finding.detail) != {"blocked"}:
                subject = Subject(
                    organization=str(finding.organization), user_id=str(finding.user_id)
                )
                mended = DriftCorrected(**_members(finding.detail))
                tell(tx, subject, account, (mended,), now)

        await tenure.database.transact(settle)


def _noted(
    tx: Transaction, account: Account, told: Mapping[str, Any], *, wanted: bool, now: datetime
) -> bool:
    """Takes into the picture that somebody else placed a block, so that it is never taken for ours,
    or lifted their own. True where that is all, and nothing is amiss."""
    observed = Observed.from_document(account.observed)
    if told.get("blocked") is None or observed.blocked_by_us:
        return False
    lifted = told["blocked"] is False
    if lifted and not wanted:
        return False  # a lane reads them, and locks them out
    seen = replace(observed, blocked=not lifted)
    accounts.store(tx, account.id, now, observed=seen.as_document())
    return lifted and set(told) == {"blocked"}


def _members(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}


def why(what: str, answer: Answer) -> str:
    return f"{what}: Auth0 answered {answer.status or answer.verdict} {answer.code or ''}".rstrip()
