"""What events would do to an installation: taken in by the real acceptance, planned by the real planner,
and undone. Nothing of it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from consumers.admission import Understood, take
from consumers.mappings.canonical import Mapped
from operators import showing
from operators.declaring import the_organization
from service.directory import events, people
from service.directory.database import Database, Transaction
from service.directory.events import Event, EventState
from service.directory.inbox import Received

MOST: Final = 1000
"""Events of one rehearsal: it holds what it touches until it is undone."""
_SOURCE: Final = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What one event would bring. ``event``: ``applied``, the state that it would be in,
    or ``unknown``.

    ``causes``: why the person would be out. ``operations``: what would be done in Auth0 then, in
    order, as far as it can be told before Auth0 is asked.
    """

    event: EventState | str
    detail: str = ""
    user: str | None = None
    causes: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()


class _Undone(Exception):
    """Carries what was seen out of the transaction that it undoes."""

    def __init__(self, seen: list[Rehearsed]) -> None:
        super().__init__("a rehearsal is never kept")
        self.seen = seen


async def rehearse(
    database: Database, organization: str, events: Sequence[Mapped], *, now: datetime
) -> list[Rehearsed]:
    """What each event would do, one after the other: a later one finds what an earlier one left.

    Raises NotFound where there is no such organization.
    """

    def work(transaction: Transaction) -> None:
        the_organization(transaction, organization)
        raise _Undone([_one(transaction, organization, each, now) for each in events])

    try:
        await database.transact(work)
    except _Undone as undone:
        return undone.seen
    raise AssertionError("a rehearsal ends by being undone")


def _one(transaction: Transaction, organization: str, mapped: Mapped, now: datetime) -> Rehearsed:
    if mapped.organization not in (None, organization):
        return Rehearsed(
            event="rejected", detail=f"it names the organization {mapped.organization}"
        )
    if mapped.enrich == "required":
        told = "it only names the worker, who must be fetched first: see enrichment of its source"
        return Rehearsed(event="unknown", detail=told)
    event = mapped.event
    received = Received(
        door="http", source=_SOURCE, type=event.type, at=now, effective_at=event.effective_at
    )
    understood = Understood(organization=organization, event=event, received=received)
    (taken,) = take(transaction, [understood])
    stored = events.get(transaction, taken.event_id)
    assert stored is not None
    user = people.get(transaction, stored.user_id) if stored.user_id is not None else None
    if user is None:
        return Rehearsed(event=_state(stored), detail=_detail(stored))
    shown = showing.user(transaction, user, now)
    return Rehearsed(
        event=_state(stored),
        detail=_detail(stored),
        user=user.id if user.created_at != now else None,
        causes=tuple(shown.causes),
        operations=tuple(shown.plan),
    )


def _state(event: Event) -> str:
    """``applied`` where it has reached desired state: what is left is Auth0's part."""
    return "applied" if event.state in ("accepted", "succeeded") else event.state


def _detail(event: Event) -> str:
    if event.state == "scheduled" and event.effective_at is not None:
        return f"until {event.effective_at.isoformat()}"
    if event.error is not None:
        return str(event.error.get("message", ""))
    return event.result or ""
