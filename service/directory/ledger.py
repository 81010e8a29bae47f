"""What must not happen twice: mails. Written as intended before, and as done after, for ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import insert
from service.ids import derived_id


def intend(
    transaction: Transaction,
    *,
    account_id: str,
    organization: str,
    user_id: str,
    kind: str,
    intent: str,
    now: datetime,
) -> bool:
    """Records that a mail is about to go out; False where it was intended before.

    ``intent``: what it is for, so that a new reason may send a new mail.
    """
    written = transaction.execute(
        insert(transaction, t.effects)
        .values(
            id=derived_id("effect", account_id, user_id, kind, intent),
            account_id=account_id,
            organization=organization,
            user_id=user_id,
            kind=kind,
            intent=intent,
            state="intended",
            at=now,
        )
        .on_conflict_do_nothing()
        .returning(t.effects.c.id)
    ).scalar_one_or_none()
    return written is not None


def withdraw(transaction: Transaction, account_id: str, intent: str) -> None:
    """The mail was certainly not handed over: it may be intended again."""
    transaction.execute(
        t.effects.delete().where(
            t.effects.c.account_id == account_id,
            t.effects.c.intent == intent,
            t.effects.c.state == "intended",
        )
    )


def done(transaction: Transaction, account_id: str, now: datetime) -> None:
    """The mail was handed over."""
    transaction.execute(
        update(t.effects)
        .where(t.effects.c.account_id == account_id, t.effects.c.state == "intended")
        .values(state="done", at=now)
    )


def doubt(transaction: Transaction, account_id: str, now: datetime) -> list[tuple[str, str]]:
    """Flags mails that were intended and never confirmed; (organization, user id) of each."""
    rows = transaction.execute(
        update(t.effects)
        .where(t.effects.c.account_id == account_id, t.effects.c.state == "intended")
        .values(state="doubtful", at=now)
        .returning(t.effects.c.organization, t.effects.c.user_id)
    )
    return [(row.organization, row.user_id) for row in rows]


def intended(transaction: Transaction, account_id: str, intent: str) -> bool:
    """Whether a mail for this has gone out from the account, or may have, to whichever user."""
    found = transaction.execute(
        select(t.effects.c.id).where(
            t.effects.c.account_id == account_id, t.effects.c.intent == intent
        )
    )
    return found.first() is not None
