"""Many leavers at once: whether they all go, or all wait for an operator, as each would by itself.

Says so only where the order of leavers does not matter; all others are left to the way for one
(service.directory.leavers), which also counts an organization's people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, func, literal, select

from service.directory import leavers, many
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.organizations import MassLeavers
from service.outcomes.endings import Exceeded
from service.people import User, Withheld, causes


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaver:
    """Somebody who was in, has an account, and goes out by this event. ``user``: as they are then."""

    event_id: str
    user: User
    registered: Registered
    now: datetime
    immediate: bool

    @property
    def counts(self) -> bool:
        return not self.immediate and self.user.state != "waiting"


Verdicts = Mapping[str, Exceeded | None]
"""By event: None for whom it lets go, else why they wait."""


def judge_many(
    transaction: Transaction, leaving: Iterable[Leaver], most: Mapping[str, int]
) -> Verdicts:
    """For one who holds these people, and the departures of their organizations. Counts those who go.

    ``most``: how many may leave each organization in this transaction, at most. An event that is
    missing in the answer is to be judged by itself.
    """
    of_each: dict[str, list[Leaver]] = {}
    for each in leaving:
        of_each.setdefault(each.user.organization, []).append(each)
    verdicts: dict[str, Exceeded | None] = {}
    for name, those in of_each.items():
        verdicts |= _judged(transaction, those, most[name])
    return verdicts


def _judged(transaction: Transaction, those: Sequence[Leaver], most: int) -> Verdicts:
    policy = those[0].registered.organization.policies.mass_leavers
    counted = [each for each in those if each.counts] if policy.enabled else []
    verdicts: dict[str, Exceeded | None] = {
        each.event_id: None for each in those if each not in counted
    }
    if not counted:
        return verdicts
    organization, now = counted[0].user.organization, counted[0].now
    given = {"organization": organization, "since": now - policy.within}
    window = _WINDOW.first(transaction, given)
    assert window is not None
    if any(each.now != now for each in counted):
        return verdicts
    people = _people(window, policy, now)
    if _all_go(window["departed"] + most, policy, people):
        rows = [
            {
                "organization": organization,
                "user_id": each.user.id,
                "at": now,
                "ordinal": window["newest"] + place,
            }
            for place, each in enumerate(counted, start=1)
        ]
        many.insert(transaction, t.departures, rows)
        return verdicts | {each.event_id: None for each in counted}
    exceeded = _none_goes(window["departed"] + 1, policy, window, people)
    if exceeded is None:
        return verdicts
    return verdicts | {each.event_id: exceeded for each in counted}


def _people(window: Mapping[str, Any], policy: MassLeavers, now: datetime) -> int | None:
    """How many people the organization has at least, where that was counted within the window."""
    at = window["at"]
    return window["people"] if at is not None and now - policy.within < at <= now else None


def _all_go(leaving: int, policy: MassLeavers, people: int | None) -> bool:
    """Whether the last of so many goes, and so each before. Pure."""
    return leaving <= policy.count or (people is not None and leaving <= policy.share * people)


def _none_goes(
    leaving: int, policy: MassLeavers, window: Mapping[str, Any], people: int | None
) -> Exceeded | None:
    """Why the first waits, and so each after: those who wait do not count. Pure."""
    if people is None or not window["is_whole"] or _all_go(leaving, policy, people):
        return None
    return Exceeded(
        leavers=leaving,
        people=people,
        count=policy.count,
        share=policy.share,
        within_seconds=int(policy.within.total_seconds()),
    )


def withheld_from(leaver: Leaver) -> Mapping[str, Any] | None:
    """What is withheld of somebody who waits, and of whom nothing was before."""
    registered = leaver.registered
    found = causes(leaver.user, registered.organization, decommissioned=registered.decommissioned)
    return Withheld(staged=dict.fromkeys(sorted(found), leaver.event_id)).as_document()


_ORGANIZATION: Final = bindparam("organization", type_=t.departures.c.organization.type)
_HEADCOUNT: Final = t.headcounts.c.organization == _ORGANIZATION
_WINDOW: Final = Prepared(
    select(
        leavers.DEPARTED.label("departed"),
        func.coalesce(leavers.NEWEST, 0).label("newest"),
        t.headcounts.c.people,
        t.headcounts.c.is_whole,
        t.headcounts.c.at,
    ).select_from(select(literal(1).label("one")).subquery().outerjoin(t.headcounts, _HEADCOUNT))
)
