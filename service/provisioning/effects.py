"""What an answer of Auth0 can mean for the account: done, later, refused, or the tenant's trouble.

It knows the verdicts and what they need of the account, not how an answer comes to one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.directory.ledger import Ended
from service.outcomes import data as told
from service.provisioning.desired import Desired
from service.provisioning.observed import Observed

R = TypeVar("R")
Problem = tuple[str, str, str, int | None]
"""Class, code, message without personal data, HTTP status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The picture has changed (or been read); go on planning."""

    observed: Observed
    told: tuple[told.Effect, ...] = ()
    """Outcomes to publish, without what telling adds: who it is, and what caused it."""
    user_id: str | None = None
    """Auth0's id, where it turned out to be another than the one we chose."""
    reference: str | None = None
    """Auth0's id of the invitation that was just sent."""
    found: Mapping[str, str] = field(default_factory=dict[str, str])
    """Auth0's ids of invitations whose answers were lost, by our ids."""
    ended: Mapping[str, Ended] = field(default_factory=dict[str, Ended])
    """Invitations that are open no more, by our ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Try again. ``doubt``: it may have been done, so read first."""

    reason: str
    after: float | None = None
    counted: bool = True
    doubt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The same call will be refused again: an operator must act, or of class ``transient`` it is to be
    tried after ``retry_after`` seconds. ``scope``: an Organization's Auth0
    name where only that membership is refused, else empty."""

    problem: Problem
    scope: str = ""
    retry_after: float | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRefused(Generic[R]):
    """Every call to this tenant will fail like this: pause it, nothing is lost. ``R``: a refusal of
    one call."""

    reason: str
    status: int | None = None
    alone: R | None = None
    """What it means where the tenant accepts other calls: a 403 may be about this one only."""

    def where(self, accepted: bool | None) -> TenantRefused[R] | R | Later:
        """``accepted``: whether the tenant accepts another call; None where that is not known."""
        if accepted is None:
            return Later(reason=self.reason, counted=False)
        return self.alone if accepted and self.alone is not None else self


@dataclass(frozen=True, slots=True, kw_only=True)
class NotThereYet:
    """An enterprise profile has not appeared: look again later."""


Effect = Done | Later | Refused | TenantRefused[Refused] | NotThereYet


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What interpreting needs of the account: who it is, what is wanted, what was seen."""

    account_id: str
    user_id: str
    connection: str
    desired: Desired
    observed: Observed
    doubted: frozenset[str] = frozenset()
    """Kinds of operations whose answers were lost."""
    live_accounts: frozenset[str] = frozenset()
    """Account ids that we answer for, among those that candidates are marked with."""
    of_others: frozenset[str] = frozenset()
    """Candidates, by Auth0's id, whom the directories know as somebody else by a stable id."""
