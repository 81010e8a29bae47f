"""The end of an organization, stage by stage: everybody locked out, a hold, accounts deleted, and what
was made for it in Auth0. Can be taken back until deletion begins.

Knows stages and counts; lanes and set-ups do what a stage asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Row, case, delete, func, select, update

from service.directory import (
    audit,
    ending,
    events,
    inbox,
    locks,
    organizations,
    outbox,
    places,
    setups,
)
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import columns, insert
from service.directory.inbox import Received
from service.directory.locks import Decommissioned
from service.directory.organizations import Registered
from service.errors import NotFound, Refused
from service.organizations import Organization
from service.outcomes.data import OrganizationDecommissioned

Stage = Literal["locking", "held", "kept", "deleting", "dismantling", "ended"]
DELETE: Final = "operator.decommission.delete"
UNDO: Final = "operator.decommission.undo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decommission:
    """``kept``: policy keeps accounts, so they stay, blocked, with all that they live in.
    ``hold_until``: when deletion begins. ``began_at``: what the hold counts from: when it was ended,
    or when what was kept was declared to be deleted.
    """

    organization: str
    stage: Stage
    accounts: int
    event_id: str
    deletion_event_id: str | None
    hold_until: datetime | None
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Users of an organization that have an account, by how far they are. ``left``: not done with
    yet in this stage; ``failed``: Auth0 refuses something, an operator must look.
    """

    housed: int
    left: int
    failed: int


def begin(transaction: Transaction, name: str, *, actor: str, now: datetime) -> Decommissioned:
    """Ends an organization, see ``locks.decommission``; one that ends already goes on where something
    stood in the way. Raises NotFound.
    """
    organizations.hold_declared(transaction)
    ended = locks.decommission(transaction, name, actor=actor, now=now)
    known = find(transaction, name)
    if known is not None:
        if known.stage == "dismantling":
            _ask_for_set_up(transaction, _registered(transaction, name), now)
        return ended
    # One that was ended by an earlier version has no event that could still be waited for.
    housed = locks.accounts_of(transaction, name)
    transaction.execute(
        insert(transaction, t.decommissions).values(
            organization=name,
            stage="locking",
            accounts=housed,
            event_id=ended.event_id or "",
            began_at=now,
            modified_at=now,
        )
    )
    _ask_for_set_up(transaction, _registered(transaction, name), now)  # nobody new comes in
    _tell(transaction, name, "locking", housed, None, now)
    return ended


def undo(transaction: Transaction, name: str, *, actor: str, now: datetime) -> str:
    """Takes the end of an organization back: its users come back in as their sources say. Tokens stay
    revoked. Returns the event that waits for all accounts.

    Raises NotFound; Refused where it has not ended, deletion has begun, or another organization has
    taken its place in Auth0.
    """
    organizations.hold_declared(transaction)
    known = hold(transaction, name)
    registered = _registered(transaction, name)
    if not registered.decommissioned:
        raise Refused(f"{name} is not decommissioned: there is nothing to take back.")
    if registered.deleting_at is not None:
        raise Refused(
            f"Deletion of {name} began at {registered.deleting_at}: it cannot be taken back."
            " Declare another organization."
        )
    places.require_own(transaction, registered)
    transaction.execute(
        update(t.organizations)
        .where(t.organizations.c.name == name)
        .values(decommissioned_at=None, modified_at=now, version=t.organizations.c.version + 1)
    )
    transaction.execute(delete(t.decommissions).where(t.decommissions.c.organization == name))
    ended_by = known.event_id if known is not None else ""
    # Before accounts, as everyone holds them who touches an event's users.
    transaction.execute(delete(t.fanouts).where(t.fanouts.c.event_id == ended_by))
    event_id = _touch(transaction, name, UNDO, now)
    ending.finish(transaction, ended_by, "superseded", now=now, by=event_id)
    _ask_for_set_up(transaction, registered, now)
    audit.record(
        transaction,
        actor=actor,
        action="organization.decommission_undo",
        now=now,
        organization=name,
        subject=name,
        detail={"event": event_id},
    )
    _tell(transaction, name, "undone", known.accounts if known is not None else 0, None, now)
    return event_id


def find(transaction: Transaction, name: str) -> Decommission | None:
    query = select(t.decommissions).where(t.decommissions.c.organization == name)
    row = transaction.execute(query).one_or_none()
    return _decommission(row) if row is not None else None


def hold(transaction: Transaction, name: str) -> Decommission | None:
    """As ``find``, kept from others until the transaction ends."""
    query = select(t.decommissions).where(t.decommissions.c.organization == name)
    row = transaction.execute(query.with_for_update()).one_or_none()
    return _decommission(row) if row is not None else None


def under_way(transaction: Transaction) -> list[str]:
    """Organizations whose end has stages before it."""
    query = select(t.decommissions.c.organization).where(t.decommissions.c.ended_at.is_(None))
    return list(transaction.execute(query.order_by(t.decommissions.c.organization)).scalars())


def progress(transaction: Transaction, name: str) -> Progress:
    pending = func.sum(case((t.users.c.state == "pending", 1), else_=0))
    failed = func.sum(case((t.users.c.state == "failed", 1), else_=0))
    row = transaction.execute(
        select(func.count(), pending, failed).where(
            t.users.c.organization == name, t.users.c.account_id.is_not(None)
        )
    ).one()
    known = find(transaction, name)
    events = [known.event_id, known.deletion_event_id or ""] if known is not None else []
    untouched = transaction.execute(
        select(func.count()).where(t.fanouts.c.event_id.in_(events))
    ).scalar_one()
    return Progress(housed=row[0], left=(row[1] or 0) + untouched, failed=row[2] or 0)


