"""Stores the inputs of one partition: together where that works, else as far as it goes.

A bad input ends as a dead letter; a fault of the database never does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from consumers.admission import (
    Crashed,
    Input,
    NotUnderstood,
    Taken,
    input_problem,
    take,
    transact,
)
from consumers.faults import place_of
from service.directory import fuses
from service.directory.database import Database, Transaction, is_unavailable
from service.directory.fuses import Blown, WouldBlow
from service.errors import Refused

_log = structlog.stdlib.get_logger(__name__)
_ATTEMPTS_BEFORE_DEAD_LETTER: Final = 2
_PORTION: Final = 1000
"""Inputs of one transaction, about: polls are no larger, but a record may be split into many."""
_TELLING: Final = ("new", "conflict")
"""Verdicts that tell something of the source: a repeat of what was here before does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """How many inputs, from the first on, are durable; and what stopped at the one after them."""

    count: int
    stopped_by: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse:
    """How many inputs of a source may fail one after the other. ``limit`` 0: any number."""

    source: str
    limit: int


def portions(records: Sequence[Sequence[Input]]) -> Iterator[list[Sequence[Input]]]:
    """Records in a row, each with its inputs, in portions that one transaction takes in. Pure.

    A record is never cut in two, though one alone may have more than a portion.
    """
    portion: list[Sequence[Input]] = []
    count = 0
    for each in records:
        if portion and count + len(each) > _PORTION:
            yield portion
            portion, count = [], 0
        portion.append(each)
        count += len(each)
    if portion:
        yield portion


def whole_records(portion: Sequence[Sequence[Input]], stored: int) -> int:
    """How many records, from the first on, are durable with all of their inputs. Pure.

    The inputs of the next one that are durable already are redeliveries when it comes again.
    """
    for index, each in enumerate(portion):
        stored -= len(each)
        if stored < 0:
            return index
    return len(portion)


async def store(database: Database, inputs: Sequence[Input], fuse: Fuse | None = None) -> Stored:
    """One transaction for all; where it fails for a reason of its inputs, one for each.

    Ends with Blown behind the input that blows the fuse, and before the first where it is blown.
    """
    try:
        await _commit(database, inputs, fuse)
    except WouldBlow as blows:
        some = await store(database, inputs[: blows.index + 1], fuse)
        return some if some.stopped_by else Stored(count=some.count, stopped_by=Blown())
    except Exception as error:
        if is_unavailable(error) or isinstance(error, Blown):
            return Stored(count=0, stopped_by=error)
    else:
        return Stored(count=len(inputs))
    for count, each in enumerate(inputs):
        try:
            await _store_alone(database, each, fuse)
        except Exception as error:
            return Stored(count=count, stopped_by=error)
    return Stored(count=len(inputs))


async def _store_alone(database: Database, each: Input, fuse: Fuse | None) -> None:
    problem = ("", "")
    for _ in range(_ATTEMPTS_BEFORE_DEAD_LETTER):
        try:
            await _commit(database, [each], fuse)
        except Refused as refused:
            problem = ("cannot_be_stored", str(refused))
        except Crashed as crash:
            received = each.received
            _log.error(
                "intake.crash",
                topic=received.topic,
                partition=received.partition,
                offset=received.offset,
                error=place_of(crash),
            )
            problem = ("intake_crash", "Taking this event in failed: mend that, then replay.")
        else:
            return
    dead = NotUnderstood(
        organization=each.organization,
        ended="deadlettered",
        problem=input_problem(*problem),
        received=each.received,
        attempts=_ATTEMPTS_BEFORE_DEAD_LETTER,
    )
    await _commit(database, [dead], fuse)


def telling(taken: Sequence[Taken]) -> list[str | None]:
    """The events that a fuse counts: None for what tells nothing of the source. Pure."""
    return [each.event_id if each.verdict in _TELLING else None for each in taken]


async def _commit(database: Database, inputs: Sequence[Input], fuse: Fuse | None) -> None:
    def work(transaction: Transaction) -> None:
        if fuse is None or not fuse.limit:
            take(transaction, inputs)
            return
        failures = fuses.check(transaction, fuse.source)
        taken = take(transaction, inputs)
        fuses.count(
            transaction,
            fuse.source,
            telling(taken),
            failures=failures,
            limit=fuse.limit,
            now=inputs[-1].received.at,
        )

    await transact(database, work)
