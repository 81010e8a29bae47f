"""What the console's forms do: staged leavers let go or not, so many at a click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from sqlalchemy import select

from service.clock import Clock
from service.directory import staging
from service.directory import tables as t
from service.directory.database import Database, Transaction
from service.directory.results import Result

AT_ONCE = 500
"""So many leavers a click decides on, each in a transaction of its own: some seconds."""
_LONGEST = 10_000


class Unusable(Exception):
    """A form that no page of ours sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """``until``: the newest event that its page knew of; later ones nobody has seen."""

    organization: str
    approving: bool
    event_id: str | None
    until: int
    reason: str


def read(body: bytes) -> Decision:
    """A form as ``application/x-www-form-urlencoded``. Raises Unusable."""
    if len(body) > _LONGEST:
        raise Unusable
    try:
        given = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        return _decision({name: text.replace("\x00", "\ufffd") for name, text in given.items()})
    except (KeyError, ValueError) as error:
        raise Unusable from error


def _decision(given: Mapping[str, str]) -> Decision:
    if given["answer"] not in ("approve", "refuse"):
        raise Unusable
    return Decision(
        organization=given["organization"],
        approving=given["answer"] == "approve",
        event_id=given.get("event"),
        until=int(given["until"][:18]),
        reason=given.get("reason", "").strip(),
    )


async def carry_out(database: Database, clock: Clock, decision: Decision, actor: str) -> int:
    """How many leavers it decided on: of these organization's, and no more than ``AT_ONCE``."""

    def answer(tx: Transaction, event_id: str) -> Result:
        now = clock.now()
        if decision.approving:
            return staging.approve(tx, event_id, actor=actor, now=now)
        return staging.refuse(tx, event_id, actor=actor, now=now, reason=decision.reason)

    done = 0
    for event_id in await database.read(lambda tx: _meant(tx, decision)):
        result = await database.transact(lambda tx, it=event_id: answer(tx, it))
        done += result.verdict != "skipped"
    return done


def _meant(transaction: Transaction, decision: Decision) -> list[str]:
    query = select(t.events.c.id).where(
        t.events.c.state == "staged",
        t.events.c.organization == decision.organization,
        t.events.c.number <= decision.until,
    )
    if decision.event_id is not None:
        query = query.where(t.events.c.id == decision.event_id)
    return list(transaction.execute(query.order_by(t.events.c.number).limit(AT_ONCE)).scalars())
