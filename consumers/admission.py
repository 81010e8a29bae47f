"""What a door does with an input it has read: one transaction that takes it in, or records why not.

Knows the directory; knows neither HTTP nor Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from service.directory import events, organizations, windingup, workers
from service.directory.database import Database, Transaction, Work, is_unavailable
from service.directory.events import EventState, Problem
from service.directory.inbox import Admission, Received
from service.directory.workers import Delivery, Refusal
from service.errors import ProvisionerError
from service.workers import WorkerEvent

T = TypeVar("T")
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """An input that maps to a worker event of an organization."""

    organization: str
    event: WorkerEvent
    received: Received


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUnderstood:
    """An input that is recorded and ended at once. ``organization`` None: we cannot tell whose it is."""

    organization: str | None
    ended: Literal["deadlettered", "rejected", "discarded"]
    problem: Problem
    received: Received
    attempts: int = 1
    """How often it was tried to take it in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thin:
    """An input that only names a worker, who has to be asked for where ``source`` says.

    ``event``: what it says by itself; ``is_enough``: to act on, where nobody can tell more.
    """

    organization: str
    event: WorkerEvent
    received: Received
    source: str
    is_enough: bool = False


Input = Understood | NotUnderstood | Thin


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of an input: our id of it, how the inbox took it, and where asked its state now."""

    event_id: str
    verdict: Literal["new", "redelivery", "duplicate", "conflict"]
    state: EventState | None = None
    error: Mapping[str, object] | None = None


class Crashed(Exception):
    """Taking inputs in failed by a fault of ours, not of the database; where one was to be taken in,
    by that one.
    """

    def __init__(self) -> None:
        super().__init__("taking the inputs in failed")


def take(
    transaction: Transaction, inputs: Sequence[Input], *, tell_state: bool = False
) -> list[Taken]:
    """Takes the inputs in, in order. Raises Crashed, or what the database raises: then none is in."""
    try:
        admitted = _accept(transaction, inputs)
    except (SQLAlchemyError, OSError, ProvisionerError):
        raise
    except Exception as error:
        raise Crashed from error
    return [_taken(transaction, admission, tell_state=tell_state) for admission in admitted]


def _taken(transaction: Transaction, admission: Admission, *, tell_state: bool) -> Taken:
    event = events.get(transaction, admission.event_id) if tell_state else None
    return Taken(
        event_id=admission.event_id,
        verdict=admission.verdict,
        state=event.state if event else None,
        error=event.error if event else None,
    )


def _accept(transaction: Transaction, inputs: Sequence[Input]) -> list[Admission]:
    names = {each.organization for each in inputs if not isinstance(each, NotUnderstood)}
    known = {name: organizations.find(transaction, name) for name in names}
    asked: list[Delivery | Refusal] = []
    for each in inputs:
        if isinstance(each, NotUnderstood):
            asked.append(_refusal(each))
        elif (registered := known[each.organization]) is None:
            asked.append(_refusal(_unknown_organization(each)))
        elif registered.decommissioned:
            asked.append(_refusal(_ended_organization(each)))
        else:
            asked.append(
                Delivery(
                    registered=registered,
                    event=each.event,
                    received=each.received,
                    asks=each.source if isinstance(each, Thin) else None,
                )
            )
    return workers.accept_many(transaction, asked)


def _refusal(each: NotUnderstood) -> Refusal:
    return Refusal(
        organization=each.organization,
        ended=each.ended,
        problem=each.problem,
        received=each.received,
        attempts=each.attempts,
    )


def _unknown_organization(each: Understood | Thin) -> NotUnderstood:
    return NotUnderstood(
        organization=None,
        ended="rejected",
        problem=Problem(
            kind="input",
            code="unknown_organization",
            message="There is no such organization: declare it, then replay the event.",
        ),
        received=each.received,
    )


def _ended_organization(each: Understood | Thin) -> NotUnderstood:
    """Its source, which may speak for others, too, has done nothing wrong."""
    return NotUnderstood(
        organization=each.organization,
        ended="discarded",
        problem=windingup.ENDED,
        received=each.received,
    )


async def transact(database: Database, work: Work[T]) -> T:
    """As ``database.transact``, again where two deliveries of one event met: one then finds the other."""
    for attempt in range(_ATTEMPTS):
        try:
            return await database.transact(work)
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def must_wait(error: BaseException) -> bool:
    """Whether the database could not be asked: nothing is wrong with the input, try again later."""
    return is_unavailable(error) or isinstance(error, IntegrityError)


def input_problem(code: str, message: str) -> Problem:
    return Problem(kind="input", code=code, message=message)
