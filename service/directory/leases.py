"""Who works a tenant's lanes: one owner at a time, fenced; and whether the tenant is paused.

Knows no Auth0 and no accounts. The clocks of owners may differ by much less than a lease.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, case, or_, select, update

from service.directory import outbox
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import among
from service.errors import LostLease
from service.outcomes.data import Error, TenantPaused, TenantResumed


def claim_tenant(
    transaction: Transaction, tenant: str, owner: str, now: datetime, lease: timedelta
) -> int | None:
    """The fence, where the tenant is free, expired, or this owner's already; else None.

    The fence grows with each change of owner; an owner that claims again keeps its own. ``owner``
    names one run of one process: a process that starts anew must choose another name, so that it
    reads what its former self left in doubt. ``instance#run`` takes over from an earlier run of the
    same instance at once, since whoever names instances promises that only one of them runs. None
    also for a tenant that is not configured.
    """
    instance, named, _ = owner.partition("#")
    predecessor = t.tenants.c.owner.startswith(f"{instance}#", autoescape=True)
    return transaction.execute(
        update(t.tenants)
        .where(
            t.tenants.c.name == tenant,
            or_(
                t.tenants.c.owner.is_(None),
                t.tenants.c.owner == owner,
                t.tenants.c.lease_until <= now,
                *([predecessor] if named else []),
            ),
        )
        .values(
            fence=t.tenants.c.fence + case((t.tenants.c.owner == owner, 0), else_=1),
            owner=owner,
            lease_until=now + lease,
        )
        .returning(t.tenants.c.fence)
    ).scalar_one_or_none()


def renew(
    transaction: Transaction,
    tenant: str,
    owner: str,
    fence: int,
    now: datetime,
    lease: timedelta,
) -> bool:
    """Lengthens a lease to ``now + lease``; False where another owner has the tenant by now."""
    return (
        transaction.execute(
            update(t.tenants)
            .where(*_held_by(tenant, owner, fence))
            .values(lease_until=now + lease)
            .returning(t.tenants.c.fence)
        ).scalar_one_or_none()
        is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A lease that is to be lengthened until ``until``."""

    tenant: str
    owner: str
    fence: int
    until: datetime


def renew_together(transaction: Transaction, renewals: Sequence[Renewal]) -> list[bool]:
    """Lengthens leases that fall due at the same moment; of each, whether it is still the owner's."""
    kept: dict[tuple[str, str], int] = {}
    for owner in sorted({each.owner for each in renewals}):
        theirs = [each for each in renewals if each.owner == owner]
        rows = transaction.execute(
            update(t.tenants)
            .where(
                t.tenants.c.owner == owner,
                among(transaction, t.tenants.c.name, sorted(each.tenant for each in theirs)),
                # Another fence is that of a lease which the same owner has claimed anew.
                t.tenants.c.fence >= min(each.fence for each in theirs),
            )
            .values(lease_until=max(each.until for each in theirs))
            .returning(t.tenants.c.name, t.tenants.c.fence)
        )
        kept |= {(row.name, owner): row.fence for row in rows}
    return [kept.get((each.tenant, each.owner)) == each.fence for each in renewals]


def release(transaction: Transaction, tenant: str, owner: str, fence: int) -> None:
    """Lets the next owner in at once. Does nothing where the lease is already another's."""
    transaction.execute(
        update(t.tenants)
        .where(*_held_by(tenant, owner, fence))
        .values(owner=None, lease_until=None)
    )


def holds(transaction: Transaction, tenant: str, owner: str, fence: int, now: datetime) -> bool:
    """Whether this owner's lease is still running: asked before a call to Auth0."""
    return (
        transaction.execute(
            select(t.tenants.c.fence).where(
                *_held_by(tenant, owner, fence), t.tenants.c.lease_until > now
            )
        ).scalar_one_or_none()
        is not None
    )


def worked(transaction: Transaction, now: datetime) -> frozenset[str]:
    """The tenants that some process works now."""
    query = select(t.tenants.c.name).where(
        t.tenants.c.owner.is_not(None), t.tenants.c.lease_until > now
    )
    return frozenset(transaction.execute(query).scalars())


