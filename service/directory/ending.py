"""What becomes of an accepted event: scheduled or staged, and the one ending that each of them gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    ARRAY,
    Text,
    any_,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    update,
)

from service.directory import many, outbox, responses
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among, columns
from service.directory.events import ONE_TRY, OPEN, Problem, Tries
from service.directory.outbox import Draft
from service.directory.prepared import Prepared
from service.directory.responses import Response
from service.directory.told import TOLD, Ended, ended_as, facts_of, responded
from service.outcomes.data import Data
from service.outcomes.endings import Comparison, EventScheduled, EventStaged, Exceeded

_Told = Mapping[str, Any]
"""An event's row: what its outcomes tell of it, by column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an event ends."""

    event_id: str
    ended: Ended
    now: datetime
    result: Literal["applied", "waiting", "held"] | None = None
    problem: Problem | None = None
    by: str | None = None
    """The event that it repeats, or that took its place."""
    tries: Tries = ONE_TRY
    compared: Comparison | None = None


def finish(
    transaction: Transaction,
    event_id: str,
    ended: Ended,
    *,
    now: datetime,
    result: Literal["applied", "waiting", "held"] | None = None,
    problem: Problem | None = None,
    by: str | None = None,
    tries: Tries = ONE_TRY,
    compared: Comparison | None = None,
) -> bool:
    """Ends an event, once: False (and nothing written) where it has ended before.

    ``by``: the event that it repeats, or that took its place. ``compared``: of a full export.
    """
    row = _FINISH.first(
        transaction,
        {
            "of": event_id,
            "state": ended,
            "result": result,
            "error": problem.as_document() if problem else None,
            "finished_at": now,
        },
    )
    if row is None:
        return False
    _END_WAITS.run(transaction, {"of": event_id})
    ending = Ending(
        event_id=event_id,
        ended=ended,
        now=now,
        result=result,
        problem=problem,
        by=by,
        tries=tries,
        compared=compared,
    )
    outbox.emit_many(transaction, [_draft_of(ending, row)])
    _respond(transaction, row, event_id, ended, problem, now)
    return True


def finish_many(transaction: Transaction, endings: Sequence[Ending]) -> None:
    """As ``finish``, of many events, told in this order."""
    if transaction.dialect.name != "postgresql" or len(endings) == 1:
        for each in endings:
            finish(
                transaction,
                each.event_id,
                each.ended,
                now=each.now,
                result=each.result,
                problem=each.problem,
                by=each.by,
                tries=each.tries,
                compared=each.compared,
            )
        return
    rows = [
        {
            "id": each.event_id,
            "state": each.ended,
            "result": each.result,
            "error": each.problem.as_document() if each.problem else None,
            "finished_at": each.now,
        }
        for each in endings
    ]
    if not rows:
        return
    found = _FINISH_MANY.all(transaction, many.arrays(t.events, rows))
    ended = {row["id"]: row for row in found}
    _END_WAITS_OF_MANY.run(transaction, {"of": list(ended)})
    told = [each for each in endings if each.event_id in ended]
    outbox.emit_many(transaction, [_draft_of(each, ended[each.event_id]) for each in told])
    for each in told:
        row = ended[each.event_id]
        _respond(transaction, row, each.event_id, each.ended, each.problem, each.now)


def _draft_of(ending: Ending, row: _Told) -> Draft:
    data = ended_as(
        ending.ended,
        facts_of(row, ending.now, ending.tries.count),
        state=ending.result,
        error=ending.problem.as_error() if ending.problem else None,
        by=ending.by,
        first_failed_at=ending.tries.first_failed_at,
        compared=ending.compared,
    )
    return _draft(row, ending.event_id, ending.now, data)


def promise(transaction: Transaction, event_id: str, response: Response, *, now: datetime) -> None:
    """Has the sender of a SCIM event told of its end, once; at once where it has ended already.

    For the transaction that admitted the event, whose headers it writes.
    """
    row = transaction.execute(
        update(t.events)
        .where(t.events.c.id == event_id)
        .values(headers=[response.as_header()])
        .returning(*TOLD, t.events.c.state, t.events.c.error)
    ).one()
    if row.state not in OPEN:
        problem = Problem.from_document(row.error) if row.error else None
        _respond(transaction, columns(row), event_id, row.state, problem, now)


def _respond(
    transaction: Transaction,
    row: _Told,
    event_id: str,
    ended: str,
    problem: Problem | None,
    now: datetime,
) -> None:
    # Of other doors the headers are what the producer sent.
    promised = responses.promised(row["headers"]) if row["door"] == "scim" else None
    if promised is not None:
        payload = responses.told(promised, ended, problem.as_document() if problem else None)
        data = responded(facts_of(row, now), payload)
        outbox.emit_many(transaction, [_draft(row, event_id, now, data)])


