"""From a changed user to work for the lanes: which account it is, and who waits for it.

Runs inside the transaction that changed the user, so that accepting an event and marking the
account due are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import bindparam, case, select, update

from service.directory import accounts, ending, leavers, moves, people
from service.directory import tables as t
from service.directory.accounts import Account
from service.directory.belonging import connection_of
from service.directory.database import Transaction
from service.directory.dialect import among, hold, hold_all, insert
from service.directory.ending import Ending
from service.directory.events import Problem
from service.directory.leavers import Verdict
from service.directory.many import LookUp
from service.directory.organizations import Registered
from service.directory.prepared import Prepared
from service.organizations import Connection, Organization
from service.people import User, identifier_of, is_wanted

Store = Callable[[Mapping[str, Any]], User]
"""Writes what was decided into a user's row, and returns the row."""
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
        " decides: 'provisioner user release' for the former user and a replay of this event, or"
        " the same externalId, which brings that person back."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """The account that a user has from now on. ``opened``: made just now, due for revision 1."""

    account_id: str | None = None
    opened: bool = False
    problem: Problem | None = None


def settle(
    transaction: Transaction,
    user_id: str,
    *,
    registered: Registered,
    event_id: str,
    was_wanted: bool,
    now: datetime,
    user: User | None = None,
    store: Store | None = None,
    spoke: Literal["hr"] | None = None,
    immediate: bool = False,
) -> User:
    """Turns what a user's row now says into an account that is due, or ends the event at once.

    ``was_wanted``: whether the person was in before the change; going out or coming back in makes
    the user's older open events moot. ``user``: the row, where the caller holds it already, or as
    ``store`` will write it together with what is decided here. ``spoke``, ``immediate``: see
    leavers.judge, which may have the event wait for an operator.
    """
    user = user or people.lock(transaction, user_id)
    assert user is not None
    store = store or (lambda changes: people.change(transaction, user_id, **changes))
    verdict = leavers.judge(
        transaction,
        user,
        registered,
        event_id,
        was_wanted=was_wanted,
        now=now,
        spoke=spoke,
        immediate=immediate,
    )
    if verdict.withheld != user.withheld:
        user = replace(user, withheld=verdict.withheld)
        store = _with_withheld(store, verdict.withheld)
    if verdict.staged:
        return _stage(transaction, user, event_id, verdict, store, now)
    settled = _settle(transaction, user, registered, event_id, was_wanted, store, now)
    leavers.end(transaction, verdict, event_id, now=now)
    return settled


def _with_withheld(store: Store, withheld: Mapping[str, Any] | None) -> Store:
    return lambda changes: store({**changes, "withheld": withheld})


def _stage(
    transaction: Transaction,
    user: User,
    event_id: str,
    verdict: Verdict,
    store: Store,
    now: datetime,
) -> User:
    """The person stays in. What else the event says of them goes to Auth0 at once, save for the
    address, which the next change of a person who stays takes there.
    """
    if user.account_id is not None:
        accounts.touch(transaction, user.account_id, leaver=False, now=now)
    ending.pass_through(transaction, event_id, "staged", now=now, threshold=verdict.exceeded)
    leavers.end(transaction, verdict, event_id, now=now)
    return store({"last_event_id": event_id, "state": "staged", "detail": leavers.STAGED})


def _settle(
    transaction: Transaction,
    user: User,
    registered: Registered,
    event_id: str,
    was_wanted: bool,
    store: Store,
    now: datetime,
) -> User:
    organization = registered.organization
    wanted = is_wanted(user, organization, decommissioned=registered.decommissioned)
    identifier = identifier_of(user, organization)
    claim = _account_of(transaction, user, identifier, registered, wanted=wanted, now=now)
    changes: dict[str, Any] = {
        "identifier": identifier,
        "last_event_id": event_id,
        "account_id": claim.account_id,
    }
    if claim.problem is not None:
        ending.finish(transaction, event_id, "deadlettered", now=now, problem=claim.problem)
        return store({**changes, "state": "failed", "detail": claim.problem.message})
    if wanted != was_wanted and user.last_event_id is not None:
        supersede_open(transaction, user.id, by=event_id, now=now)
    if claim.account_id is None:
        told = _nothing_to_do(transaction, event_id, wanted=wanted, now=now)
        return store({**changes, **told})
    revision = 1
    if not claim.opened:
        revision = accounts.touch(transaction, claim.account_id, leaver=not wanted, now=now)
    wait(transaction, event_id, claim.account_id, user.id, revision)
    if not wanted:
        leave(transaction, user.id, (event_id,), now)
    return store({**changes, "state": "pending", "detail": None})


