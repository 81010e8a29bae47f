"""What followed events that ended in trouble: replays, setting aside, or nothing yet."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, select

from service.directory import events
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.events import Event

REPLAY: Final = "operator.replay"
TROUBLE: Final = ("deadlettered", "rejected")
SET_ASIDE: Final = "event.set_aside"
"""The audit log's word for taking an event off the list of trouble."""


def needs_operator(transaction: Transaction, event_id: str) -> bool:
    """Whether an event ended in trouble and was neither replayed nor set aside."""
    query = select(t.events.c.id).where(t.events.c.id == event_id, unattended())
    return transaction.execute(query).first() is not None


def replays_of(transaction: Transaction, event_id: str) -> list[Event]:
    """The events that replay this one, oldest first."""
    rows = transaction.execute(
        select(t.events)
        .where(t.events.c.causation_id == event_id, t.events.c.type == REPLAY)
        .order_by(t.events.c.number)
    )
    return [events.as_event(row) for row in rows]


def unattended() -> ColumnElement[bool]:
    """A condition on events: ended in trouble, neither replayed nor set aside."""
    later = t.events.alias("replays")
    replayed = select(later.c.id).where(
        later.c.causation_id == t.events.c.id, later.c.type == REPLAY
    )
    aside = select(t.audit.c.number).where(
        t.audit.c.subject == t.events.c.id, t.audit.c.action == SET_ASIDE
    )
    return and_(t.events.c.state.in_(TROUBLE), ~replayed.exists(), ~aside.exists())


def origin(transaction: Transaction, event: Event) -> Event:
    """The event that a chain of replays began with: its bytes are what is read."""
    return _back(transaction, event)[-1]


def chain(transaction: Transaction, event_id: str) -> list[Event]:
    """An event, what it replays, and so on back to the input that came from outside."""
    event = events.get(transaction, event_id)
    return _back(transaction, event) if event is not None else []


def _back(transaction: Transaction, event: Event) -> list[Event]:
    back = [event]
    while event.type == REPLAY and event.causation_id is not None:
        earlier = events.get(transaction, event.causation_id)
        if earlier is None:
            break
        event = earlier
        back.append(event)
    return back
