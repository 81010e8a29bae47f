"""Setting aside: an operator ends an open event for good, or has done with one that ended in trouble."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from service.directory import audit, ending, enrichments, events, sequels, staging
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import Problem
from service.directory.results import Result
from service.directory.sequels import SET_ASIDE, TROUBLE


def examine(transaction: Transaction, event_id: str) -> Result:
    """What ``discard`` would answer, with nothing done. Raises NotFound."""
    event = events.require(transaction, event_id)
    if event.state == "staged":
        return staging.examine(transaction, event_id, approving=False)
    if event.state in events.OPEN:
        return Result(event_id=event.id, verdict="discarded", reason="it has not ended yet")
    if event.state not in TROUBLE:
        said = f"It has ended as {event.state}: there is nothing to discard."
        return Result(event_id=event.id, verdict="skipped", reason=said)
    if not sequels.needs_operator(transaction, event.id):
        said = "It was replayed or set aside before."
        return Result(event_id=event.id, verdict="skipped", reason=said)
    return Result(event_id=event.id, verdict="set-aside", reason=f"it has ended as {event.state}")


def discard(
    transaction: Transaction, event_id: str, *, reason: str, actor: str, now: datetime
) -> Result:
    """Ends an open event as ``discarded``; one that ended in trouble is set aside.

    What has ended stays as it ended: setting aside only takes it off the list of trouble. What an
    accepted event has written to desired state stays too. A staged leaver is refused. Raises NotFound.
    """
    if events.require(transaction, event_id).state == "staged":
        return staging.refuse(transaction, event_id, actor=actor, now=now, reason=reason)
    event = events.lock(transaction, event_id)
    result = examine(transaction, event.id)
    match result.verdict:
        case "discarded":
            transaction.execute(t.schedule.delete().where(t.schedule.c.event_id == event.id))
            enrichments.forget(transaction, event.id)
            problem = Problem(
                kind="operator", code="discarded", message="An operator discarded this event."
            )
            ending.finish(transaction, event.id, "discarded", now=now, problem=problem)
            action = "event.discard"
        case "set-aside":
            action = SET_ASIDE
        case _:
            return result
    audit.record(
        transaction,
        actor=actor,
        action=action,
        now=now,
        organization=event.organization,
        subject=event.id,
        detail={"reason": reason, "state": event.state},
    )
    return replace(result, reason=reason)