def _account_of(
    transaction: Transaction,
    user: User,
    identifier: str | None,
    registered: Registered,
    *,
    wanted: bool,
    now: datetime,
) -> _Claim:
    account = None
    if user.account_id is not None:
        account = accounts.hold(transaction, user.account_id)
        assert account is not None
    kept = account.id if account is not None and account.closed_at is None else None
    if identifier is None or (kept is not None and not wanted):
        return _Claim(account_id=kept)
    organization = registered.organization
    if account is None or kept is None:
        connection = connection_of(transaction, user, organization)
        if wanted:
            return _claim(transaction, user, identifier, registered, connection, now)
        if connection.is_database:
            return _Claim()
        # Nothing keeps them from a first login: they are looked for, and blocked when they appear.
        claim = _claim(transaction, user, identifier, registered, connection, now)
        return _Claim() if claim.problem is not None else claim
    if identifier == account.identifier:
        return _Claim(account_id=kept)
    # Who moves by the rules has the new address in the new account: lanes see to it.
    follows = _is_followed(organization, account) and not (
        organization.policies.moves == "follow"
        and connection_of(transaction, user, organization).name != account.connection
    )
    problem = _held_by_another(transaction, user, identifier, account.tenant)
    if problem is None and follows:
        known = accounts.find_open(transaction, account.tenant, account.connection, identifier)
        problem = _why_held(transaction, user, known) or _IN_USE if known is not None else None
    if problem is None and follows:
        accounts.store(transaction, account.id, now, identifier=identifier)
    return _Claim(account_id=kept, problem=problem)


def catch_up_address(
    transaction: Transaction,
    user: User,
    organization: Organization,
    account: Account,
    now: datetime,
) -> str:
    """The address of an account that is held, once it is that of the user who lives in it and was to
    take another one elsewhere; as it is where that is not to be had."""
    address = user.identifier
    if address is None or address == account.identifier or not _is_followed(organization, account):
        return account.identifier
    if _held_by_another(transaction, user, address, account.tenant) is not None:
        return account.identifier
    if accounts.find_open(transaction, account.tenant, account.connection, address) is not None:
        return account.identifier
    accounts.store(transaction, account.id, now, identifier=address)
    return address


def _is_followed(organization: Organization, account: Account) -> bool:
    """Whether the account is its person's alone, and has the address that the person has."""
    connection = organization.connection(account.connection, account.user_id)
    return organization.model_in(connection) in ("isolated", "enterprise")


def move(
    transaction: Transaction,
    user: User,
    registered: Registered,
    connection: Connection,
    now: datetime,
) -> Problem | None:
    """Has a user, who is held and in, live in another connection. What waits for the account waits
    for the new one, too; the former one stays open to the person until that is there.

    Nothing is written where the address is somebody else's there: the problem says so.
    """
    assert user.identifier is not None, "whoever has an account has an address"
    assert user.account_id is not None, "only who lives somewhere moves"
    claim = _claim(transaction, user, user.identifier, registered, connection, now)
    if claim.account_id is None:
        return claim.problem
    waiting = accounts.waiting_events(transaction, user.account_id)
    moves.depart(transaction, user.id, user.account_id, now)
    revision = 1
    if not claim.opened:
        revision = accounts.touch(transaction, claim.account_id, leaver=False, now=now)
    for each in waiting:
        if each.user_id == user.id:
            _wait_as_well(transaction, each.event_id, claim.account_id, user.id, revision)
    people.store(transaction, user.id, account_id=claim.account_id, state="pending", detail=None)
    return None


def lock_out(
    transaction: Transaction, user_id: str, event_ids: Collection[str], now: datetime
) -> None:
    """Has the former accounts locked that a user needed still, and lets events wait for it."""
    needed = moves.needed(transaction, user_id)
    _lock(transaction, user_id, needed, event_ids, now)


