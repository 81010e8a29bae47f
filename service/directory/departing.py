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
from service.people import User, Withheld


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What can be said of all leavers of an organization, before any of them has left: that they all
    go, or why they all wait (``exceeded``). ``newest``: the ordinal of the last departure.
    """

    all_go: bool = False
    exceeded: Exceeded | None = None
    newest: int = 0

    @property
    def is_clear(self) -> bool:
        """Else it matters who leaves, joins or is thrown out before whom."""
        return self.all_go or self.exceeded is not None


def outlook(transaction: Transaction, registered: Registered, nows: Sequence[datetime]) -> Outlook:
    """Of as many who leave at most, each at one of ``nows``. For one who holds the departures."""
    policy = registered.organization.policies.mass_leavers
    if not policy.enabled:
        return Outlook(all_go=True)
    now = nows[0]
    given = {"organization": registered.organization.name, "since": now - policy.within}
    window = _WINDOW.first(transaction, given)
    assert window is not None
    if any(each != now for each in nows):
        return Outlook()
    people = _people(window, policy, now)
    if _all_go(window["departed"] + len(nows), policy, people):
        return Outlook(all_go=True, newest=window["newest"])
    return Outlook(exceeded=_none_goes(window["departed"] + 1, policy, window, people))


def judge_many(
    transaction: Transaction, leaving: Iterable[Leaver], outlooks: Mapping[str, Outlook]
) -> Mapping[str, Exceeded | None]:
    """By event: None for whom it lets go, else why they wait. Counts those who go.

    For one who holds these people, and the departures of their organizations, whose outlook is clear;
    an organization without one has no leavers who count.
    """
    of_each: dict[str, list[Leaver]] = {}
    verdicts: dict[str, Exceeded | None] = {}
    for each in leaving:
        verdicts[each.event_id] = None
        if each.counts:
            of_each.setdefault(each.user.organization, []).append(each)
    for name, counted in of_each.items():
        if outlooks[name].all_go:
            _depart(transaction, counted, outlooks[name].newest)
        else:
            verdicts |= {each.event_id: outlooks[name].exceeded for each in counted}
    return verdicts


def _depart(transaction: Transaction, counted: Sequence[Leaver], newest: int) -> None:
    rows = [
        {
            "organization": each.user.organization,
            "user_id": each.user.id,
            "at": each.now,
            "ordinal": newest + place,
        }
        for place, each in enumerate(counted, start=1)
        if each.registered.organization.policies.mass_leavers.enabled
    ]
    many.insert(transaction, t.departures, rows)


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
    return leavers.exceeded(policy, leaving, people)


def withheld_from(leaver: Leaver) -> Mapping[str, Any] | None:
    """What is withheld of somebody who waits, and of whom nothing was before."""
    registered = leaver.registered
    found = registered.causes(leaver.user)
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
