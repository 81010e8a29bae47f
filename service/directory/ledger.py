"""What must not happen twice: mails and invitations. Written as intended before, as done after, for
ever; with whom they went to and until when they are open. Never a link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import bindparam, case, select, update

from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import insert
from service.directory.prepared import Prepared
from service.ids import derived_id

Way = Literal["ticket", "auth0-mail", "invitation", "import"]
"""How a person is invited: by a mail of ours, by Auth0's own, or into an Organization. ``import``: not
at all, as their password came with them."""
Ended = Literal["accepted", "expired", "withdrawn"]

DEFAULT_LIFETIME: Final = timedelta(days=5)
"""How long a ticket lives where nothing else is known: Auth0's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One mail that went out, may have, or is wanted by an operator.

    ``at``: when it came to ``state`` or ended. ``reference``: Auth0's id of an invitation, None
    where its answer was lost. ``event_id``: the operator's event that asked for it.
    """

    id: str
    organization: str
    user_id: str
    kind: Way
    intent: str
    state: Literal["wanted", "intended", "done", "doubtful"]
    at: datetime
    event_id: str | None = None
    address: str | None = None
    auth0_organization: str | None = None
    reference: str | None = None
    expires_at: datetime | None = None
    ended: Ended | None = None

    @property
    def open_until(self) -> datetime:
        return self.expires_at or self.at + DEFAULT_LIFETIME

    def is_open(self, now: datetime) -> bool:
        """Whether somebody may still follow its link."""
        return self.state != "wanted" and self.ended is None and self.open_until > now


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A mail that is about to go out. ``intent``: what it is for, so that a new reason may send a
    new mail."""

    account_id: str
    organization: str
    user_id: str
    kind: Way
    intent: str
    address: str | None = None
    auth0_organization: str | None = None
    expires_at: datetime | None = None

    @property
    def id(self) -> str:
        """The same one for the same intent."""
        return derived_id("effect", self.account_id, self.user_id, self.kind, self.intent)


def of_account(transaction: Transaction, account_id: str) -> tuple[Sent, ...]:
    """Everything that was sent or is wanted for an account, oldest first."""
    rows = _OF_ACCOUNT.all(transaction, {"account": account_id})
    return tuple(Sent(**{name: row[name] for name in Sent.__slots__}) for row in rows)


_OF_ACCOUNT: Final = Prepared(
    select(*(t.effects.c[name] for name in Sent.__slots__))
    .where(t.effects.c.account_id == bindparam("account"))
    .order_by(t.effects.c.at, t.effects.c.id)
)


def want(transaction: Transaction, wanted: Intent, event_id: str, now: datetime) -> None:
    """Records that an operator wants one more."""
    transaction.execute(
        t.effects.insert().values(**_columns(wanted), state="wanted", event_id=event_id, at=now)
    )


def intend(transaction: Transaction, intent: Intent, now: datetime) -> bool:
    """Records that a mail is about to go out; False where it was intended before."""
    values = {**_columns(intent), "state": "intended", "at": now}
    written = transaction.execute(
        insert(transaction, t.effects)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["id"], set_=values, where=t.effects.c.state == "wanted"
        )
        .returning(t.effects.c.id)
    ).scalar_one_or_none()
    return written is not None


def _columns(intent: Intent) -> Mapping[str, Any]:
    return {name: getattr(intent, name) for name in (*Intent.__slots__, "id")}


def withdraw(transaction: Transaction, account_id: str, intent: str) -> None:
    """The mail was certainly not handed over: it may be intended again."""
    here = (
        t.effects.c.account_id == account_id,
        t.effects.c.intent == intent,
        t.effects.c.state == "intended",
    )
    transaction.execute(t.effects.delete().where(*here, t.effects.c.event_id.is_(None)))
    transaction.execute(update(t.effects).where(*here).values(state="wanted", expires_at=None))


def done(
    transaction: Transaction, account_id: str, now: datetime, *, reference: str | None = None
) -> None:
    """The mail was handed over."""
    transaction.execute(
        update(t.effects)
        .where(t.effects.c.account_id == account_id, t.effects.c.state == "intended")
        .values(state="done", at=now, reference=reference)
    )


def doubt(transaction: Transaction, account_id: str, now: datetime) -> list[tuple[str, str, Way]]:
    """Flags mails that were intended and never confirmed; organization, user id and way of each."""
    rows = transaction.execute(
        update(t.effects)
        .where(t.effects.c.account_id == account_id, t.effects.c.state == "intended")
        .values(state="doubtful", at=now)
        .returning(t.effects.c.organization, t.effects.c.user_id, t.effects.c.kind)
    )
    return [(row.organization, row.user_id, row.kind) for row in rows]


def refer(transaction: Transaction, found: Mapping[str, str]) -> None:
    """Keeps Auth0's ids of invitations whose answers were lost, by our ids."""
    if found:
        transaction.execute(
            update(t.effects)
            .where(t.effects.c.id.in_(found))
            .values(reference=case(found, value=t.effects.c.id))
        )


def end(transaction: Transaction, ended: Mapping[str, Ended], now: datetime) -> None:
    """Nobody can follow these links any more, by our ids."""
    if ended:
        transaction.execute(
            update(t.effects)
            .where(t.effects.c.id.in_(ended), t.effects.c.ended.is_(None))
            .values(ended=case(dict(ended), value=t.effects.c.id), at=now)
        )


def forget_wanted(transaction: Transaction, account_id: str, user_id: str) -> None:
    """What an operator had wanted for this user is not sent any more."""
    transaction.execute(
        t.effects.delete().where(
            t.effects.c.account_id == account_id,
            t.effects.c.user_id == user_id,
            t.effects.c.state == "wanted",
        )
    )
