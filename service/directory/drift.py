"""Compares of Auth0 with what we know: asked for, how far they are, and what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, update

from service.directory import tables as t
from service.directory.accounts import Account, of_row
from service.directory.database import Transaction
from service.directory.dialect import among, insert
from service.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One compare of a tenant, or of one organization in it. ``progress``: phase, done and total."""

    id: str
    tenant: str
    organization: str | None
    correct: bool
    asked_by: str
    progress: Mapping[str, Any]
    result: Mapping[str, int] | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that differs. ``subject``: an account's id, or Auth0's id of a user that is none of
    ours. ``aspect``: ``account``, ``unknown`` or ``membership`` with the Organization's name."""

    tenant: str
    subject: str
    aspect: str
    organization: str | None
    user_id: str | None
    auth0_user_id: str
    detail: Mapping[str, Any]
    check_id: str
    correcting: bool
    found_at: datetime


def ask(
    transaction: Transaction,
    tenant: str,
    organization: str | None,
    *,
    correct: bool,
    asked_by: str,
    now: datetime,
) -> str:
    """Has the owner of the tenant compare; the check's id."""
    check_id = new_id(now)
    transaction.execute(
        t.drift_checks.insert().values(
            id=check_id,
            tenant=tenant,
            organization=organization,
            correct=correct,
            asked_by=asked_by,
            progress={"phase": "waiting", "done": 0, "total": 0},
            created_at=now,
        )
    )
    return check_id


def get(transaction: Transaction, check_id: str) -> Check | None:
    row = transaction.execute(select(t.drift_checks).where(t.drift_checks.c.id == check_id))
    found = row.mappings().first()
    return Check(**found) if found is not None else None


def next_open(transaction: Transaction, tenant: str) -> Check | None:
    """The oldest one that has not ended."""
    of = t.drift_checks.c
    query = select(t.drift_checks).where(of.tenant == tenant, of.ended_at.is_(None))
    found = transaction.execute(query.order_by(of.created_at).limit(1)).mappings().first()
    return Check(**found) if found is not None else None


def newest(transaction: Transaction, tenant: str, organization: str) -> Check | None:
    """The latest one of an organization, alone or with its whole tenant."""
    of = t.drift_checks.c
    query = select(t.drift_checks).where(
        of.tenant == tenant, or_(of.organization == organization, of.organization.is_(None))
    )
    found = transaction.execute(query.order_by(of.created_at.desc()).limit(1)).mappings().first()
    return Check(**found) if found is not None else None


def was_asked_since(transaction: Transaction, tenant: str, by: str, since: datetime) -> bool:
    of = t.drift_checks.c
    query = select(of.id).where(of.tenant == tenant, of.created_at > since, of.asked_by == by)
    return transaction.execute(query.limit(1)).first() is not None


def store(transaction: Transaction, check_id: str, **values: Any) -> None:
    transaction.execute(
        update(t.drift_checks).where(t.drift_checks.c.id == check_id).values(**values)
    )


def accounts_after(
    transaction: Transaction, tenant: str, connection: str, after: str, limit: int
) -> list[Account]:
    """Open accounts of a connection by address."""
    of = t.accounts.c
    rows = transaction.execute(
        select(t.accounts)
        .where(
            of.tenant == tenant,
            of.connection == connection,
            of.identifier > after,
            of.closed_at.is_(None),
        )
        .order_by(of.identifier)
        .limit(limit)
    )
    return [of_row(row) for row in rows.mappings()]


def residents_after(
    transaction: Transaction, organization: str, after: str, limit: int
) -> list[tuple[str, Account]]:
    """Users of an organization, by id, each with the account: a stretch of an index made for it."""
    rows = transaction.execute(
        select(t.users.c.id.label("resident"), t.accounts)
        .join(t.accounts, t.accounts.c.id == t.users.c.account_id)
        .where(
            t.users.c.organization == organization,
            t.users.c.id > after,
            t.users.c.account_id.is_not(None),
        )
        .order_by(t.users.c.id)
        .limit(limit)
    )
    return [(row["resident"], of_row(row)) for row in rows.mappings()]