def conclude(
    transaction: Transaction,
    event_id: str,
    *,
    now: datetime,
    result: Literal["applied", "waiting", "held"],
    tries: Tries = ONE_TRY,
) -> None:
    """Ends an event that waits for no account any more: dead-lettered where one of them failed."""
    failure = transaction.execute(
        select(t.events.c.error).where(t.events.c.id == event_id)
    ).scalar_one()
    if failure is None:
        finish(transaction, event_id, "succeeded", now=now, result=result, tries=tries)
    else:
        problem = Problem.from_document(failure)
        finish(transaction, event_id, "deadlettered", now=now, problem=problem, tries=tries)


def pass_through(
    transaction: Transaction,
    event_id: str,
    state: Literal["scheduled", "staged"],
    *,
    now: datetime,
    threshold: Exceeded | None = None,
) -> None:
    """Marks an open event as scheduled or staged; its ending comes later."""
    row = transaction.execute(
        update(t.events)
        .where(t.events.c.id == event_id, t.events.c.state.in_(OPEN))
        .values(state=state)
        .returning(*TOLD)
    ).one_or_none()
    if row is not None:
        facts = facts_of(columns(row), now)
        told = (
            EventScheduled(**facts)
            if state == "scheduled"
            else EventStaged(**facts, threshold=threshold)
        )
        outbox.emit_many(transaction, [_draft(columns(row), event_id, now, told)])


def stage_many(
    transaction: Transaction, thresholds: Mapping[str, Exceeded], *, now: datetime
) -> None:
    """As ``pass_through`` of what is staged, of many events, told in this order."""
    rows = transaction.execute(
        update(t.events)
        .where(among(transaction, t.events.c.id, list(thresholds)), t.events.c.state.in_(OPEN))
        .values(state="staged")
        .returning(t.events.c.id, *TOLD)
    )
    staged = {row.id: columns(row) for row in rows}
    drafts = [
        _draft(row, event_id, now, EventStaged(**facts_of(row, now), threshold=threshold))
        for event_id, threshold in thresholds.items()
        if (row := staged.get(event_id)) is not None
    ]
    if drafts:
        outbox.emit_many(transaction, drafts)


def resume(
    transaction: Transaction, event_id: str, state: Literal["scheduled", "staged"] = "scheduled"
) -> bool:
    """Takes a scheduled or staged event up again; False where it has ended meanwhile."""
    return (
        transaction.execute(
            update(t.events)
            .where(t.events.c.id == event_id, t.events.c.state == state)
            .values(state="accepted")
            .returning(t.events.c.id)
        ).scalar_one_or_none()
        is not None
    )


def hold_those_free(transaction: Transaction, event_ids: Collection[str]) -> dict[str, str]:
    """The states of these events, held; without those that another transaction is about, an operator's
    who discards one, say.
    """
    found = transaction.execute(
        select(t.events.c.id, t.events.c.state)
        .where(among(transaction, t.events.c.id, sorted(event_ids)))
        .with_for_update(skip_locked=True)
    )
    return {row.id: row.state for row in found}


def resume_many(transaction: Transaction, users: Mapping[str, str]) -> None:
    """As ``resume``, of events by id, each with the user that it turned out to be about. What has
    been staged meanwhile stays so.
    """
    rows = [{"id": event_id, "user_id": user_id} for event_id, user_id in users.items()]
    many.write(transaction, t.events, rows)
    transaction.execute(
        update(t.events)
        .where(among(transaction, t.events.c.id, sorted(users)), t.events.c.state == "scheduled")
        .values(state="accepted")
    )


_FINISH: Final = Prepared(
    update(t.events)
    .where(
        t.events.c.id == bindparam("of"),
        t.events.c.state.in_([literal_column(f"'{state}'") for state in OPEN]),
    )
    .returning(*TOLD)
)


_ENDING: Final = ("id", "state", "result", "error", "finished_at")
_FINISH_MANY: Final = Prepared(
    text(
        "UPDATE events SET state = given.state, result = given.result, error = given.error::jsonb,"  # noqa: S608 - our own names
        " finished_at = given.finished_at"
        f" FROM {many.unnested(t.events, _ENDING)}"
        " WHERE events.id = given.id AND events.state = ANY (ARRAY['accepted', 'scheduled', 'staged'])"
        " RETURNING events.id, " + ", ".join(f'events."{column.name}"' for column in TOLD)
    ).columns(t.events.c.id, *TOLD)
)


_END_WAITS: Final = Prepared(delete(t.waits).where(t.waits.c.event_id == bindparam("of")))
_END_WAITS_OF_MANY: Final = Prepared(
    delete(t.waits).where(t.waits.c.event_id == any_(bindparam("of", type_=ARRAY(Text))))
)


def _draft(row: _Told, event_id: str, now: datetime, data: Data) -> Draft:
    return Draft(
        data=data,
        now=now,
        organization=row["organization"],
        user_id=row["user_id"],
        event_id=event_id,
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        tracestate=row["tracestate"],
        source=outbox.producer_key(row["source"]),
    )
