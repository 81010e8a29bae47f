"""Many inputs through the inbox at once: in order, each of them once, known ones told apart.

What an input means is not known here; ``service.directory.inbox`` has the rules for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.directory import inbox, many
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.ending import Ending
from service.directory.inbox import Admission, Received
from service.directory.many import LookUp
from service.ids import new_ids

_Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An input at the door, whose it is, and whom it is about where that is known."""

    received: Received
    organization: str | None
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What became of inputs at the door, in order; and how those end that repeat an id.

    The endings are the caller's to write, last of all: they are told under the organization's key, and
    whoever tells something under a key keeps all others who do so waiting until the transaction ends.
    """

    admissions: Sequence[Admission]
    endings: Sequence[Ending]


def admit_many(transaction: Transaction, arrivals: Sequence[Arrival]) -> Admitted:
    """As ``inbox.admit``, of each of them in order. Duplicates are numbered after what is new."""
    ids = new_ids(arrivals[0].received.at, len(arrivals)) if arrivals else []
    rows = [
        inbox.row_of(each.received, each.received.id or event_id, each.organization, each.user_id)
        for event_id, each in zip(ids, arrivals, strict=True)
    ]
    stored = many.insert_unknown(transaction, t.events, rows, (t.events.c.id, t.events.c.number))
    admitted = {
        row["id"]: Admission(verdict="new", event_id=row["id"], number=row["number"])
        for row in stored
    }
    endings: list[Ending] = []
    if len(admitted) < len(rows):
        endings = _admit_known(transaction, arrivals, rows, admitted)
    return Admitted(admissions=[admitted[row["id"]] for row in rows], endings=endings)


def _admit_known(
    transaction: Transaction,
    arrivals: Sequence[Arrival],
    rows: Sequence[_Row],
    admitted: dict[str, Admission],
) -> list[Ending]:
    """Adds what becomes of inputs whose offset or id is known, by the id that each would have had."""
    known: list[tuple[Received, _Row]] = [
        (each.received, {**row, "user_id": None})
        for each, row in zip(arrivals, rows, strict=True)
        if row["id"] not in admitted
    ]
    _redelivered(transaction, [row for _, row in known], admitted)
    unplaced = [row for _, row in known if row["id"] not in admitted]
    endings = _repeated(transaction, unplaced, admitted)
    for received, row in known:
        if row["id"] not in admitted:
            admitted[row["id"]], ending = inbox.admit_known(transaction, received, row)
            endings += [ending] if ending is not None else []
    return endings


def _redelivered(
    transaction: Transaction, rows: Sequence[_Row], admitted: dict[str, Admission]
) -> None:
    placed = [row for row in rows if row["topic"] is not None]
    for at, found in _AT_OFFSET.all(transaction, _values(placed, _OFFSET)):
        admitted[placed[at]["id"]] = Admission(verdict="redelivery", event_id=found["id"])


def _repeated(
    transaction: Transaction, rows: Sequence[_Row], admitted: dict[str, Admission]
) -> list[Ending]:
    """Duplicates. An id that came with another body is left to the way for one."""
    owned = [row for row in rows if row["organization"] and row["source_id"]]
    earlier = dict(_BY_SOURCE_ID.all(transaction, _values(owned, _ID)))
    same: list[_Row] = [
        {**row, "source_id": None, "causation_id": earlier[place]["id"]}
        for place, row in enumerate(owned)
        if place in earlier
        and (earlier[place]["type"], earlier[place]["body_hash"]) == (row["type"], row["body_hash"])
    ]
    stored = many.insert_unknown(transaction, t.events, same, (t.events.c.id, t.events.c.number))
    numbers = {row["id"]: row["number"] for row in stored}
    for event_id, number in numbers.items():
        admitted[event_id] = Admission(verdict="duplicate", event_id=event_id, number=number)
    return [
        Ending(
            event_id=row["id"],
            ended="duplicate",
            now=row["accepted_at"],
            by=row["causation_id"],
        )
        for row in same
        if row["id"] in numbers
    ]


def _values(rows: Sequence[_Row], names: Sequence[str]) -> list[list[Any]]:
    return [[row[name] for name in names] for row in rows]


_OFFSET: Final = ("topic", "partition", "offset", "body_hash")
_ID: Final = ("organization", "source", "source_id")
_AT_OFFSET: Final = LookUp(t.events, _OFFSET, ("id",))
_BY_SOURCE_ID: Final = LookUp(t.events, _ID, ("id", "type", "body_hash"))