def leave(
    transaction: Transaction, user_id: str, event_ids: Collection[str], now: datetime
) -> None:
    """As ``lock_out``, of whoever is out: in every former account, since one may not be locked yet,
    or have been refused to be."""
    _lock(transaction, user_id, moves.every(transaction, user_id), event_ids, now)


def lock_again(transaction: Transaction, user_id: str, event_id: str, now: datetime) -> None:
    """Has the former accounts looked at that a user has left: one may have been refused its lock."""
    needed = moves.needed(transaction, user_id)
    left = [each for each in moves.every(transaction, user_id) if each not in needed]
    _lock(transaction, user_id, left, (event_id,), now)


def _lock(
    transaction: Transaction,
    user_id: str,
    account_ids: Sequence[str],
    event_ids: Collection[str],
    now: datetime,
) -> None:
    for account_id in account_ids:
        revision = moves.lock_out(transaction, user_id, account_id, now)
        for event_id in event_ids:
            _wait_as_well(transaction, event_id, account_id, user_id, revision)


def _claim(
    transaction: Transaction,
    user: User,
    identifier: str,
    registered: Registered,
    connection: Connection,
    now: datetime,
) -> _Claim:
    """The account for an address: the one that the person had there, joined in the shared model,
    opened where nobody has it.
    """
    organization = registered.organization
    problem = _held_by_another(transaction, user, identifier, organization.tenant)
    if problem is not None:
        return _Claim(problem=problem)
    model = organization.model_in(connection)
    where = (transaction, organization.tenant, connection.name, identifier)
    mine = moves.had(transaction, user.id, organization.tenant, connection.name)
    if mine is not None:
        known = accounts.find_open(*where)
        if known == mine.id or (known is None and model != "shared"):
            moves.forget(transaction, user.id, mine.id)
            accounts.store(transaction, mine.id, now, identifier=identifier)
            return _Claim(account_id=mine.id)
    opened = accounts.open_account(*where, now)
    if opened is not None:
        return _Claim(account_id=opened, opened=True)
    account_id = accounts.find_open(*where)
    if account_id is None:  # closed since: then the address is free
        return _claim(transaction, user, identifier, registered, connection, now)
    problem = _why_held(transaction, user, account_id)
    if problem is not None or model == "isolated":
        return _Claim(problem=problem or _IN_USE)
    return _Claim(account_id=account_id)


