"""What becomes of accounts that are created by import: put in, sent, landed, or given back to the lanes.

Each function of a transaction proves the lease first. Makes no call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

import orjson

from service.directory import accounts, imports, leases
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.imports import Held
from service.organizations import LISTED, MARKER
from service.outcomes.data import UserCreated
from service.people import Profile
from service.provisioning.desired import Desired, desire, principal_of
from service.provisioning.listing import entries_of
from service.provisioning.observed import Observed, after
from service.provisioning.operations import CreateUser
from service.provisioning.residents import residents_of
from service.provisioning.telling import tell
from service.provisioning.turn import Owner

Verdict = Literal["inserted", "duplicate", "refused", "unknown"]
"""What a row came to. ``duplicate``: somebody has the address or the id. ``unknown``: it is to be
read."""
_PREFIX: Final = "auth0|"


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
        wish = _creation(transaction, account, now)
        if wish is None:
            continue
        doubt = _recorded(wish)
        held = Held(id=account.id, user_id=account.user_id, leaver=False, doubt=doubt)
        row = len(orjson.dumps(row_of(held))) + 1
        if size + row > room:
            return Portion(taken=taken, size=size, full=True)
        imports.take(transaction, account, import_id, doubt, now)
        taken, size = taken + 1, size + row
    return Portion(taken=taken, size=size, full=False)


def _creation(transaction: Transaction, account: Account, now: datetime) -> Desired | None:
    """What is wanted of an account that may be imported. A file cannot block and sends no link."""
    if Observed.from_document(account.observed).presence != "absent":
        return None
    residents = residents_of(transaction, account)
    if not residents:
        return None
    desired = desire(
        residents, identifier=account.identifier, connection_name=account.connection, now=now
    )
    mailed = any(
        resident.wanted and resident.organization.policies.invite != "none"
        for resident in residents
    )
    if mailed or not desired.wanted or not desired.connection.is_database:
        return None
    return desired


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


def row_of(held: Held) -> dict[str, Any]:
    """An account's row in the file: the same whenever it is made."""
    sent = (held.doubt or {})["sent"]
    named = {name: value for name, value in sent["profile"].items() if value}
    return named | {
        # Auth0 puts the provider before it, also where it is there already.
        "user_id": held.user_id.removeprefix(_PREFIX),
        "email": sent["email"],
        "email_verified": sent["email_verified"],
        "app_metadata": {MARKER: {"account": held.id}}
        | ({LISTED: sent["listed"]} if sent.get("listed") else {}),
    }


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


def verdicts(
    held: Iterable[Held],
    errors: Iterable[Mapping[str, Any]],
    summary: Mapping[str, Any] | None,
    *,
    sent: int,
) -> dict[str, Verdict]:
    """What each row came to, by account, as the job's error rows and its summary tell. Pure.

    Rows that no error names were inserted only where all that were ``sent`` are accounted for: each
    error is about one of ``held``, and the summary counts the errors, the others as inserted, and
    nothing else. Else they are unknown.
    """
    rows = {each.id: _keys(each) for each in held}
    known = {key for keys in rows.values() for key in keys}
    named: dict[str, Verdict] = {}
    count = 0
    agree = True
    for error in errors:
        user, count = error.get("user") or {}, count + 1
        codes = {str(each.get("code")) for each in error.get("errors") or ()}
        taken = "DUPLICATED_USER" in codes
        about = {
            key.lower() for key in (user.get("user_id"), user.get("email")) if isinstance(key, str)
        }
        agree = agree and not about.isdisjoint(known)
        for key in about:
            named[key] = "duplicate" if taken else "refused"
    said = summary or {}
    whole = {"failed": count, "inserted": sent - count, "total": sent}
    agree = agree and {name: said.get(name) for name in whole} == whole and not said.get("updated")
    others: Verdict = "inserted" if agree else "unknown"
    return {
        account: named.get(user_id) or named.get(email) or others
        for account, (user_id, email) in rows.items()
    }


def _keys(held: Held) -> tuple[str, str]:
    """What an error names a row by."""
    row = row_of(held)
    return str(row["user_id"]).lower(), str(row["email"]).lower()


def land(
    transaction: Transaction,
    owner: Owner,
    import_id: str,
    found: Mapping[str, Verdict],
    *,
    since: datetime,
    now: datetime,
) -> dict[str, int]:
    """Records what became of some accounts and gives them to the lanes, in the place that they had.

    Returns how many there were of each verdict; those that were let go before are not among them.
    """
    leases.require(transaction, owner.tenant, owner.fence)
    counts: dict[str, int] = {}
    for account in imports.of_accounts(transaction, import_id, sorted(found)):
        verdict = found[account.id]
        counts[verdict] = counts.get(verdict, 0) + 1
        common = {"import_id": None, "due_at": min(since, now)}
        create = _as_sent(transaction, account) if verdict == "inserted" else None
        match verdict:
            case "inserted" if create is not None:
                accounts.store(
                    transaction,
                    account.id,
                    now,
                    observed=after(Observed(), create).as_document(),
                    doubt=None,
                    **common,
                )
                tell(transaction, create.subject, account, (UserCreated(),), now)
            case "duplicate":
                email = (account.doubt or {})["sent"]["email"]
                picture = Observed(presence="conflicting", email=email)
                accounts.store(
                    transaction,
                    account.id,
                    now,
                    observed=picture.as_document(),
                    doubt=None,
                    **common,
                )
            case _:
                # The lanes look first, and create who is not there: then Auth0 says what is wrong.
                accounts.store(
                    transaction, account.id, now, doubt={"kind": CreateUser.kind}, **common
                )
    if counts:
        imports.count_results(transaction, import_id, counts)
    return counts


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
    """Gives accounts of which nothing was sent to the lanes, which create them one by one.

    ``why``: keeps them out of another import until they change.
    """
    leases.require(transaction, owner.tenant, owner.fence)
    error = {"class": "transient", "code": "import_refused", "message": why}
    held = imports.of_accounts(transaction, import_id, account_ids)
    for account in held:
        accounts.store(
            transaction,
            account.id,
            now,
            import_id=None,
            doubt=None,
            error=error,
            due_at=min(since, now),
        )
    if held:
        imports.count_results(transaction, import_id, {"returned": len(held)})
    return len(held)


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
    return True