def advance(transaction: Transaction, name: str, now: datetime) -> Stage | None:
    """Goes on to the next stage where this one is over; None where it is not."""
    known = hold(transaction, name)
    registered = organizations.find(transaction, name)
    if known is None or registered is None or registered.decommissioned_at is None:
        return None
    hold_until = _hold_until(registered, known.began_at)
    following = _following(transaction, known, registered, hold_until, now)
    if following is None:
        if known.stage == "held" and known.hold_until != hold_until:  # declared anew
            _store(transaction, name, hold_until=hold_until, modified_at=now)
        return None
    values: dict[str, object] = {"stage": following, "hold_until": hold_until, "modified_at": now}
    match following:
        case "held" if known.stage == "kept":
            hold_until = _hold_until(registered, now)  # nobody had a day to take it back
            values |= {"hold_until": hold_until, "began_at": now}
        case "deleting":
            transaction.execute(
                update(t.organizations)
                .where(t.organizations.c.name == name)
                .values(deleting_at=now, modified_at=now)
            )
            values["deletion_event_id"] = _touch(transaction, name, DELETE, now)
        case "dismantling":
            _ask_for_set_up(transaction, registered, now)
        case "ended":
            values["ended_at"] = now
        case "locking" | "held" | "kept":
            pass
    _store(transaction, name, **values)
    _tell(
        transaction,
        name,
        following,
        known.accounts,
        hold_until if following == "held" else None,
        now,
    )
    return following


def _store(transaction: Transaction, name: str, **values: object) -> None:
    transaction.execute(
        update(t.decommissions).where(t.decommissions.c.organization == name).values(**values)
    )


def _following(
    transaction: Transaction,
    known: Decommission,
    registered: Registered,
    hold_until: datetime | None,
    now: datetime,
) -> Stage | None:
    match known.stage:
        case "locking" if _is_over(transaction, known.event_id, known.organization):
            return "held" if hold_until is not None else "kept"
        case "held" if hold_until is None:
            return "kept"  # the policy was declared anew
        case "kept" if hold_until is not None:
            return "held"
        case "held" if hold_until is not None and hold_until <= now:
            return "deleting"
        case "deleting":
            if not _is_over(transaction, known.deletion_event_id or "", known.organization):
                return None
            if _are_to_go(transaction, registered.organization):
                return None
            return "dismantling" if registered.organization.set_up.enabled else "ended"
        case "dismantling":
            state = setups.find(transaction, known.organization)
            is_over = state is None or state.verdict == "done"
            return "ended" if is_over or not registered.organization.set_up.enabled else None
        case _:
            return None


def _are_to_go(transaction: Transaction, organization: Organization) -> bool:
    """Whether an account is still to be deleted: never one of an identity provider, nor what became
    a part of another user: that one stays, and the set-up says who keeps the connection.
    """
    own = [
        each.name for each in organization.connections if organization.model_in(each) == "isolated"
    ]
    if not own:
        return False
    theirs = t.users.c.organization == organization.name
    lives_in = select(t.users.c.account_id).where(theirs)
    lived_in = (
        select(t.former_accounts.c.account_id)
        .join(t.users, t.users.c.id == t.former_accounts.c.user_id)
        .where(theirs)
    )
    of = t.accounts.c
    left = select(of.id).where(
        of.connection.in_(own),
        of.closed_at.is_(None),
        of.observed["linked"].as_boolean().is_not(True),
    )
    found = (left.where(of.id.in_(ids)).limit(1) for ids in (lives_in, lived_in))
    return any(transaction.execute(query).first() is not None for query in found)


def _hold_until(registered: Registered, since: datetime) -> datetime | None:
    policies = registered.organization.policies
    return since + policies.deletion_hold if policies.deletion == "delete" else None


def _is_over(transaction: Transaction, event_id: str, name: str) -> bool:
    """Whether the event has ended, and with it all accounts. Whoever Auth0 refuses is not forgotten."""
    state = transaction.execute(
        select(t.events.c.state).where(t.events.c.id == event_id)
    ).scalar_one_or_none()
    if state in events.OPEN:
        return False
    counted = progress(transaction, name)
    return counted.left == 0 and counted.failed == 0


def _touch(transaction: Transaction, name: str, kind: str, now: datetime) -> str:
    received = Received(door="operator", source=locks.SOURCE, type=kind, at=now)
    event_id = inbox.admit(transaction, received, name).event_id
    locks.touch_organization(transaction, name, event_id=event_id, now=now)
    return event_id


def _ask_for_set_up(transaction: Transaction, registered: Registered, now: datetime) -> None:
    organization = registered.organization
    if organization.set_up.enabled:
        setups.ask(transaction, organization.name, organization.tenant, now)


def _registered(transaction: Transaction, name: str) -> Registered:
    registered = organizations.find(transaction, name)
    if registered is None:
        raise NotFound(f"There is no organization {name}.")
    return registered


def _tell(
    transaction: Transaction,
    name: str,
    stage: Stage | Literal["undone"],
    accounts: int,
    hold_until: datetime | None,
    now: datetime,
) -> None:
    told = OrganizationDecommissioned(
        stage=stage,
        accounts=accounts,
        hold_until=hold_until.isoformat() if hold_until is not None else None,
    )
    outbox.emit(transaction, told, now=now, organization=name)


def _decommission(row: Row[Any]) -> Decommission:
    known = columns(row)
    return Decommission(**{name: known[name] for name in Decommission.__slots__})