def _held_by_another(
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


def _why_held(transaction: Transaction, user: User, account_id: str) -> Problem | None:
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
    return _LEFT_BEHIND if holder["deleted_at"] is not None else _IN_USE


def _nothing_to_do(
    transaction: Transaction, event_id: str, *, wanted: bool, now: datetime
) -> dict[str, Any]:
    """Auth0 need not hear of this: nobody to create yet, or nobody left to block."""
    if wanted:
        ending.finish(transaction, event_id, "succeeded", now=now, result="waiting")
        return {"state": "waiting", "detail": NO_ADDRESS}
    ending.finish(transaction, event_id, "succeeded", now=now, result="applied")
    return {"state": "applied", "detail": None, "last_applied_at": now}


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
    wait(transaction, event_id, account_id, user_id, revision)
    if leaver:
        leave(transaction, user_id, (event_id,), now)
    people.store(transaction, user_id, state="pending", detail=None)


def wait(
    transaction: Transaction, event_id: str, account_id: str, user_id: str, revision: int
) -> None:
    """Lets an event wait for a revision of an account."""
    _WAIT.run(
        transaction,
        {
            "event_id": event_id,
            "account_id": account_id,
            "user_id": user_id,
            "revision": revision,
        },
    )


_WAIT: Final = Prepared(t.waits.insert())


def _wait_as_well(
    transaction: Transaction, event_id: str, account_id: str, user_id: str, revision: int
) -> None:
    """As ``wait``, where the event may wait for the account already."""
    keys = {"event_id": event_id, "account_id": account_id, "user_id": user_id}
    transaction.execute(
        insert(transaction, t.waits)
        .values(**keys, revision=revision)
        .on_conflict_do_update(index_elements=list(keys), set_={"revision": revision})
    )


def touch_users(
    transaction: Transaction,
    user_ids: Sequence[str],
    *,
    event_id: str,
    now: datetime,
) -> int:
    """Lets an event wait for the accounts of some users, as after a change of a group.

    Returns the number of waits. For many users see ``fanouts.touch``.
    """
    # Users before accounts, each in order, as everywhere: two changes do not wait for each other.
    residents = _residents(transaction, user_ids)
    revisions = _revised(transaction, list(residents), now) if residents else {}
    waits = [
        {
            "event_id": event_id,
            "account_id": account_id,
            "user_id": resident,
            "revision": revision,
        }
        for account_id, revision in revisions.items()
        for resident in residents[account_id]
    ]
    if not waits:
        return 0
    transaction.execute(t.waits.insert(), waits)
    touched = [each for account_id in revisions for each in residents[account_id]]
    transaction.execute(
        update(t.users)
        .where(among(transaction, t.users.c.id, touched))
        .values(state="pending", detail=None, last_event_id=event_id)
    )
    return len(waits)


# Both by their ids and nothing else: for a join, or by a partial index, Postgres may read all of a
# table while its statistics lag behind.
def _residents(transaction: Transaction, user_ids: Sequence[str]) -> dict[str, list[str]]:
    """The accounts of these users, and who of them lives in each; the users are held."""
    lived = transaction.execute(
        select(t.users.c.account_id, t.users.c.id)
        .where(among(transaction, t.users.c.id, user_ids))
        .order_by(t.users.c.id)
        .with_for_update()
    )
    residents: dict[str, list[str]] = {}
    for row in lived:
        if row.account_id is not None:
            residents.setdefault(row.account_id, []).append(row.id)
    for former in moves.of_users(transaction, user_ids):
        residents.setdefault(former.account_id, []).append(former.user_id)
    return residents


def _revised(transaction: Transaction, account_ids: Sequence[str], now: datetime) -> dict[str, int]:
    """Marks those of these accounts due that are open; returns the revision that each has now."""
    theirs = (
        select(t.accounts.c.id, t.accounts.c.closed_at)
        .where(among(transaction, t.accounts.c.id, account_ids))
        .order_by(t.accounts.c.id)
        .with_for_update()
    )
    housed = [row.id for row in transaction.execute(theirs) if row.closed_at is None]
    if not housed:
        return {}
    revised = transaction.execute(
        update(t.accounts)
        .where(among(transaction, t.accounts.c.id, housed))
        .values(
            revision=t.accounts.c.revision + 1,
            # Who is due already keeps their place, a leaver most of all.
            due_at=case((t.accounts.c.due_at < now, t.accounts.c.due_at), else_=now),
            attempts=0,
            error=None,
            modified_at=now,
        )
        .returning(t.accounts.c.id, t.accounts.c.revision)
    )
    return {row.id: row.revision for row in revised}


def supersede_open(transaction: Transaction, user_id: str, *, by: str, now: datetime) -> None:
    """Ends a user's own older open events: a newer one made them moot."""
    older = transaction.execute(_OPEN_OF_USER, {"user": user_id, "by": by}).scalars()
    ending.finish_many(
        transaction,
        [Ending(event_id=event_id, ended="superseded", now=now, by=by) for event_id in older.all()],
    )


def supersede_open_of_many(
    transaction: Transaction, by: Mapping[str, tuple[str, datetime]]
) -> None:
    """As ``supersede_open``, of many users: by the event that makes them moot, and when."""
    users = sorted(by)
    waiting = {
        (users[at], row["event_id"])
        for at, row in _WAITING.all(transaction, [(each,) for each in users])
    }
    asked = sorted((event_id, user) for user, event_id in waiting if by[user][0] != event_id)
    older = [(row["number"], *asked[at]) for at, row in _ACCEPTED.all(transaction, asked)]
    ending.finish_many(
        transaction,
        [
            Ending(event_id=event_id, ended="superseded", now=by[user][1], by=by[user][0])
            for _, event_id, user in sorted(older)
        ],
    )


_WAITING: Final = LookUp(t.waits, ("user_id",), ("event_id",))
_ACCEPTED: Final = LookUp(t.events, ("id", "user_id"), ("number",), where="state = 'accepted'")
_OPEN_OF_USER: Final = (
    select(t.events.c.id)
    .where(
        t.events.c.user_id == bindparam("user"),
        t.events.c.state == "accepted",
        t.events.c.id != bindparam("by"),
        t.events.c.id.in_(select(t.waits.c.event_id).where(t.waits.c.user_id == bindparam("user"))),
    )
    .order_by(t.events.c.number)
)
