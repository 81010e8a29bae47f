"""Open events that do not come to an end, and ended ones whose accounts are tried in vain since: how
often, since when, and what is in the way. Reads only.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, or_, select

from service.directory import events
from service.directory import tables as t
from service.directory.database import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Struggle:
    """``tries``: those that failed. ``since``: the first of them; None where none was made, or the
    event had ended before."""

    tries: int
    since: datetime | None
    reason: str

    def __str__(self) -> str:
        tries = "1 try" if self.tries == 1 else f"{self.tries} tries"
        return f"{tries}: {self.reason}" if self.tries else self.reason


def struggling() -> ColumnElement[bool]:
    """A condition on events: open, and something was tried for it in vain or may not be tried; or the
    newest one of a user whose account is tried in vain though nothing waits for it."""
    waiting = (
        select(t.waits.c.event_id)
        .join(t.accounts, t.accounts.c.id == t.waits.c.account_id)
        .join(t.tenants, t.tenants.c.name == t.accounts.c.tenant)
        .where(or_(t.waits.c.failures > 0, t.tenants.c.paused_at.is_not(None)))
    )
    asking = select(t.enrichments.c.event_id).where(t.enrichments.c.attempts > 0)
    is_open = t.events.c.state.in_(events.OPEN) & or_(
        t.events.c.id.in_(waiting), t.events.c.id.in_(asking)
    )
    newest = select(t.users.c.last_event_id).where(
        t.users.c.last_event_id.is_not(None), _by_itself()
    )
    of = t.accounts.c.id
    living = t.users.join(t.accounts, of == t.users.c.account_id)
    former = t.users.join(t.former_accounts, t.former_accounts.c.user_id == t.users.c.id).join(
        t.accounts, of == t.former_accounts.c.account_id
    )
    return or_(
        is_open, *(t.events.c.id.in_(newest.select_from(where)) for where in (living, former))
    )


def _by_itself() -> ColumnElement[bool]:
    """A condition on accounts: tried in vain, and no event waits. As held deletions are, and blocks
    that are put back."""
    of = t.accounts.c
    waits = select(t.waits.c.event_id).where(t.waits.c.account_id == of.id)
    return of.due_at.is_not(None) & (of.attempts > 0) & ~waits.exists()


def of_events(transaction: Transaction, event_ids: Collection[str]) -> dict[str, Struggle]:
    """By event id; an event that waits for several accounts shows the one most often tried."""
    if not event_ids:
        return {}
    known = _asking(transaction, event_ids) | _waiting(transaction, event_ids)
    return _later(transaction, [each for each in event_ids if each not in known]) | known


def _later(transaction: Transaction, event_ids: Collection[str]) -> dict[str, Struggle]:
    """Of events of one user each: others have too many to ask for."""
    newest = (t.users.c.id == t.events.c.user_id) & (t.users.c.last_event_id == t.events.c.id)
    of = t.accounts.c
    asked = select(t.events.c.id, of.attempts, of.error["message"].as_string()).where(
        t.events.c.id.in_(event_ids), _by_itself()
    )
    theirs = t.events.join(t.users, newest)
    lives_in = theirs.join(t.accounts, of.id == t.users.c.account_id)
    lived_in = theirs.join(t.former_accounts, t.former_accounts.c.user_id == t.users.c.id).join(
        t.accounts, of.id == t.former_accounts.c.account_id
    )
    found: dict[str, Struggle] = {}
    for where in (lived_in, lives_in):
        for event_id, attempts, message in transaction.execute(asked.select_from(where)).tuples():
            found[event_id] = Struggle(tries=attempts, since=None, reason=message or "")
    return found


def _waiting(transaction: Transaction, event_ids: Collection[str]) -> dict[str, Struggle]:
    found: dict[str, Struggle] = {}
    for event_id in event_ids:  # one by one: an event may wait for a hundred thousand accounts
        row = transaction.execute(
            select(
                t.waits.c.failures,
                t.waits.c.failed_at,
                t.accounts.c.error["message"].as_string().label("message"),
                t.tenants.c.name.label("tenant"),
                t.tenants.c.paused_at,
            )
            .join(t.accounts, t.accounts.c.id == t.waits.c.account_id)
            .join(t.tenants, t.tenants.c.name == t.accounts.c.tenant)
            .where(
                t.waits.c.event_id == event_id,
                or_(t.waits.c.failures > 0, t.tenants.c.paused_at.is_not(None)),
            )
            .order_by(t.waits.c.failures.desc(), t.waits.c.account_id)
            .limit(1)
        ).one_or_none()
        if row is not None:
            paused = f"tenant {row.tenant} is paused: see 'provisioner doctor'"
            found[event_id] = Struggle(
                tries=row.failures,
                since=row.failed_at or row.paused_at,
                reason=paused if row.paused_at is not None else row.message or "",
            )
    return found


def _asking(transaction: Transaction, event_ids: Collection[str]) -> dict[str, Struggle]:
    asked = t.enrichments.c
    rows = transaction.execute(
        select(
            asked.event_id, asked.attempts, asked.since, asked.error["message"].as_string()
        ).where(asked.event_id.in_(list(event_ids)), asked.attempts > 0)
    )
    return {
        event_id: Struggle(tries=attempts, since=since, reason=f"asking HR: {message or ''}")
        for event_id, attempts, since, message in rows.tuples()
    }
