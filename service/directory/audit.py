"""What operators did, for ever: written in the transaction that does it, or it is not done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One deed. ``actor`` is who did it, ``subject`` the id or name of what it was done to."""

    number: int
    at: datetime
    actor: str
    action: str
    organization: str | None
    subject: str | None
    detail: Mapping[str, Any]


def record(
    transaction: Transaction,
    *,
    actor: str,
    action: str,
    now: datetime,
    organization: str | None = None,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Writes an entry. ``action`` is ``noun.verb``, such as ``user.block``."""
    transaction.execute(
        t.audit.insert().values(
            at=now,
            actor=actor,
            action=action,
            organization=organization,
            subject=subject,
            detail=dict(detail or {}),
        )
    )


def listing(
    transaction: Transaction,
    *,
    organization: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    limit: int = 200,
) -> list[Entry]:
    """The newest entries, oldest of them first."""
    query = select(t.audit)
    if organization is not None:
        query = query.where(t.audit.c.organization == organization)
    if subject is not None:
        query = query.where(t.audit.c.subject == subject)
    if since is not None:
        query = query.where(t.audit.c.at >= since)
    rows = transaction.execute(query.order_by(t.audit.c.number.desc()).limit(limit)).all()
    return [Entry(**columns(row)) for row in reversed(rows)]
