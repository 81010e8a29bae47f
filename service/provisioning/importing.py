"""What becomes of accounts that are in a file of users: sent, landed, or given back to the lanes.

Each function of a transaction proves the lease first. Makes no call.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from service.directory import accounts, imports, leases, migrants, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.imports import Held
from service.outcomes.data import UserCreated
from service.people import Profile
from service.provisioning.desired import principal_of
from service.provisioning.gathering import refuse
from service.provisioning.import_rows import Verdict
from service.provisioning.observed import Observed, after
from service.provisioning.operations import CreateUser
from service.provisioning.residents import residents_of
from service.provisioning.telling import tell
from service.provisioning.turn import Owner

_MOST_TRIES: Final = 3
"""In so many files that did not bring them, and did not say why, somebody with a hash may be."""
_MEND: Final = "mend the row and run 'provisioner user import' again"


def start_upload(
    transaction: Transaction, owner: Owner, import_id: str, now: datetime
) -> list[Held]:
    """Records that the upload is about to begin; what goes into it, empty where nobody is left."""
    leases.require(transaction, owner.tenant, owner.fence)
    return imports.start_upload(transaction, import_id, now)


def note(transaction: Transaction, owner: Owner, import_id: str, **values: Any) -> None:
    """Stores how far an import is."""
    leases.require(transaction, owner.tenant, owner.fence)
    imports.store(transaction, import_id, **values)


def land(
    transaction: Transaction,
    owner: Owner,
    import_id: str,
    found: Mapping[str, Verdict],
    *,
    since: datetime,
    now: datetime,
    why: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Records what became of some accounts and gives them to the lanes, in the place that they had.

    Who has a hash and is not there goes back to wait for another file. ``why``: see ``refusals``.
    Returns how many there were of each verdict; those that were let go before are not among them.
    """
    leases.require(transaction, owner.tenant, owner.fence)
    counts: dict[str, int] = {}
    tries = migrants.waiting_among(transaction, sorted(found))
    for account in imports.of_accounts(transaction, import_id, sorted(found)):
        verdict = found[account.id]
        counts[verdict] = counts.get(verdict, 0) + 1
        if account.id in tries:
            tried, reason = tries[account.id], (why or {}).get(account.id)
            if _land_migrant(transaction, account, verdict, tried, reason, since, now):
                continue
        _give_to_lanes(transaction, account, verdict, now, due_at=min(since, now))
    if counts:
        imports.count_results(transaction, import_id, counts)
    return counts


def _give_to_lanes(
    transaction: Transaction, account: Account, verdict: Verdict, now: datetime, *, due_at: datetime
) -> None:
    """With what the file has shown of it."""
    let_go = functools.partial(
        accounts.store, transaction, account.id, now, import_id=None, due_at=due_at
    )
    create = _as_sent(transaction, account) if verdict == "inserted" else None
    if create is not None:
        let_go(observed=after(Observed(), create).as_document(), doubt=None)
        tell(transaction, create.subject, account, (UserCreated(),), now)
    elif verdict == "duplicate":
        email = (account.doubt or {})["sent"]["email"]
        let_go(observed=Observed(presence="conflicting", email=email).as_document(), doubt=None)
    else:
        # The lanes look first, and create who is not there: then Auth0 says what is wrong.
        let_go(doubt={"kind": CreateUser.kind})


def _land_migrant(
    transaction: Transaction,
    account: Account,
    verdict: Verdict,
    tries: int,
    why: str | None,
    since: datetime,
    now: datetime,
) -> bool:
    """What became of the password. True where that is all: the lanes must not create the account."""
    end = functools.partial(migrants.end, transaction, [account.id])
    gone = verdict in ("absent", "refused")
    match verdict:
        case "inserted" | "unknown":
            end("created", now)
        case "duplicate":
            said = "Auth0 has a user with this address: the rules of adoption decide."
            end("already_there", now, reason=said)
        case "absent" | "refused" if account.leaver:
            end("refused", now, reason=migrants.LEFT)
        case "absent" if tries + 1 < _MOST_TRIES:
            migrants.count_try(transaction, account.id)
            _wait_again(transaction, account, "no import job brought the user", now)
        case "absent" | "refused":
            code = "import_failed" if verdict == "absent" else "import_row_refused"
            said = "no import job brought the user" if verdict == "absent" else why or "refused"
            message = f"Auth0's import: {said}; {_MEND}."
            end("refused", now, reason=message)
            refuse(transaction, account, code, message, now, due_at=min(since, now))
    return gone and not account.leaver


def _wait_again(transaction: Transaction, account: Account, why: str, now: datetime) -> None:
    """Back to wait for another file, as one that was tried in vain."""
    room = imports.waiting_room(transaction, account.tenant, account.connection, now)
    imports.take(transaction, account, room, None, now)
    accounts.store(transaction, account.id, now, error=_error(why))
    accounts.note_failed_try(transaction, account.id, now)


def _error(why: str) -> dict[str, str]:
    return {"class": "transient", "code": "import_refused", "message": why}


def _as_sent(transaction: Transaction, account: Account) -> CreateUser | None:
    """The creation that the file asked for, under whom it is told: who changed last."""
    residents = residents_of(transaction, account)
    if not residents:
        return None
    principal = principal_of(residents)
    sent = (account.doubt or {})["sent"]
    return CreateUser(
        subject=principal.subject,
        email=sent["email"],
        email_verified=sent["email_verified"],
        profile=Profile(**sent["profile"]),
        listed=tuple(sent.get("listed") or ()),
    )


def give_back(
    transaction: Transaction,
    owner: Owner,
    import_id: str,
    account_ids: Sequence[str],
    *,
    since: datetime,
    now: datetime,
    why: str,
) -> int:
    """Gives accounts of which nothing was sent to the lanes, which create them one by one. Who has a
    hash waits for another file.

    ``why``: keeps them out of another import until they change.
    """
    leases.require(transaction, owner.tenant, owner.fence)
    held = imports.of_accounts(transaction, import_id, account_ids)
    waiting = migrants.waiting_among(transaction, account_ids)
    for account in held:
        if account.id in waiting and not account.leaver:
            _wait_again(transaction, account, why, now)
            for user in people.of_account(transaction, account.id):
                people.store(transaction, user.id, detail=f"Waits for an import: {why}.")
            continue
        accounts.store(
            transaction,
            account.id,
            now,
            import_id=None,
            doubt=None,
            error=_error(why),
            due_at=min(since, now),
        )
    if held:
        imports.count_results(transaction, import_id, {"returned": len(held)})
    return len(held)


def close_room(transaction: Transaction, owner: Owner, import_id: str, now: datetime) -> None:
    """Ends a waiting room that nobody is in any more."""
    leases.require(transaction, owner.tenant, owner.fence)
    imports.close_room(transaction, import_id, now)


def end(
    transaction: Transaction, owner: Owner, import_id: str, now: datetime, *, forget: datetime
) -> bool:
    """Ends an import that has nobody any more; False where it has. Drops those ended before
    ``forget``."""
    leases.require(transaction, owner.tenant, owner.fence)
    if imports.held(transaction, import_id, limit=1):
        return False
    imports.end(transaction, import_id, now)
    imports.forget_old(transaction, forget)
    migrants.forget_old(transaction, forget)
    return True
