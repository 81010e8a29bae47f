"""Whether a leaver goes, or waits for an operator since too many of an organization left at once.

Decides only; what follows for the account is service.directory.intent's. ADR 17 says why.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import structlog
from sqlalchemy import and_, bindparam, delete, func, insert, literal, or_, select, update

from service.directory import dialect, ending
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among, hold, hold_all
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.organizations import MassLeavers
from service.outcomes.endings import Exceeded
from service.people import Cause, User, Withheld, withheld_of

log = structlog.get_logger(__name__)

STAGED: Final = (
    "Has left, as the organization says, together with so many others that an operator decides:"
    " in until then."
)
REFUSED: Final = "Has left, as the organization says; an operator refused to believe that."
KEPT: Final = timedelta(days=32)
"""How long a departure is remembered: longer than any window."""
_PURGED_AT_ONCE: Final = 1000
_OF_HR: Final[frozenset[Cause]] = frozenset(
    {"terminated-in-hr", "suspended-in-hr", "deleted-in-hr", "on-leave-in-hr"}
)
_FINAL: Final[frozenset[Cause]] = frozenset({"locked-by-operator", "organization-decommissioned"})
"""What operators say of people is never withheld."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is withheld from now on. ``staged``: whether the event waits; ``exceeded``: for what, where
    the person was not staged before. ``moot``: the staged events that it takes the place of.
    """

    withheld: Mapping[str, Any] | None
    staged: bool = False
    exceeded: Exceeded | None = None
    moot: frozenset[str] = field(default_factory=frozenset[str])


def judge(
    transaction: Transaction,
    user: User,
    registered: Registered,
    event_id: str,
    *,
    was_wanted: bool,
    now: datetime,
    spoke: Literal["hr"] | None = None,
    immediate: bool = False,
) -> Verdict:
    """What an event makes of what was withheld before, and whether it is staged itself.

    For one who holds the user and no account yet. ``spoke``: the source whose word on status it is,
    even where that says what it said before. An ordinary leaver who goes is counted.
    """
    found = registered.causes(user)
    before = withheld_of(user)
    if user.withheld is None and not (was_wanted and found):
        return Verdict(withheld=None)
    kept = _standing(before, found - _OF_HR if spoke == "hr" else found)
    left = found - kept.causes
    if not left:
        return _verdict(before, kept)
    goes = (
        immediate
        or not was_wanted
        or bool(left & _FINAL)
        or user.account_id is None
        or (user.state == "waiting" and not before.staged)
    )
    policy = registered.organization.policies.mass_leavers
    exceeded = None
    if not goes and not before.staged:
        exceeded = _let_out(transaction, user, policy, now)
        goes = exceeded is None
    if goes or not policy.enabled:
        return _verdict(before, dataclasses.replace(kept, staged={}))
    staged = {**kept.staged, **dict.fromkeys(sorted(left), event_id)}
    verdict = _verdict(before, dataclasses.replace(kept, staged=staged))
    return dataclasses.replace(verdict, staged=True, exceeded=exceeded)


def _standing(withheld: Withheld, found: Collection[Cause]) -> Withheld:
    return dataclasses.replace(
        withheld,
        staged={cause: event for cause, event in withheld.staged.items() if cause in found},
        refused={cause: event for cause, event in withheld.refused.items() if cause in found},
    )


def _verdict(before: Withheld, after: Withheld) -> Verdict:
    return Verdict(
        withheld=after.as_document(),
        moot=frozenset(before.staged.values()) - frozenset(after.staged.values()),
    )


def end(transaction: Transaction, verdict: Verdict, event_id: str, *, now: datetime) -> None:
    """Ends the staged events whose place this one takes. Accounts are held before events."""
    for moot in sorted(verdict.moot):
        ending.finish(transaction, moot, "superseded", now=now, by=event_id)


def hand_over(transaction: Transaction, earlier: User, user: User) -> Mapping[str, Any] | None:
    """What is withheld of two rows of one person, for the one that stays, with its events.

    HR's causes go with HR's record; those of a deleted SCIM resource end with the settling.
    """
    if earlier.withheld is None:
        return user.withheld
    theirs, own = withheld_of(earlier), withheld_of(user)
    transaction.execute(
        update(t.events)
        .where(among(transaction, t.events.c.id, sorted(set(theirs.staged.values()))))
        .values(user_id=user.id)
    )
    merged = Withheld(
        staged={**theirs.staged, **own.staged},
        refused={**theirs.refused, **own.refused},
        groups=own.groups,
    )
    return merged.as_document()


def hold_departures(transaction: Transaction, organizations: Collection[str]) -> None:
    """Keeps other leavers of these organizations waiting until this transaction ends.

    After users and before identifiers and accounts, as everywhere.
    """
    hold_all(transaction, [("departures", name) for name in organizations])


def _let_out(
    transaction: Transaction, user: User, policy: MassLeavers, now: datetime
) -> Exceeded | None:
    """Notes a departure and returns None; else why this leaver waits, with nothing noted."""
    if not policy.enabled:
        return None
    hold(transaction, "departures", user.organization)
    given = {
        "organization": user.organization,
        "since": now - policy.within,
        "user_id": user.id,
        "at": now,
    }
    if _DEPART_WITHIN.first(transaction, {**given, "most": policy.count}) is not None:
        return None
    known = _WINDOW.first(transaction, given)
    leaving = (known["departed"] if known is not None else 0) + 1
    people = _people(transaction, user, leaving, policy, now)
    if leaving <= policy.share * people:
        _DEPART_WITHIN.run(transaction, {**given, "most": leaving})
        return None
    return exceeded(policy, leaving, people)


def exceeded(policy: MassLeavers, leaving: int, people: int) -> Exceeded:
    """Why a leaver waits: who left within the time, this one included, and of how many people."""
    return Exceeded(
        leavers=leaving,
        people=people,
        count=policy.count,
        share=policy.share,
        within_seconds=int(policy.within.total_seconds()),
    )


_ORGANIZATION: Final = bindparam("organization", type_=t.departures.c.organization.type)
_SINCE: Final = bindparam("since", type_=t.departures.c.at.type)
NEWEST: Final = (
    select(func.max(t.departures.c.ordinal))
    .where(t.departures.c.organization == _ORGANIZATION)
    .scalar_subquery()
)
_FIRST: Final = (
    select(t.departures.c.ordinal)
    .where(t.departures.c.organization == _ORGANIZATION, t.departures.c.at > _SINCE)
    .order_by(t.departures.c.at)
    .limit(1)
    .scalar_subquery()
)
# By ordinals: two look-ups, however many have left.
DEPARTED: Final = func.coalesce(NEWEST - _FIRST + 1, 0)
_WINDOW: Final = Prepared(select(DEPARTED.label("departed")))
_DEPART_WITHIN: Final = Prepared(
    insert(t.departures)
    .from_select(
        ["organization", "user_id", "at", "ordinal"],
        select(
            _ORGANIZATION,
            bindparam("user_id", type_=t.departures.c.user_id.type),
            bindparam("at", type_=t.departures.c.at.type),
            func.coalesce(NEWEST, 0) + 1,
        ).where(bindparam("most", type_=t.departures.c.ordinal.type) > DEPARTED),
    )
    .returning(t.departures.c.ordinal)
)


def _people(
    transaction: Transaction, user: User, leaving: int, policy: MassLeavers, now: datetime
) -> int:
    """How many people the organization had before they left, or as many as it takes to know that
    this share of them is not exceeded. Counted again when the window has passed, or more are needed.
    """
    row = transaction.execute(
        select(t.headcounts).where(t.headcounts.c.organization == user.organization)
    ).one_or_none()
    known = row is not None and now - policy.within < row.at <= now
    if row is not None and known and (row.is_whole or leaving <= policy.share * row.people):
        return row.people
    # Twice as many as needed, so that a long row of leavers is not counted over and over.
    most = 2 * math.ceil(leaving / policy.share) if policy.share else leaving
    others = transaction.execute(
        select(func.count()).select_from(
            select(literal(1)).where(*_in(user)).limit(most).subquery()
        )
    ).scalar_one()
    counted = {"people": others + leaving, "is_whole": others < most, "at": now}
    transaction.execute(
        dialect.insert(transaction, t.headcounts)
        .values(organization=user.organization, **counted)
        .on_conflict_do_update(index_elements=["organization"], set_=counted)
    )
    if leaving > policy.share * (others + leaving):
        log.warning(
            "leavers.staged",
            organization=user.organization,
            leavers=leaving,
            people=others + leaving,
        )
    return others + leaving


def _in(user: User) -> tuple[Any, ...]:
    """Who else of the organization has an account and is in, as far as columns tell."""
    of_scim = and_(t.users.c.resource.is_not(None), t.users.c.deleted_at.is_(None))
    employed = t.users.c.employment.in_(("active", "on_leave"))
    stays = and_(
        t.users.c.locked_at.is_(None),
        or_(and_(of_scim, t.users.c.active), and_(t.users.c.resource.is_(None), employed)),
        or_(t.users.c.employment.is_(None), employed),
    )
    return (
        t.users.c.organization == user.organization,
        t.users.c.id != user.id,
        t.users.c.account_id.is_not(None),
        or_(t.users.c.withheld.is_not(None), stays),
    )


def forget_old(transaction: Transaction, now: datetime) -> int:
    """Forgets some departures that no window reaches any more; returns how many."""
    oldest = (
        select(t.departures.c.number, t.departures.c.at)
        .order_by(t.departures.c.number)
        .limit(_PURGED_AT_ONCE)
        .subquery()
    )
    old = select(oldest.c.number).where(oldest.c.at < now - KEPT)
    return transaction.execute(delete(t.departures).where(t.departures.c.number.in_(old))).rowcount


def with_groups(user: User, groups: Collection[str]) -> Mapping[str, Any] | None:
    """What is withheld, with the groups that a deleted user was in until now."""
    return dataclasses.replace(withheld_of(user), groups=tuple(sorted(groups))).as_document()
