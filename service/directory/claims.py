"""Which account an address gets in a connection, and who of the organization stands in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, select

from service.directory import accounts, moves
from service.directory import tables as t
from service.directory.database import Transaction
from service.directory.dialect import hold, hold_all
from service.directory.events import Problem
from service.directory.many import LookUp
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.organizations import Connection
from service.people import User

IN_USE: Final = Problem(
    kind="conflict",
    code="identifier_in_use",
    message="Another user of this organization holds this address: change one of the two.",
)
_LEFT_BEHIND: Final = Problem(
    kind="conflict",
    code="identifier_of_former_user",
    message=(
        "This address belonged to a user who was deleted. Addresses are recycled, so an operator"
        " decides: 'provisioner user release' for the former user and a replay of this event, or"
        " the same externalId, which brings that person back."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The account that a user has from now on. ``opened``: made just now, due for revision 1."""

    account_id: str | None = None
    opened: bool = False
    problem: Problem | None = None


def claim(
    transaction: Transaction,
    user: User,
    identifier: str,
    registered: Registered,
    connection: Connection,
    now: datetime,
) -> Claim:
    """The account for an address: the one that the person had there, joined in the shared model,
    opened where nobody has it.
    """
    organization = registered.organization
    problem = held_by_another(transaction, user, identifier, organization.tenant)
    if problem is not None:
        return Claim(problem=problem)
    model = organization.model_in(connection)
    where = (transaction, organization.tenant, connection.name, identifier)
    mine = moves.had(transaction, user.id, organization.tenant, connection.name)
    if mine is not None:
        known = accounts.find_open(*where)
        if known == mine.id or (known is None and model != "shared"):
            moves.forget(transaction, user.id, mine.id)
            accounts.store(transaction, mine.id, now, identifier=identifier)
            return Claim(account_id=mine.id)
    opened = accounts.open_account(*where, now)
    if opened is not None:
        return Claim(account_id=opened, opened=True)
    account_id = accounts.find_open(*where)
    if account_id is None:  # closed since: then the address is free
        return claim(transaction, user, identifier, registered, connection, now)
    problem = why_held(transaction, user, account_id)
    if problem is not None or model == "isolated":
        return Claim(problem=problem or IN_USE)
    return Claim(account_id=account_id)


def held_by_another(
    transaction: Transaction, user: User, identifier: str, tenant: str
) -> Problem | None:
    """Within an organization one user holds an address: the one with an account.

    Whoever else wants this address in the tenant waits until we have it, or not.
    """
    hold(transaction, *lock_of(tenant, identifier))
    known = {"organization": user.organization, "identifier": identifier, "own": user.id}
    return _problem_of(_HOLDER_OF_ADDRESS.first(transaction, known))


def lock_of(tenant: str, identifier: str) -> tuple[str, ...]:
    """What to hold so that nobody takes this address meanwhile (see ``dialect.hold``)."""
    return "identifier", tenant, identifier


def addresses_held(
    transaction: Transaction, claims: Sequence[tuple[str, str, str]]
) -> set[tuple[str, str, str]]:
    """Of these tenants, organizations and addresses: where somebody of the organization has it.

    Whoever else wants one of them in the tenant waits until we have it, or not.
    """
    hold_all(transaction, [lock_of(tenant, address) for tenant, _, address in claims])
    found = _HOLDERS.all(transaction, [claim[1:] for claim in claims])
    return {claims[at] for at, _ in found}


_HOLDERS: Final = LookUp(
    t.users, ("organization", "identifier"), ("id",), where="account_id IS NOT NULL"
)


def why_held(transaction: Transaction, user: User, account_id: str) -> Problem | None:
    """Who of the organization has this account, whatever their own address is by now."""
    known = {"organization": user.organization, "account": account_id, "own": user.id}
    holder = _HOLDER_OF_ACCOUNT.first(transaction, known)
    # Who has moved out knows the password, or is the profile at the identity provider.
    return _problem_of(holder or _FORMER_HOLDER.first(transaction, known))


_OTHERS: Final = select(t.users.c.deleted_at).where(
    t.users.c.organization == bindparam("organization"), t.users.c.id != bindparam("own")
)
_HOLDER_OF_ADDRESS: Final = Prepared(
    _OTHERS.where(
        t.users.c.identifier == bindparam("identifier"), t.users.c.account_id.is_not(None)
    )
)
_HOLDER_OF_ACCOUNT: Final = Prepared(_OTHERS.where(t.users.c.account_id == bindparam("account")))
_FORMER_HOLDER: Final = Prepared(
    _OTHERS.where(
        t.users.c.id.in_(
            select(t.former_accounts.c.user_id).where(
                t.former_accounts.c.account_id == bindparam("account")
            )
        )
    )
)


def _problem_of(holder: Mapping[str, Any] | None) -> Problem | None:
    if holder is None:
        return None
    return _LEFT_BEHIND if holder["deleted_at"] is not None else IN_USE
