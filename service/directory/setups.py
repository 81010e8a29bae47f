"""How organizations are to be set up in Auth0: asked for, due, seen, refused. One row for each.

Knows nothing of Auth0: what was seen, the plan and what is in doubt are documents of
service.provisioning.setup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import columns, insert


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUpState:
    """How far an organization's set-up is. ``plan``: what is left, as text. ``error``: ``class``,
    ``message`` and ``problems``, each with ``code``, ``message`` and ``advice``.
    """

    organization: str
    tenant: str
    revision: int
    applied_revision: int
    observed: Mapping[str, Any] | None
    observed_at: datetime | None
    plan: Sequence[str] | None
    doubt: Mapping[str, Any] | None
    changed: bool
    error: Mapping[str, Any] | None
    administrator: Mapping[str, Any] | None
    attempts: int
    due_at: datetime | None

    @property
    def verdict(self) -> str:
        """``done``, ``refused``, ``retrying`` or ``pending``."""
        if self.error is not None:
            return "retrying" if self.error["class"] == "transient" else "refused"
        return "done" if self.applied_revision == self.revision else "pending"


def ask(transaction: Transaction, organization: str, tenant: str, now: datetime) -> int:
    """Has the set-up read and brought to what is declared, at once; the revision that this makes."""
    anew = {"tenant": tenant, "due_at": now, "attempts": 0, "error": None, "modified_at": now}
    return transaction.execute(
        insert(transaction, t.setups)
        .values(organization=organization, revision=1, **anew)
        .on_conflict_do_update(
            index_elements=["organization"], set_={**anew, "revision": t.setups.c.revision + 1}
        )
        .returning(t.setups.c.revision)
    ).scalar_one()


def forget(transaction: Transaction, organization: str) -> None:
    """Lets a set-up be that is no longer ours to see to."""
    transaction.execute(
        update(t.setups)
        .where(t.setups.c.organization == organization)
        .values(due_at=None, error=None, plan=None)
    )


def due(transaction: Transaction, tenant: str, *, now: datetime, limit: int) -> list[str]:
    """Organizations of a tenant whose set-up is to be worked now, the longest due first."""
    return list(
        transaction.execute(
            select(t.setups.c.organization)
            .where(t.setups.c.tenant == tenant, t.setups.c.due_at <= now)
            .order_by(t.setups.c.due_at)
            .limit(limit)
        ).scalars()
    )


def find(transaction: Transaction, organization: str) -> SetUpState | None:
    return _first(transaction, organization, hold=False)


def hold(transaction: Transaction, organization: str) -> SetUpState | None:
    """As ``find``, kept from others until the transaction ends."""
    return _first(transaction, organization, hold=True)


def every(transaction: Transaction) -> list[SetUpState]:
    query = select(t.setups).order_by(t.setups.c.organization)
    return [_state(row) for row in transaction.execute(query)]


def in_trouble(transaction: Transaction) -> int:
    """How many are refused, or tried in vain so far. One row for each organization: few."""
    query = select(func.count()).select_from(t.setups).where(t.setups.c.error.is_not(None))
    return transaction.execute(query).scalar_one()


def store(transaction: Transaction, organization: str, now: datetime, **values: Any) -> None:
    """Writes columns of a set-up."""
    transaction.execute(
        update(t.setups)
        .where(t.setups.c.organization == organization)
        .values(modified_at=now, **values)
    )


def administrator_of(transaction: Transaction, organization: str) -> str | None:
    """The id of the user who is the organization's first administrator."""
    query = select(t.setups.c.administrator).where(t.setups.c.organization == organization)
    known: Mapping[str, Any] | None = transaction.execute(query).scalar_one_or_none()
    return known["user_id"] if known else None


def _first(transaction: Transaction, organization: str, *, hold: bool) -> SetUpState | None:
    query = select(t.setups).where(t.setups.c.organization == organization)
    row = transaction.execute(query.with_for_update() if hold else query).one_or_none()
    return _state(row) if row is not None else None


def _state(row: Row[Any]) -> SetUpState:
    known = columns(row)
    return SetUpState(**{name: known[name] for name in SetUpState.__slots__})
