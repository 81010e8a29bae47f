"""From a changed user to work for the lanes: which account it is, and who waits for it.

Runs inside the transaction that changed the user, so that accepting an event and marking the
account due are one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from service.directory import accounts, claims, ending, leavers, moves, people, waits
from service.directory.accounts import Account
from service.directory.belonging import connection_of
from service.directory.database import Transaction
from service.directory.events import Problem
from service.directory.leavers import Verdict
from service.directory.organizations import Registered
from service.organizations import Connection, Organization
from service.people import User, identifier_of

Store = Callable[[Mapping[str, Any]], User]
"""Writes what was decided into a user's row, and returns the row."""
NO_ADDRESS = (
    "No e-mail address: send a primary e-mail, or a userName that is an address, and the user is"
    " provisioned."
)


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
    wanted = registered.wants(user)
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
        waits.supersede_open(transaction, user.id, by=event_id, now=now)
    if claim.account_id is None:
        told = _nothing_to_do(transaction, event_id, wanted=wanted, now=now)
        return store({**changes, **told})
    revision = 1
    if not claim.opened:
        revision = accounts.touch(transaction, claim.account_id, leaver=not wanted, now=now)
    waits.wait(transaction, event_id, claim.account_id, user.id, revision)
    if not wanted:
        waits.leave(transaction, user.id, (event_id,), now)
    return store({**changes, "state": "pending", "detail": None})


def _account_of(
    transaction: Transaction,
    user: User,
    identifier: str | None,
    registered: Registered,
    *,
    wanted: bool,
    now: datetime,
) -> claims.Claim:
    account = None
    if user.account_id is not None:
        account = accounts.hold(transaction, user.account_id)
        assert account is not None
    kept = account.id if account is not None and account.closed_at is None else None
    if identifier is None or (kept is not None and not wanted):
        return claims.Claim(account_id=kept)
    organization = registered.organization
    if account is None or kept is None:
        connection = connection_of(transaction, user, organization)
        if wanted:
            return claims.claim(transaction, user, identifier, registered, connection, now)
        if connection.is_database:
            return claims.Claim()
        # Nothing keeps them from a first login: they are looked for, and blocked when they appear.
        claim = claims.claim(transaction, user, identifier, registered, connection, now)
        return claims.Claim() if claim.problem is not None else claim
    if identifier == account.identifier:
        return claims.Claim(account_id=kept)
    # Who moves by the rules has the new address in the new account: lanes see to it.
    follows = _is_followed(organization, account) and not (
        organization.policies.moves == "follow"
        and connection_of(transaction, user, organization).name != account.connection
    )
    problem = claims.held_by_another(transaction, user, identifier, account.tenant)
    if problem is None and follows:
        known = accounts.find_open(transaction, account.tenant, account.connection, identifier)
        problem = (
            claims.why_held(transaction, user, known) or claims.IN_USE
            if known is not None
            else None
        )
    if problem is None and follows:
        accounts.store(transaction, account.id, now, identifier=identifier)
    return claims.Claim(account_id=kept, problem=problem)


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
    if claims.held_by_another(transaction, user, address, account.tenant) is not None:
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
    claim = claims.claim(transaction, user, user.identifier, registered, connection, now)
    if claim.account_id is None:
        return claim.problem
    waiting = accounts.waiting_events(transaction, user.account_id)
    moves.depart(transaction, user.id, user.account_id, now)
    revision = 1
    if not claim.opened:
        revision = accounts.touch(transaction, claim.account_id, leaver=False, now=now)
    for each in waiting:
        if each.user_id == user.id:
            waits.wait_as_well(transaction, each.event_id, claim.account_id, user.id, revision)
    people.store(transaction, user.id, account_id=claim.account_id, state="pending", detail=None)
    return None


def _nothing_to_do(
    transaction: Transaction, event_id: str, *, wanted: bool, now: datetime
) -> dict[str, Any]:
    """Auth0 need not hear of this: nobody to create yet, or nobody left to block."""
    if wanted:
        ending.finish(transaction, event_id, "succeeded", now=now, result="waiting")
        return {"state": "waiting", "detail": NO_ADDRESS}
    ending.finish(transaction, event_id, "succeeded", now=now, result="applied")
    return {"state": "applied", "detail": None, "last_applied_at": now}
