"""People of a file with their password hashes: who is new, stored with their hashes sealed, and what
became of each. Knows no Auth0 but its limits.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import orjson

from operators.migration_rows import Coming
from service.auth0.jobs import MOST_ACTIVE, MOST_BYTES
from service.auth0.rates import GLOBAL, PLANS, Plan
from service.choosing import choose
from service.directory import accounts, audit, imports, migrants, people, users
from service.directory import tables as t
from service.directory.database import Database, Transaction
from service.directory.inbox import Received
from service.directory.locks import SOURCE
from service.directory.many import LookUp
from service.directory.migrants import Migrant
from service.directory.organizations import Registered
from service.errors import Refused, UniquenessConflict
from service.people import User
from service.provisioning.first_load_settings import FirstLoadSettings
from service.provisioning.observed import Observed
from service.sealing import Sealer

IMPORTED: Final = "operator.import"
_PORTION: Final = 25
"""People in one transaction: on SQLite all writers wait for it."""
_JOB_SECONDS: Final = 60.0
"""What a job is taken to last; Auth0 promises nothing."""
_ROW_BYTES: Final = 250
"""What we add to a row: id, marker, address, names."""
Status = Literal["waiting", "created", "already_there", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of a line of the file."""

    line: int
    email: str | None
    user_id: str | None = None
    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What storing a file would do."""

    new: int
    blocked: int
    here: int
    resumed: int
    own_ids: int
    files: int
    seconds: float


def run_of(organization: str, content: bytes) -> str:
    """The same for the same file of the same organization."""
    return hashlib.sha256(organization.encode() + b"\0" + content).hexdigest()[:32]


def require_importable(registered: Registered) -> None:
    """Raises Refused where nobody can be imported into the organization's connections."""
    organization = registered.organization
    if registered.decommissioned:
        raise Refused(f"{organization.name} has ended: nobody is imported into it.")
    if not any(each.is_database for each in organization.connections):
        raise Refused(
            f"{organization.name}'s people log in at an identity provider of their own, which keeps"
            " their passwords: nothing is to be imported. Let them come by SCIM or HR events; their"
            " profiles appear at first login."
        )


def unfit(registered: Registered, person: Coming, now: datetime) -> str | None:
    """Why this person cannot be imported into the connection that takes them."""
    organization = registered.organization
    user = User(
        id="",
        organization=organization.name,
        resource=person.resource,
        created_at=now,
        modified_at=now,
    )
    connection = choose(organization, user, ())
    if connection.is_database:
        return None
    return (
        f"this person belongs to {connection.name}, which is an identity provider's: leave it out"
    )


def plan(
    found: Sequence[tuple[Coming, User | None, Migrant | None]], run: str, rates: Plan
) -> Expected:
    """What is to come of people and whom of them the directory has."""
    new = [each for each, user, known in found if _fresh(user, known, run)]
    moving = [each for each in new if not each.blocked]
    size = sum(len(each.packed_brought) + _ROW_BYTES for each in moving)
    most = FirstLoadSettings().most_accounts
    files = max(math.ceil(size / MOST_BYTES), math.ceil(len(moving) / most))
    resumed = sum(1 for _, _, known in found if known is not None and known.run == run)
    return Expected(
        new=len(new),
        blocked=len(new) - len(moving),
        here=len(found) - len(new) - resumed,
        resumed=resumed,
        own_ids=sum(1 for each, _, _ in found if each.has_own_id),
        files=files,
        seconds=_seconds(len(moving), files, rates),
    )


def _seconds(people_coming: int, files: int, plan_name: Plan) -> float:
    """Jobs, two at a time, and memberships by ten beside them: whichever takes longer."""
    rates = PLANS[plan_name]
    members = min(rates[name].per_second for name in (GLOBAL, "members-write") if name in rates)
    return max(math.ceil(files / MOST_ACTIVE) * _JOB_SECONDS, people_coming / 10 / members)


