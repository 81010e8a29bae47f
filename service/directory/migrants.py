"""People who come from another system with their password: each hash, sealed, beside its account until
the import has answered, and what became of it. Cannot open a hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, delete, func, select, update

from service.directory import tables as t
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.dialect import among, insert
from service.ids import derived_id

MigrantState = Literal["waiting", "created", "already_there", "refused"]
LEFT: Final = "Left before the import: never created."
REFUSED: Final = ("import_row_refused", "import_failed", "seal_broken")
"""The codes of events whose person no import brought, and whose hash is erased."""
_BROUGHT: Final = "import"
"""The kind of effect that says that a password came with the account: no link is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrant:
    """One person of a file. ``line``: of the file. ``run``: the same for the same file."""

    account_id: str
    organization: str
    user_id: str
    run: str
    line: int
    state: MigrantState
    reason: str | None
    tries: int
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One file of an organization: how many of its people are in which state."""

    organization: str
    run: str
    began_at: datetime
    ended_at: datetime | None
    waiting: int
    created: int
    already_there: int
    refused: int


def expect(
    transaction: Transaction,
    account: Account,
    *,
    organization: str,
    user_id: str,
    run: str,
    line: int,
    sealed: bytes,
    now: datetime,
) -> None:
    """Keeps a sealed hash for an account. The person has a password then: no link is due to them."""
    values = {
        "account_id": account.id,
        "organization": organization,
        "user_id": user_id,
        "run": run,
        "line": line,
        "sealed": sealed,
        "state": "waiting",
        "reason": None,
        "tries": 0,
        "created_at": now,
        "ended_at": None,
    }
    transaction.execute(
        insert(transaction, t.migrants)
        .values(**values)
        .on_conflict_do_update(index_elements=["account_id"], set_=values)
    )
    transaction.execute(
        insert(transaction, t.effects)
        .values(
            id=derived_id("effect", account.id, user_id, _BROUGHT, account.user_id),
            account_id=account.id,
            organization=organization,
            user_id=user_id,
            kind=_BROUGHT,
            intent=account.user_id,
            state="done",
            ended="accepted",
            at=now,
        )
        .on_conflict_do_nothing()
    )


def waiting_among(transaction: Transaction, account_ids: Sequence[str]) -> dict[str, int]:
    """Those of these accounts whose hash waits: how many files it was in that did not bring it."""
    if not account_ids:
        return {}
    rows = transaction.execute(
        select(t.migrants.c.account_id, t.migrants.c.tries).where(
            among(transaction, t.migrants.c.account_id, account_ids),
            t.migrants.c.state == "waiting",
        )
    )
    return {row.account_id: row.tries for row in rows}


def sealed_among(transaction: Transaction, account_ids: Sequence[str]) -> dict[str, bytes]:
    """The sealed hashes of these accounts that wait."""
    if not account_ids:
        return {}
    rows = transaction.execute(
        select(t.migrants.c.account_id, t.migrants.c.sealed).where(
            among(transaction, t.migrants.c.account_id, account_ids),
            t.migrants.c.state == "waiting",
        )
    )
    return {row.account_id: row.sealed for row in rows if row.sealed is not None}


def end(
    transaction: Transaction,
    account_ids: Iterable[str],
    state: MigrantState,
    now: datetime,
    *,
    reason: str | None = None,
) -> None:
    """What became of these people, once; their hashes are erased. Does nothing to others."""
    ids = sorted(account_ids)
    if not ids:
        return
    ended = transaction.execute(
        update(t.migrants)
        .where(among(transaction, t.migrants.c.account_id, ids), t.migrants.c.state == "waiting")
        .values(state=state, reason=reason, sealed=None, ended_at=now)
        .returning(t.migrants.c.account_id)
    ).scalars()
    without = list(ended.all()) if state != "created" else []
    if without:  # they have no password by us: what policy says of links holds again
        transaction.execute(
            delete(t.effects).where(
                among(transaction, t.effects.c.account_id, without), t.effects.c.kind == _BROUGHT
            )
        )


def whose(transaction: Transaction, account_id: str) -> str | None:
    """The organization whose file brought the account, last."""
    query = select(t.migrants.c.organization).where(t.migrants.c.account_id == account_id)
    return transaction.execute(query).scalar_one_or_none()


def count_try(transaction: Transaction, account_id: str) -> None:
    """A file with this hash did not bring the account, nor say why."""
    transaction.execute(
        update(t.migrants)
        .where(t.migrants.c.account_id == account_id)
        .values(tries=t.migrants.c.tries + 1)
    )


def of_run(
    transaction: Transaction, organization: str, run: str, *, after: int = -1, most: int = 1000
) -> list[Migrant]:
    """By line, those behind a line."""
    columns = [t.migrants.c[name] for name in Migrant.__slots__]
    rows = transaction.execute(
        select(*columns)
        .where(
            t.migrants.c.organization == organization,
            t.migrants.c.run == run,
            t.migrants.c.line > after,
        )
        .order_by(t.migrants.c.line)
        .limit(most)
    )
    return [Migrant(**row) for row in rows.mappings()]


def of_users(transaction: Transaction, user_ids: Sequence[str]) -> dict[str, Migrant]:
    """By user, those of these users who came so."""
    if not user_ids:
        return {}
    columns = [t.migrants.c[name] for name in Migrant.__slots__]
    rows = transaction.execute(
        select(*columns)
        .select_from(t.users.join(t.migrants, t.migrants.c.account_id == t.users.c.account_id))
        .where(among(transaction, t.users.c.id, user_ids), t.migrants.c.user_id == t.users.c.id)
    )
    return {row["user_id"]: Migrant(**row) for row in rows.mappings()}


def unbrought() -> ColumnElement[bool]:
    """A condition on users: an import was to bring them with their password and did not, they are
    nowhere in Auth0, and nothing newer asks for them: whoever made them now would make them without.
    """
    of, account = t.users.c, t.accounts.c
    refused = select(t.events.c.id).where(
        t.events.c.id == of.last_event_id, t.events.c.error["code"].as_string().in_(REFUSED)
    )
    there = select(account.id).where(
        account.id == of.account_id, account.observed["presence"].as_string() == "present"
    )
    return refused.exists() & ~there.exists()


def is_unbrought(transaction: Transaction, user_id: str) -> bool:
    """Whether ``unbrought`` holds of this user."""
    query = select(t.users.c.id).where(t.users.c.id == user_id, unbrought())
    return transaction.execute(query).first() is not None


def runs(transaction: Transaction, organization: str | None = None) -> list[Run]:
    """The newest first."""
    of = t.migrants.c
    query = select(
        of.organization,
        of.run,
        of.state,
        func.count().label("people"),
        func.min(of.created_at).label("began_at"),
        func.max(of.ended_at).label("ended_at"),
    ).group_by(of.organization, of.run, of.state)
    if organization is not None:
        query = query.where(of.organization == organization)
    found: dict[tuple[str, str], dict[str, dict[Any, Any]]] = {}
    for row in transaction.execute(query).mappings():
        by_state = found.setdefault((row["organization"], row["run"]), {})
        by_state[row["state"]] = dict(row)
    told = [_run(name, run, by_state) for (name, run), by_state in found.items()]
    return sorted(told, key=lambda each: each.began_at, reverse=True)


def counts(transaction: Transaction, organization: str, run: str) -> dict[str, int]:
    """How many of a run's people are in which state."""
    of = t.migrants.c
    rows = transaction.execute(
        select(of.state, func.count())
        .where(of.organization == organization, of.run == run)
        .group_by(of.state)
    )
    return {row[0]: row[1] for row in rows}


def forget_old(transaction: Transaction, before: datetime) -> None:
    """Drops what ended long ago."""
    transaction.execute(delete(t.migrants).where(t.migrants.c.ended_at < before))


def _run(organization: str, run: str, by_state: Mapping[str, Mapping[Any, Any]]) -> Run:
    def count(state: MigrantState) -> int:
        row = by_state.get(state)
        return row["people"] if row is not None else 0

    ended = [row["ended_at"] for row in by_state.values() if row["ended_at"] is not None]
    waiting = count("waiting")
    return Run(
        organization=organization,
        run=run,
        began_at=min(row["began_at"] for row in by_state.values()),
        ended_at=None if waiting else max(ended, default=None),
        waiting=waiting,
        created=count("created"),
        already_there=count("already_there"),
        refused=count("refused"),
    )
