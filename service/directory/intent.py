"""From a changed user to work for the lanes: which account it is, and who waits for it.

Runs inside the transaction that changed the user, so that accepting an event and marking the
account due are one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Select, Text, column, func, literal, or_, select, update

from service.directory import accounts, inbox, people
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.inbox import Problem
from service.directory.organizations import Registered
from service.people import State, User, identifier_of, is_wanted

_AT_ONCE: Final = 5000
NO_ADDRESS = (
    "No e-mail address: send a primary e-mail, or a userName that is an address, and the user is"
    " provisioned."
)
_IN_USE = Problem(
    kind="conflict",
    code="identifier_in_use",
    message="Another user of this organization holds this address: change one of the two.",
)
_LEFT_BEHIND = Problem(
    kind="conflict",
    code="identifier_of_former_user",
    message=(
        "This address belonged to a user who was deleted. Addresses are recycled, so an operator"
        " decides: release the former user, or send the same externalId to bring that person back."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    account_id: str | None = None
    problem: Problem | None = None


def settle(
    transaction: Transaction,
    user_id: str,
    *,
    registered: Registered,
    event_id: str,
    was_wanted: bool,
    now: datetime,
) -> User:
    """Turns what a user's row now says into an account that is due, or ends the event at once.

    ``was_wanted``: whether the person was in before the change; going out or coming back in makes
    the user's older open events moot.
    """
    user = people.lock(transaction, user_id)
    assert user is not None
    organization = registered.organization
    wanted = is_wanted(user, organization, decommissioned=registered.decommissioned)
    identifier = identifier_of(user, organization)
    people.store(transaction, user.id, identifier=identifier, last_event_id=event_id)
    claim = _account_of(transaction, user, identifier, registered, wanted=wanted, now=now)
    if claim.problem is not None:
        inbox.finish(transaction, event_id, "deadlettered", now=now, problem=claim.problem)
        _status(transaction, user.id, "failed", claim.problem.message)
    elif claim.account_id is None:
        _nothing_to_do(transaction, user.id, event_id, wanted=wanted, now=now)
    else:
        if wanted != was_wanted:
            supersede_open(transaction, user.id, by=event_id, now=now)
        await_account(transaction, claim.account_id, user.id, event_id, leaver=not wanted, now=now)
    settled = people.get(transaction, user_id)
    assert settled is not None
    return settled


def _account_of(
    transaction: Transaction,
    user: User,
    identifier: str | None,
    registered: Registered,
    *,
    wanted: bool,
    now: datetime,
) -> _Claim:
    if user.account_id is None:
        if not wanted or identifier is None:
            return _Claim()
        return _claim(transaction, user, identifier, registered, now)
    account = accounts.lock(transaction, user.account_id)
    assert account is not None
    follows = registered.organization.model == "isolated"
    if wanted and follows and identifier is not None and identifier != account.identifier:
        held = accounts.find_open(transaction, account.tenant, account.connection, identifier)
        if held is not None:
            return _Claim(problem=_IN_USE)
        accounts.store(transaction, account.id, now, identifier=identifier)
    return _Claim(account_id=account.id)


def _claim(
    transaction: Transaction, user: User, identifier: str, registered: Registered, now: datetime
) -> _Claim:
    """The account for an address: joined in the shared model, opened where nobody has it."""
    organization = registered.organization
    holder = transaction.execute(
        select(t.users.c.id, t.users.c.deleted_at).where(
            t.users.c.organization == user.organization,
            t.users.c.identifier == identifier,
            t.users.c.id != user.id,
            t.users.c.account_id.is_not(None),
        )
    ).first()
    if holder is not None:
        return _Claim(problem=_LEFT_BEHIND if holder.deleted_at is not None else _IN_USE)
    connection = organization.connection_for(identifier).name
    where = (transaction, organization.tenant, connection, identifier)
    account_id = accounts.find_open(*where)
    if account_id is not None and organization.model == "isolated":
        return _Claim(problem=_IN_USE)
    if account_id is None:
        account_id = accounts.open_account(*where, now) or accounts.find_open(*where)
    assert account_id is not None
    people.store(transaction, user.id, account_id=account_id)
    return _Claim(account_id=account_id)


def _nothing_to_do(
    transaction: Transaction, user_id: str, event_id: str, *, wanted: bool, now: datetime
) -> None:
    """Auth0 need not hear of this: nobody to create yet, or nobody left to block."""
    result: Literal["applied", "waiting"] = "waiting" if wanted else "applied"
    inbox.finish(transaction, event_id, "succeeded", now=now, result=result)
    if wanted:
        _status(transaction, user_id, "waiting", NO_ADDRESS)
    else:
        _status(transaction, user_id, "applied", None, applied_at=now)


def await_account(
    transaction: Transaction,
    account_id: str,
    user_id: str,
    event_id: str,
    *,
    leaver: bool,
    now: datetime,
) -> None:
    """Marks the account due and lets the event wait for the revision that this asks for."""
    revision = accounts.touch(transaction, account_id, leaver=leaver, now=now)
    transaction.execute(
        t.waits.insert().values(
            event_id=event_id, account_id=account_id, user_id=user_id, revision=revision
        )
    )
    _status(transaction, user_id, "pending", None)


def touch_users(
    transaction: Transaction,
    user_ids: Sequence[str],
    *,
    event_id: str,
    now: datetime,
) -> int:
    """Lets an event wait for the accounts of many users, as after a change of a group.

    Ends the event at once where none of them has an account. Returns the number of waits.
    """
    touched = 0
    distinct = list(dict.fromkeys(user_ids))
    for start in range(0, len(distinct), _AT_ONCE):
        touched += _touch_some(transaction, distinct[start : start + _AT_ONCE], event_id, now)
    if touched == 0:
        inbox.finish(transaction, event_id, "succeeded", now=now, result="applied")
    return touched


def _touch_some(
    transaction: Transaction, user_ids: Sequence[str], event_id: str, now: datetime
) -> int:
    listed = id_list(transaction, user_ids)
    housed = (
        select(t.users.c.id, t.users.c.account_id)
        .join(t.accounts, t.accounts.c.id == t.users.c.account_id)
        .where(t.users.c.id.in_(listed), t.accounts.c.closed_at.is_(None))
    )
    # Locked in one order everywhere, so that two changes do not wait for each other.
    in_order = (
        select(t.accounts.c.id)
        .where(t.accounts.c.id.in_(select(housed.subquery().c.account_id)))
        .order_by(t.accounts.c.id)
        .with_for_update()
    )
    transaction.execute(
        update(t.accounts)
        .where(t.accounts.c.id.in_(in_order))
        .values(
            revision=t.accounts.c.revision + 1,
            due_at=now,
            attempts=0,
            error=None,
            modified_at=now,
        )
    )
    waiting = transaction.execute(
        t.waits.insert().from_select(
            ["event_id", "account_id", "user_id", "revision"],
            select(literal(event_id), t.accounts.c.id, t.users.c.id, t.accounts.c.revision)
            .select_from(t.users)
            .join(t.accounts, t.accounts.c.id == t.users.c.account_id)
            .where(t.users.c.id.in_(listed), t.accounts.c.closed_at.is_(None)),
        )
    )
    transaction.execute(
        update(t.users)
        .where(t.users.c.id.in_(select(housed.subquery().c.id)))
        .values(state="pending", detail=None)
    )
    return waiting.rowcount


def id_list(transaction: Transaction, ids: Iterable[str]) -> Select[tuple[str]]:
    """Ids as a sub-query of one bound value, however many they are."""
    listed = literal(list(ids), t.Document)
    if transaction.dialect.name == "postgresql":
        rows = func.jsonb_array_elements_text(listed).table_valued(column("value", Text))
    else:
        rows = func.json_each(listed).table_valued(column("value", Text))
    return select(rows.c.value)


def supersede_open(transaction: Transaction, user_id: str, *, by: str, now: datetime) -> None:
    """Ends a user's own older open events: a newer one made them moot."""
    older = transaction.execute(
        select(t.events.c.id)
        .where(
            t.events.c.user_id == user_id,
            t.events.c.state == "accepted",
            t.events.c.id != by,
            or_(t.events.c.id.in_(select(t.waits.c.event_id).where(t.waits.c.user_id == user_id))),
        )
        .order_by(t.events.c.number)
    ).scalars()
    for event_id in older.all():
        inbox.finish(transaction, event_id, "superseded", now=now, data={"supersededBy": by})


def _status(
    transaction: Transaction,
    user_id: str,
    state: State,
    detail: str | None,
    *,
    applied_at: datetime | None = None,
) -> None:
    values = {"state": state, "detail": detail}
    if applied_at is not None:
        values |= {"last_applied_at": applied_at}
    transaction.execute(update(t.users).where(t.users.c.id == user_id).values(**values))