def require(transaction: Transaction, tenant: str, fence: int) -> None:
    """Raises LostLease unless this fence is the newest one and was not released.

    Keeps a new owner from claiming until this transaction ends, so that nothing is written behind
    its back. Lanes of one owner share the lock. Pause a tenant in a transaction without this, or
    before it: two lanes that both hold the lock would wait for each other.
    """
    current = transaction.execute(
        select(t.tenants.c.fence)
        .where(
            t.tenants.c.name == tenant,
            t.tenants.c.fence == fence,
            t.tenants.c.owner.is_not(None),
        )
        .with_for_update(read=True)
    ).scalar_one_or_none()
    if current is None:
        raise LostLease


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Why nothing is sent to a tenant. ``resume_at`` None: until someone resumes it."""

    since: datetime
    reason: str
    resume_at: datetime | None


def pause_tenant(
    transaction: Transaction,
    tenant: str,
    reason: str,
    now: datetime,
    resume_at: datetime | None,
    *,
    status: int | None = None,
) -> bool:
    """Pauses a tenant, with outcome ``tenant.paused``: once, and True only then.

    A tenant that is paused already takes the newer reason and ``resume_at`` in silence. ``reason`` is
    for operators, in Auth0's words: it is not published. ``status``: what Auth0 answered.
    """
    here = t.tenants.c.name == tenant
    told = {"pause_reason": reason, "resume_at": resume_at}
    first = transaction.execute(
        update(t.tenants)
        .where(here, t.tenants.c.paused_at.is_(None))
        .values(paused_at=now, **told)
        .returning(t.tenants.c.name)
    ).scalar_one_or_none()
    if first is None:
        transaction.execute(update(t.tenants).where(here).values(**told))
        return False
    error = _REFUSALS.get(status or 0, _REFUSAL)
    data = TenantPaused(
        tenant=tenant,
        reason=error.message,
        error=dataclasses.replace(error, http_status=status),
        resume_at=resume_at.isoformat() if resume_at else None,
    )
    outbox.emit(transaction, data, now=now, source=_key(tenant))
    return True


_ASK: Final = "'provisioner doctor' says what to mend."
_REFUSAL: Final = Error(
    kind="tenant",
    code="tenant_refused",
    message=f"Auth0 takes none of our calls to this tenant: {_ASK}",
    http_status=None,
)
_REFUSALS: Final = {
    401: dataclasses.replace(
        _REFUSAL,
        code="credentials_refused",
        message=f"Auth0 refuses our credentials for this tenant: {_ASK}",
    ),
    403: dataclasses.replace(
        _REFUSAL,
        code="calls_forbidden",
        message=f"Auth0 forbids what we ask of this tenant: {_ASK}",
    ),
}
"""Our own words by Auth0's status: those of Auth0 may name people, clients and addresses."""


def resume_tenant(transaction: Transaction, tenant: str, now: datetime) -> bool:
    """Ends a pause, with outcome ``tenant.resumed``; False where there was none."""
    resumed = transaction.execute(
        update(t.tenants)
        .where(t.tenants.c.name == tenant, t.tenants.c.paused_at.is_not(None))
        .values(paused_at=None, pause_reason=None, resume_at=None)
        .returning(t.tenants.c.name)
    ).scalar_one_or_none()
    if resumed is None:
        return False
    outbox.emit(transaction, TenantResumed(tenant=tenant), now=now, source=_key(tenant))
    return True


def paused(transaction: Transaction, tenant: str) -> Pause | None:
    """The pause as stored. One whose ``resume_at`` has passed lasts until ``resume_tenant``."""
    row = transaction.execute(
        select(t.tenants.c.paused_at, t.tenants.c.pause_reason, t.tenants.c.resume_at).where(
            t.tenants.c.name == tenant, t.tenants.c.paused_at.is_not(None)
        )
    ).one_or_none()
    if row is None:
        return None
    return Pause(since=row.paused_at, reason=row.pause_reason, resume_at=row.resume_at)


def _held_by(tenant: str, owner: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (t.tenants.c.name == tenant, t.tenants.c.owner == owner, t.tenants.c.fence == fence)


def _key(tenant: str) -> str:
    """A tenant's own sequence of outcomes: its bare name could be an organization's too."""
    return f"tenant:{tenant}"