def _fresh(user: User | None, known: Migrant | None, run: str) -> bool:
    if user is None:
        return True
    return known is not None and known.state == "refused" and known.run != run


async def look_up(
    database: Database, organization: str, coming: Sequence[Coming]
) -> list[tuple[Coming, User | None, Migrant | None]]:
    """Each person with whom the directory has under the same externalId, name or address."""
    found: list[tuple[Coming, User | None, Migrant | None]] = []
    for at in range(0, len(coming), 500):
        some = coming[at : at + 500]
        found += await database.read(lambda tx, some=some: _known(tx, organization, some))
    return found


def _known(
    transaction: Transaction, organization: str, coming: Sequence[Coming]
) -> list[tuple[Coming, User | None, Migrant | None]]:
    ids: dict[int, str] = {}
    for look, keys in (
        (_BY_ADDRESS, [(organization, each.email) for each in coming]),
        (_BY_NAME, [(organization, each.email.casefold()) for each in coming]),
        (_BY_EXTERNAL_ID, [(organization, each.external_id or "") for each in coming]),
    ):
        for at, row in look.all(transaction, keys):
            ids[at] = row["id"]  # the surest comes last
    known = {each: people.get(transaction, each) for each in set(ids.values())}
    came = migrants.of_users(transaction, list(known))
    return [
        (each, known.get(ids.get(at, "")), came.get(ids.get(at, "")))
        for at, each in enumerate(coming)
    ]


_BY_ADDRESS: Final = LookUp(
    t.users, ("organization", "identifier"), ("id",), where="deleted_at IS NULL"
)
_BY_NAME: Final = LookUp(
    t.users,
    ("organization", "user_name_key"),
    ("id",),
    where="deleted_at IS NULL AND user_name_key IS NOT NULL",
)
_BY_EXTERNAL_ID: Final = LookUp(
    t.users,
    ("organization", "external_id"),
    ("id",),
    where="deleted_at IS NULL AND external_id <> ''",
)


async def store(
    database: Database,
    registered: Registered,
    found: Sequence[tuple[Coming, User | None, Migrant | None]],
    *,
    run: str,
    sealer: Sealer,
    actor: str,
    clock: Callable[[], datetime],
    progress: Callable[[int], None],
) -> list[Row]:
    """Stores who is new, some at a time; killed at any moment and begun again it goes on where it was.

    Returns a row for each, ``waiting`` where an import will tell.
    """
    told: list[Row] = []
    await database.transact(
        lambda tx: audit.record(
            tx,
            actor=actor,
            action="user.import",
            now=clock(),
            organization=registered.organization.name,
            subject=run,
            detail={"people": len(found)},
        )
    )
    for at in range(0, len(found), _PORTION):
        some = [each for each, _, _ in found[at : at + _PORTION]]
        told += await database.transact(
            lambda tx, some=some: _store_some(tx, registered, some, run, sealer, clock())
        )
        progress(len(some))
    return told


def _store_some(
    transaction: Transaction,
    registered: Registered,
    coming: Sequence[Coming],
    run: str,
    sealer: Sealer,
    now: datetime,
) -> list[Row]:
    told: list[Row] = []
    # Looked up again: another door, or another of these commands, may have been here since.
    name = registered.organization.name
    for person, user, known in _known(transaction, name, coming):
        if known is not None and known.run == run:
            told.append(_row(person, known))
            continue
        row = Row(line=person.line, email=person.email, status="waiting")
        try:
            with transaction.begin_nested():
                told.append(
                    _store_one(transaction, registered, person, user, run, sealer, now, row)
                )
        except UniquenessConflict as problem:
            ((_, _, known),) = _known(transaction, name, [person])
            if known is not None and known.run == run:  # by another command, at the same moment
                told.append(_row(person, known))
            else:
                told.append(replace(row, status="refused", reason=str(problem)))
    return told


