"""Which accounts go into a file of users, and what is recorded of each before it is sent.

Each function of a transaction proves the lease first. Makes no call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from service.directory import accounts, imports, leases, migrants
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.events import Problem
from service.directory.imports import Held
from service.provisioning.desired import Desired, Resident
from service.provisioning.import_rows import row_of, row_with_hash
from service.provisioning.listing import entries_of
from service.provisioning.observed import Observed
from service.provisioning.operations import CreateUser
from service.provisioning.residents import joint_wish, residents_of
from service.provisioning.turn import Owner
from service.sealing import Sealer

_BROKEN_SEAL: Final = (
    "The installation's pepper is another one than when the hash was stored: run 'provisioner user"
    " import' again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Some accounts that were put into an import. ``size``: bytes of their rows. ``full``: the next
    one had no room."""

    taken: int
    size: int
    full: bool


def gather(
    transaction: Transaction,
    owner: Owner,
    import_id: str,
    account_ids: Sequence[str],
    *,
    room: int,
    now: datetime,
) -> Portion:
    """Puts those of these accounts into an import whose next call is a creation that needs no mail."""
    leases.require(transaction, owner.tenant, owner.fence)
    taken = size = 0
    held_now = accounts.hold_many(transaction, account_ids)
    for account_id in account_ids:
        account = held_now.get(account_id)
        if account is None or not imports.is_new(account, now):
            continue
        residents = residents_of(transaction, account)
        wish = _creation(residents, account, now)
        if wish is None or _is_mailed(residents):
            continue
        doubt = _recorded(wish)
        held = Held(id=account.id, user_id=account.user_id, leaver=False, doubt=doubt)
        row = len(orjson.dumps(row_of(held))) + 1
        if size + row > room:
            return Portion(taken=taken, size=size, full=True)
        imports.take(transaction, account, import_id, doubt, now)
        taken, size = taken + 1, size + row
    return Portion(taken=taken, size=size, full=False)


def _creation(residents: Sequence[Resident], account: Account, now: datetime) -> Desired | None:
    """What is wanted of an account that may be imported. A file cannot block and sends no link."""
    if Observed.from_document(account.observed).presence != "absent" or not residents:
        return None
    desired = joint_wish(residents, account, now)
    if not desired.wanted or not desired.connection.is_database:
        return None
    return desired


def _is_mailed(residents: Sequence[Resident]) -> bool:
    """Whether policy sends a link, which a file does not."""
    return any(
        resident.wanted and resident.organization.policies.invite != "none"
        for resident in residents
    )


def gather_waiting(
    transaction: Transaction,
    owner: Owner,
    import_id: str,
    account_ids: Sequence[str],
    sealer: Sealer,
    *,
    room: int,
    now: datetime,
) -> Portion:
    """Puts those who wait with their hashes into an import, whatever policy sends to others: they
    have a password. Who cannot be imported any more goes to the lanes, without the hash."""
    leases.require(transaction, owner.tenant, owner.fence)
    taken = size = 0
    held_now = accounts.hold_many(transaction, account_ids)
    sealed = migrants.sealed_among(transaction, account_ids)
    for account_id in account_ids:
        account = held_now.get(account_id)
        if account is None or account.import_id is None or account.leaver:
            continue
        wish = _creation(residents_of(transaction, account), account, now)
        row, doubt = None, dict[str, Any]()
        if wish is not None and account_id in sealed:
            doubt = _recorded(wish)
            held = Held(
                id=account.id,
                user_id=account.user_id,
                leaver=False,
                doubt=doubt,
                sealed=sealed[account_id],
            )
            row = row_with_hash(held, sealer)
            doubt["sent"]["email_verified"] = row["email_verified"] if row else False
        if row is None:
            why = "It cannot be imported any more." if wish is None else _BROKEN_SEAL
            migrants.end(transaction, [account.id], "refused", now, reason=why)
            if wish is None:
                accounts.store(transaction, account.id, now, import_id=None, due_at=now)
            else:
                refuse(transaction, account, "seal_broken", why, now, due_at=now)
            continue
        length = len(orjson.dumps(row)) + 1
        if size + length > room:
            return Portion(taken=taken, size=size, full=True)
        imports.take(transaction, account, import_id, doubt, now)
        taken, size = taken + 1, size + length
    return Portion(taken=taken, size=size, full=False)


def _recorded(desired: Desired) -> dict[str, Any]:
    """The creation as it is recorded before the upload, with all that the row says of the person."""
    return {
        "kind": CreateUser.kind,
        "sent": {
            "email": desired.email,
            "email_verified": desired.email_verified,
            "profile": asdict(desired.profile),
            "listed": sorted({*entries_of(desired).values()}),
        },
    }


def _scope(transaction: Transaction, account: Account) -> str:
    """Under which name what its file could not bring is refused: all of it, or the membership."""
    whose = migrants.whose(transaction, account.id)
    wanted = [each for each in residents_of(transaction, account) if each.wanted]
    theirs = [each for each in wanted if each.user.organization == whose]
    is_shared = len(theirs) < len(wanted)
    return theirs[0].organization.auth0_name if theirs and is_shared else ""


def refuse(
    transaction: Transaction,
    account: Account,
    code: str,
    message: str,
    now: datetime,
    *,
    due_at: datetime,
) -> None:
    """The wish of the organization whose file it was is refused: a lane tells those who wait for it.

    Where others want the account as well, it is made for them.
    """
    problem = Problem(kind="permanent", code=code, message=message).as_document()
    refused = {_scope(transaction, account): problem | {"revision": account.revision}}
    observed = Observed(refused=refused)
    accounts.store(
        transaction,
        account.id,
        now,
        import_id=None,
        doubt=None,
        observed=observed.as_document(),
        due_at=due_at,
    )
