"""What HR says, accepted: ordered per worker, joined to SCIM's view, scheduled where it is future.

Status and each attribute are ordered separately, so an older event never undoes a newer one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from service.directory import (
    applying,
    batches,
    ending,
    enrichments,
    leavers,
    people,
    snapshots,
    worker_users,
)
from service.directory.admissions import Arrival, admit_many
from service.directory.batches import Heard, Person
from service.directory.database import Transaction
from service.directory.dialect import favour_indexes
from service.directory.ending import Ending
from service.directory.events import Problem, Tries
from service.directory.inbox import Admission, Received
from service.directory.organizations import Registered
from service.directory.snapshots import Line
from service.ids import new_id
from service.people import User
from service.workers import SNAPSHOT_COMPLETED, Order, WorkerEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A worker event as it came. ``number``: the order of acceptance of the one that it replays.

    ``asks``: the source, where it says whom to ask about the worker before anything else is done.
    """

    registered: Registered
    event: WorkerEvent
    received: Received
    number: int | None = None
    asks: str | None = None

    @property
    def organization(self) -> str:
        return self.registered.organization.name

    @property
    def person(self) -> Person:
        return self.organization, self.event.worker_id

    @property
    def is_of_one(self) -> bool:
        """Whether it is about a worker, and not about a full export."""
        return self.event.type != SNAPSHOT_COMPLETED

    @property
    def is_ahead(self) -> bool:
        return self.event.effective_at is not None and self.event.effective_at > self.received.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An input that is no worker event: recorded, and ended at once."""

    organization: str | None
    ended: Literal["deadlettered", "rejected", "discarded"]
    problem: Problem
    received: Received
    attempts: int = 1


def accept(
    transaction: Transaction,
    registered: Registered,
    event: WorkerEvent,
    received: Received,
    *,
    number: int | None = None,
    asks: str | None = None,
) -> Admission:
    """Takes a worker event in: applied now, or scheduled where ``effective_at`` lies ahead.

    ``number``: the order of acceptance of the event that this one replays. ``asks``: as in Delivery.
    """
    delivery = Delivery(
        registered=registered, event=event, received=received, number=number, asks=asks
    )
    return accept_many(transaction, [delivery])[0]


def accept_many(transaction: Transaction, inputs: Sequence[Delivery | Refusal]) -> list[Admission]:
    """As ``accept``, of all of them in order: as many statements for a batch as for one event, save
    for what is out of the usual course (service.directory.batches).
    """
    deliveries = [each for each in inputs if isinstance(each, Delivery) and each.is_of_one]
    persons = {each.person: each.registered.organization for each in deliveries}
    if len(inputs) > 1:
        favour_indexes(transaction)
    # First, so that the order of acceptance is the order in which a worker's events take effect.
    people.hold_keys(transaction, persons)
    users = worker_users.find_many(transaction, persons)
    ids = {
        each.person: users[each.person].id if each.person in users else new_id(each.received.at)
        for each in deliveries
    }
    admitted = admit_many(transaction, [_arrival(each, users, ids) for each in inputs])
    heard: list[Heard] = []
    refused: list[Ending] = []
    completions: list[tuple[Delivery, Admission]] = []
    lines: list[Line] = []
    for each, admission in zip(inputs, admitted.admissions, strict=True):
        if admission.verdict != "new":
            continue
        if isinstance(each, Delivery) and each.is_of_one and each.event.snapshot is not None:
            # Also of one who has yet to be asked for: the export has named them.
            lines.append(_line(each, each.event.snapshot))
        if isinstance(each, Delivery) and not each.is_of_one:
            completions.append((each, admission))
        elif isinstance(each, Delivery) and each.asks is not None:
            enrichments.wait(
                transaction,
                admission.event_id,
                organization=each.organization,
                worker_id=each.event.worker_id,
                source=each.asks,
                order=_order(each, admission),
                now=each.received.at,
            )
        elif isinstance(each, Delivery):
            heard.append(_heard(each, admission, users.get(each.person), ids[each.person]))
        else:
            refused.append(_ending(each, admission))
    leavers.hold_departures(transaction, {each.person[0] for each in heard if each.may_leave})
    for each in batches.settle(transaction, heard):
        applying.settle(transaction, each)
    ending.finish_many(transaction, refused)
    snapshots.hear(transaction, lines)
    for each, admission in completions:
        snapshots.complete(
            transaction, each.organization, each.event, admission.event_id, each.received.at
        )
    ending.finish_many(transaction, admitted.endings)
    return list(admitted.admissions)


def _line(each: Delivery, snapshot: str) -> Line:
    return Line(
        organization=each.organization,
        snapshot=snapshot,
        worker_id=each.event.worker_id,
        at=each.received.at,
    )


def _arrival(
    each: Delivery | Refusal, users: Mapping[Person, User], ids: Mapping[Person, str]
) -> Arrival:
    user_id = None
    # An event that lies ahead makes nobody a user, nor one that says too little yet.
    if (
        isinstance(each, Delivery)
        and each.is_of_one
        and each.asks is None
        and (each.person in users or not each.is_ahead)
    ):
        user_id = ids[each.person]
    return Arrival(received=each.received, organization=each.organization, user_id=user_id)


def _heard(each: Delivery, admission: Admission, user: User | None, user_id: str) -> Heard:
    return Heard(
        registered=each.registered,
        event=each.event,
        event_id=admission.event_id,
        order=_order(each, admission),
        now=each.received.at,
        user=user,
        user_id=user_id,
    )


def _order(each: Delivery, admission: Admission) -> Order:
    return [each.event.sequence, admission.number if each.number is None else each.number]


def _ending(each: Refusal, admission: Admission) -> Ending:
    return Ending(
        event_id=admission.event_id,
        ended=each.ended,
        now=each.received.at,
        problem=each.problem,
        tries=Tries(count=each.attempts),
    )