def _store_one(
    transaction: Transaction,
    registered: Registered,
    person: Coming,
    user: User | None,
    run: str,
    sealer: Sealer,
    now: datetime,
    row: Row,
) -> Row:
    received = Received(
        door="operator",
        source=SOURCE,
        type=IMPORTED,
        at=now,
        body=orjson.dumps(dict(person.resource)),
    )
    if user is None:
        user = users.create(transaction, registered, person.resource, received)
    elif (reason := _why_without(transaction, user, person)) is not None:
        return replace(row, user_id=user.id, status="already_there", reason=reason)
    else:
        held = users.lock(transaction, user.organization, user.id)
        resource = dict(held.resource or {})
        if person.external_id and not resource.get("externalId"):
            resource["externalId"] = person.external_id
        user = users.replace(transaction, registered, held, resource, received)
    row = replace(row, user_id=user.id)
    if person.blocked:
        said = "blocked: known to the directory, not made in Auth0, and the password is not kept"
        return replace(row, status="created", reason=said)
    if user.state == "failed":
        return replace(row, status="refused", reason=user.detail)
    account = accounts.hold(transaction, user.account_id) if user.account_id else None
    if account is None or not _is_unborn(account) or _is_shared(transaction, account):
        said = "somebody else's user already: a membership is added, the password stays as it is"
        return replace(row, status="already_there", reason=said)
    sealed = sealer.seal(orjson.dumps(dict(person.brought)), owner=account.id)
    migrants.expect(
        transaction,
        account,
        organization=user.organization,
        user_id=user.id,
        run=run,
        line=person.line,
        sealed=sealed,
        now=now,
    )
    room = imports.waiting_room(transaction, account.tenant, account.connection, now)
    imports.take(transaction, account, room, None, now)
    return row


def _why_without(transaction: Transaction, user: User, person: Coming) -> str | None:
    """Why a known user does not get the password of a row; None where they do.

    Only of who is surely the same: an address may be somebody else's by now, and a number another's.
    """
    known = "known to the directory"
    if person.blocked or not _can_still_come(transaction, user):
        return known
    if user.identifier != person.email:
        return f"{known} with another address: the password is not kept"
    if user.external_id and person.external_id and user.external_id != person.external_id:
        return f"{known} with another externalId: the password is not kept"
    return None


def _is_shared(transaction: Transaction, account: accounts.Account) -> bool:
    """Whether another organization waits for it: it is not for this one's file to say how."""
    living = people.of_account(transaction, account.id)
    return sum(each.deleted_at is None for each in living) > 1


def _can_still_come(transaction: Transaction, user: User) -> bool:
    """Whether nothing was made of a known user in Auth0, so that the password can still come along."""
    if user.resource is None or not user.active or user.account_id is None:
        return False
    account = accounts.get(transaction, user.account_id)
    return account is not None and _is_unborn(account)


def _is_unborn(account: accounts.Account) -> bool:
    """Whether it was never in Auth0, and nobody is about to make it."""
    observed = Observed.from_document(account.observed)
    return (
        observed.presence == "absent"
        and not account.leaver
        and (account.doubt, account.import_id, account.closed_at) == (None, None, None)
    )


def _row(person: Coming, known: Migrant) -> Row:
    return Row(
        line=person.line,
        email=person.email,
        user_id=known.user_id,
        status=known.state,
        reason=known.reason,
    )


async def became(database: Database, organization: str, run: str, rows: Sequence[Row]) -> list[Row]:
    """The rows as they stand now."""
    told = list(rows)
    places = {row.user_id: place for place, row in enumerate(told)}
    line = -1
    while found := await database.read(
        lambda tx, line=line: migrants.of_run(tx, organization, run, after=line)
    ):
        for each in found:
            if (place := places.get(each.user_id)) is not None:
                told[place] = replace(told[place], status=each.state, reason=each.reason)
        line = found[-1].line
    return told