def accounts_of(
    transaction: Transaction, organization: str, account_ids: Sequence[str]
) -> set[str]:
    """Which of these accounts somebody of the organization lives in, or lived in."""
    users, former = t.users.c, t.former_accounts.c
    # By account alone: asked for the organization too, SQLite reads everybody in it.
    here = select(users.account_id, users.organization).where(
        among(transaction, users.account_id, account_ids)
    )
    before = (
        select(former.account_id, users.organization)
        .join(t.users, users.id == former.user_id)
        .where(among(transaction, former.account_id, account_ids))
    )
    return {
        row.account_id
        for query in (here, before)
        for row in transaction.execute(query)
        if row.organization == organization
    }


def known_users(transaction: Transaction, tenant: str, user_ids: Sequence[str]) -> dict[str, bool]:
    """Which of these users of Auth0 are accounts of ours, and whether somebody answers for them: not
    for those that were deleted.
    """
    of = t.accounts.c
    query = select(of.user_id, of.closed_at).where(
        of.tenant == tenant, among(transaction, of.user_id, user_ids)
    )
    known: dict[str, bool] = {}
    for row in transaction.execute(query):
        known[row.user_id] = known.get(row.user_id, False) or row.closed_at is None
    return known


def find(transaction: Transaction, finding: Finding) -> bool:
    """Keeps a finding; whether it is new, or another than it was."""
    of = t.drift_findings.c
    key = (
        of.tenant == finding.tenant,
        of.subject == finding.subject,
        of.aspect == finding.aspect,
    )
    known = transaction.execute(
        select(of.detail).where(*key).with_for_update()
    ).scalar_one_or_none()
    values = {name: getattr(finding, name) for name in Finding.__slots__}
    if known is None:
        made = insert(transaction, t.drift_findings).values(**values).on_conflict_do_nothing()
        transaction.execute(made)
        return True
    changed = dict(known) != dict(finding.detail)
    if not changed:
        del values["found_at"]
    transaction.execute(update(t.drift_findings).where(*key).values(**values))
    return changed


def forget(transaction: Transaction, tenant: str, aspect: str, subjects: Sequence[str]) -> None:
    """These do not differ any more; what is being corrected is told of first."""
    of = t.drift_findings.c
    transaction.execute(
        t.drift_findings.delete().where(
            of.tenant == tenant,
            of.aspect == aspect,
            of.correcting.is_(False),
            among(transaction, of.subject, subjects),
        )
    )


def forget_unseen(transaction: Transaction, check: Check, connection: str) -> None:
    """Unknown users of a connection that this check has not seen again."""
    of = t.drift_findings.c
    transaction.execute(
        t.drift_findings.delete().where(
            of.tenant == check.tenant,
            of.aspect == f"unknown:{connection}",
            of.check_id != check.id,
        )
    )


def drop(transaction: Transaction, finding: Finding) -> None:
    of = t.drift_findings.c
    transaction.execute(
        t.drift_findings.delete().where(
            of.tenant == finding.tenant,
            of.subject == finding.subject,
            of.aspect == finding.aspect,
        )
    )


def give_up(transaction: Transaction, finding: Finding) -> None:
    """It could not be corrected: it stays as found."""
    of = t.drift_findings.c
    transaction.execute(
        update(t.drift_findings)
        .where(
            of.tenant == finding.tenant,
            of.subject == finding.subject,
            of.aspect == finding.aspect,
        )
        .values(correcting=False)
    )


def being_corrected(transaction: Transaction, tenant: str, limit: int) -> list[Finding]:
    of = t.drift_findings.c
    rows = transaction.execute(
        select(t.drift_findings).where(of.tenant == tenant, of.correcting).limit(limit)
    )
    return [Finding(**row) for row in rows.mappings()]


def listing(
    transaction: Transaction, tenant: str, organization: str | None, limit: int
) -> list[Finding]:
    """What differs, the oldest first."""
    of = t.drift_findings.c
    query = select(t.drift_findings).where(of.tenant == tenant)
    if organization is not None:
        query = query.where(of.organization == organization)
    rows = transaction.execute(query.order_by(of.found_at, of.subject).limit(limit))
    return [Finding(**row) for row in rows.mappings()]
