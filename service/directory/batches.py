"""Many worker events at once: whoever simply stays, joins or leaves, in a few statements for all.

Says first, without writing, whose events take this usual course from the first to the last; all
others are left to the way for one (service.directory.applying). The two have no user, address and
account in common, so it does not matter which goes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from service.directory import (
    accounts,
    claims,
    departing,
    ending,
    leavers,
    many,
    moves,
    people,
    plans,
    waits,
)
from service.directory import tables as t
from service.directory.accounts import Account, Opening, Touch
from service.directory.belonging import connection_of
from service.directory.database import Transaction
from service.directory.departing import Leaver, Outlook
from service.directory.organizations import Registered
from service.outcomes.endings import Exceeded
from service.people import User, identifier_of, worker_key
from service.workers import Order, WorkerEvent

Person = tuple[str, str]
"""An organization and a worker id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A worker event that is new and stored. ``user``: the worker's, held; ``user_id`` is also that
    of one who is made for it.
    """

    registered: Registered
    event: WorkerEvent
    event_id: str
    order: Order
    now: datetime
    user: User | None
    user_id: str
    is_attributed: bool = True
    """Whether the event's row names that user already, as that of a new event does."""

    @property
    def person(self) -> Person:
        return self.registered.organization.name, self.event.worker_id

    @property
    def is_ahead(self) -> bool:
        """Whether it is to take effect later."""
        return self.event.effective_at is not None and self.event.effective_at > self.now

    @property
    def may_leave(self) -> bool:
        """Whether it may take somebody out now."""
        return self.event.status not in (None, "active") and not self.is_ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What a worker's events make of a user, if nothing speaks against it.

    ``addresses``: all that the user has or had on the way. ``account``: the user's, held.
    ``exceeded``: why somebody who leaves waits for an operator.
    """

    heard: Sequence[Heard]
    user: User
    usual: bool
    leaves: bool = False
    addresses: frozenset[str]
    account: Account | None = None
    exceeded: Exceeded | None = None

    @property
    def registered(self) -> Registered:
        return self.heard[0].registered

    @property
    def joins(self) -> bool:
        return self.heard[0].user is None

    @property
    def now(self) -> datetime:
        return self.heard[-1].now


def new_user(heard: Heard) -> User:
    """Somebody whom only HR knows, from this event on."""
    organization, worker_id = heard.registered.organization, heard.event.worker_id
    by_key = organization.join != "externalId"
    return User(
        id=heard.user_id,
        organization=organization.name,
        worker_id=worker_id,
        join_key=worker_key(worker_id, organization.join) if by_key else None,
        created_at=heard.now,
        modified_at=heard.now,
    )


def settle(
    transaction: Transaction, heard: Sequence[Heard], *, due: Collection[str] = ()
) -> list[Heard]:
    """Settles what takes the usual course; returns the rest, in order, with nothing written of it.

    For one who holds the departures of organizations that somebody may leave. ``due``: events that
    are still on the calendar themselves.
    """
    courses = [_followed(chain) for chain in _by_person(heard)]
    outlooks = _outlooks(transaction, heard)
    usual = _without_planned(transaction, _foreseen(_apart(courses), outlooks), due)
    joining = _opened(transaction, [course for course in usual if course.joins])
    held = _held(transaction, [course for course in usual if not course.joins])
    leaving = _judged(transaction, [course for course in held if course.leaves], outlooks)
    going = [course for course in leaving if course.exceeded is None]
    waiting = [course for course in leaving if course.exceeded is not None]
    staying = [course for course in held if not course.leaves]
    _store(transaction, joining, staying, going)
    _stage(transaction, waiting)
    done = {each.event_id for course in (*joining, *staying, *leaving) for each in course.heard}
    return [each for each in heard if each.event_id not in done]


def _by_person(heard: Iterable[Heard]) -> list[list[Heard]]:
    chains: dict[Person, list[Heard]] = {}
    for each in heard:
        chains.setdefault(each.person, []).append(each)
    return list(chains.values())


def _followed(chain: Sequence[Heard]) -> _Course:
    """Usual is to be in before and after each event, under the one address; or to go out by the only
    one. Pure.
    """
    first = chain[0]
    registered = first.registered
    user = first.user or new_user(first)
    usual = first.user is None or (user.account_id is not None and registered.wants(user))
    leaves = False
    found: set[str | None] = set()
    for each in chain:
        changes, late = people.changes_by(user, each.event, each.order, each.now)
        if each.is_ahead or late:
            usual = False
            continue
        user = replace(user, **changes)
        leaves = not registered.wants(user)
        usual = usual and user.withheld is None and (not leaves or _is_last_of(first, chain))
        found.add(identifier_of(user, registered.organization))
    address = next(iter(found)) if len(found) == 1 else None
    first_address = first.user and first.user.identifier
    return _Course(
        heard=chain,
        user=user if user.identifier == address else replace(user, identifier=address),
        usual=usual and address is not None and not (leaves and address != first_address),
        leaves=leaves,
        addresses=frozenset(
            one for one in found | {first.user and first.user.identifier} if one is not None
        ),
    )


def _is_last_of(first: Heard, chain: Sequence[Heard]) -> bool:
    return first.user is not None and len(chain) == 1 and first.may_leave


def _apart(courses: Sequence[_Course]) -> list[_Course]:
    """Those that are usual and have no key, address or account that another has, too. Pure."""
    shared = Counter(each for course in courses for each in _had(course))
    return [
        course
        for course in courses
        if course.usual and all(shared[each] == 1 for each in _had(course))
    ]


def _outlooks(transaction: Transaction, heard: Sequence[Heard]) -> dict[str, Outlook]:
    """Of each organization that somebody may leave who counts."""
    of_each: dict[str, list[Heard]] = {}
    for each in heard:
        if each.may_leave and not each.event.immediate:
            of_each.setdefault(each.person[0], []).append(each)
    return {
        name: departing.outlook(transaction, those[0].registered, [each.now for each in those])
        for name, those in of_each.items()
    }


def _foreseen(courses: Sequence[_Course], outlooks: Mapping[str, Outlook]) -> list[_Course]:
    """Without those who change how many people an organization has, where that may matter. Pure."""
    unclear = {name for name, outlook in outlooks.items() if not outlook.is_clear}
    return [
        course
        for course in courses
        if not ((course.joins or course.leaves) and course.heard[0].person[0] in unclear)
    ]


def _had(course: _Course) -> set[tuple[str, str, str]]:
    tenant = course.registered.organization.tenant
    account_id = course.user.account_id
    organization, worker_id = course.heard[0].person
    theirs = {("address", tenant, address) for address in course.addresses}
    theirs.add(("key", organization, worker_id.strip().casefold()))
    return theirs if account_id is None else theirs | {("account", "", account_id)}


def _without_planned(
    transaction: Transaction, courses: Sequence[_Course], due: Collection[str]
) -> list[_Course]:
    """Those that displace nothing from the calendar, save for what is due itself."""
    kinds = {
        (*each.person, each.event.kind)
        for course in courses
        for each in course.heard
        if each.event.kind != "attributes"
    }
    persons = sorted({(organization, worker_id) for organization, worker_id, _ in kinds})
    planned = plans.planned(transaction, persons, but=due)
    busy = {each[:2] for each in planned & kinds}
    return [course for course in courses if course.heard[0].person not in busy]


def _opened(transaction: Transaction, courses: Sequence[_Course]) -> list[_Course]:
    """Those who join with an address that nobody had, with their new accounts."""
    held = claims.addresses_held(transaction, [_claim(course) for course in courses])
    free = [course for course in courses if _claim(course) not in held]
    openings = [_opening(transaction, course) for course in free]
    opened = accounts.open_many(transaction, openings)
    return [
        replace(course, user=replace(course.user, account_id=opened[opening.place]))
        for course, opening in zip(free, openings, strict=True)
        if opening.place in opened
    ]


def _claim(course: _Course) -> tuple[str, str, str]:
    organization = course.registered.organization
    return organization.tenant, organization.name, _address(course)


def _opening(transaction: Transaction, course: _Course) -> Opening:
    organization = course.registered.organization
    address = _address(course)
    return Opening(
        tenant=organization.tenant,
        connection=connection_of(transaction, course.user, organization).name,
        identifier=address,
        now=course.now,
        revision=len(course.heard),
    )


def _address(course: _Course) -> str:
    assert course.user.identifier is not None, "a usual course has one"
    return course.user.identifier


def _held(transaction: Transaction, courses: Sequence[_Course]) -> list[_Course]:
    """Those whose account is open and has their address, with the account."""
    ids = [course.user.account_id for course in courses if course.user.account_id is not None]
    held = accounts.hold_many(transaction, ids)
    found = [replace(course, account=held.get(course.user.account_id or "")) for course in courses]
    return [
        course
        for course in found
        if course.account is not None
        and course.account.closed_at is None
        and course.account.identifier == course.user.identifier
    ]


def _judged(
    transaction: Transaction, courses: Sequence[_Course], outlooks: Mapping[str, Outlook]
) -> list[_Course]:
    """Those who leave, and whether they go or wait."""
    verdicts = departing.judge_many(transaction, [_leaver(course) for course in courses], outlooks)
    return [replace(course, exceeded=verdicts[course.heard[0].event_id]) for course in courses]


def _leaver(course: _Course) -> Leaver:
    heard = course.heard[0]
    return Leaver(
        event_id=heard.event_id,
        user=course.user,
        registered=heard.registered,
        now=heard.now,
        immediate=heard.event.immediate,
    )


def _store(
    transaction: Transaction,
    joining: Sequence[_Course],
    staying: Sequence[_Course],
    going: Sequence[_Course],
) -> None:
    known = (*staying, *going)
    many.insert(transaction, t.users, [_row(course, _NEW) for course in joining])
    many.write(transaction, t.users, [_row(course, _CHANGED) for course in known])
    if going:
        moot = {each.user.id: (each.heard[0].event_id, each.now) for each in going}
        waits.supersede_open_of_many(transaction, moot)
    accounts.touch_many(transaction, [_touch(course) for course in known])
    many.insert(
        transaction,
        t.waits,
        [wait for course in (*joining, *known) for wait in _waits(course)],
    )
    _lock_out(transaction, going)


def _lock_out(transaction: Transaction, going: Sequence[_Course]) -> None:
    """Who leaves in the middle of a move leaves the account before it, too; few ever do."""
    courses = {course.user.id: course for course in going}
    moving = {former.user_id for former in moves.of_users(transaction, sorted(courses))}
    for user_id in sorted(moving):
        course = courses[user_id]
        waits.leave(transaction, user_id, (course.heard[0].event_id,), course.now)


def _stage(transaction: Transaction, waiting: Sequence[_Course]) -> None:
    """What else their events say of them goes to Auth0 at once: see intent.settle."""
    rows = [
        _row(course, _CHANGED)
        | {"state": "staged", "detail": leavers.STAGED}
        | {"withheld": departing.withheld_from(_leaver(course))}
        for course in waiting
    ]
    many.write(transaction, t.users, rows)
    stay = [replace(_touch(course), leaver=False) for course in waiting]
    accounts.touch_many(transaction, stay)
    for now in sorted({course.now for course in waiting}):
        thresholds = {
            course.heard[0].event_id: course.exceeded
            for course in waiting
            if course.exceeded is not None and course.now == now
        }
        ending.stage_many(transaction, thresholds, now=now)


def _row(course: _Course, names: Sequence[str]) -> dict[str, Any]:
    row = {name: getattr(course.user, name) for name in names}
    return row | {
        "state": "pending",
        "detail": None,
        "last_event_id": course.heard[-1].event_id,
    }


def _touch(course: _Course) -> Touch:
    assert course.account is not None
    revision = course.account.revision + len(course.heard)
    return Touch(account=course.account, revision=revision, now=course.now, leaver=course.leaves)


def _waits(course: _Course) -> list[dict[str, Any]]:
    before = course.account.revision if course.account is not None else 0
    return [
        {
            "event_id": each.event_id,
            "account_id": course.user.account_id,
            "user_id": course.user.id,
            "revision": before + at,
        }
        for at, each in enumerate(course.heard, start=1)
    ]


_CHANGED: Final = ("id", "worker_id", "worker", *people.EMPLOYMENT, "identifier", "modified_at")
_NEW: Final = (*_CHANGED, "organization", "join_key", "account_id", "version", "created_at")
