"""Effects as outcomes: each under the user whose wish it fulfils, caused by that user's newest event.

Decides who is named: nobody, unless the organization asks for it (``outcomes: full``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from service.directory import events, ledger, organizations, outbox, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.directory.ledger import Sent
from service.directory.told import by_column, input_of, latency_of
from service.organizations import Organization
from service.outcomes.data import (
    Effect,
    InvitationExpired,
    InvitationSent,
    MembershipAdded,
    MembershipRemoved,
    Person,
    RolesChanged,
    UserAdopted,
    UserCreated,
    UserDeleted,
    UserUpdated,
)
from service.people import User, profile_of, worker_attribute
from service.provisioning.operations import Subject

_OPAQUE: Final = re.compile(r"auth0\|([0-9a-f]{24}|[0-9a-f]{32})")
"""Ids that Auth0 or we have drawn. Those of other connections may be made of names."""
_NAMING: Final = (
    UserCreated,
    UserAdopted,
    UserUpdated,
    UserDeleted,
    MembershipAdded,
    MembershipRemoved,
    RolesChanged,
)


def tell(
    transaction: Transaction,
    subject: Subject,
    account: Account,
    told: Sequence[Effect],
    now: datetime,
) -> None:
    for effect in told:
        _emit(transaction, subject, account, effect, now)


def _emit(
    transaction: Transaction, subject: Subject, account: Account, effect: Effect, now: datetime
) -> None:
    """An effect, caused by the newest event of the user whose wish it fulfils."""
    user = people.get(transaction, subject.user_id)
    cause = user.last_event_id if user is not None else None
    event = events.get(transaction, cause) if cause is not None else None
    row = by_column(event) if event is not None else None
    registered = organizations.find(transaction, subject.organization)
    organization = registered.organization if registered is not None else None
    outbox.emit(
        transaction,
        replace(
            named(effect, user, organization, account.user_id),
            attempts=account.attempts + 1,
            event=input_of(row) if row is not None else None,
            latency_ms=latency_of(row, now) if row is not None else None,
        ),
        now=now,
        organization=subject.organization,
        user_id=subject.user_id,
        event_id=cause,
        correlation_id=event.correlation_id if event is not None else None,
        traceparent=event.traceparent if event is not None else None,
        tracestate=event.tracestate if event is not None else None,
        auth0_user_id=account.user_id,
    )


def named(
    effect: Effect, user: User | None, organization: Organization | None, auth0_user_id: str
) -> Effect:
    """The effect with all that the organization wants to be told of the person, and no more."""
    full = organization is not None and organization.outcomes == "full"
    if full or _OPAQUE.fullmatch(auth0_user_id):
        effect = replace(effect, auth0_user_id=auth0_user_id)
    if isinstance(effect, UserUpdated) and not full:
        effect = replace(effect, values=None)
    if full and user is not None and organization is not None and isinstance(effect, _NAMING):
        effect = replace(effect, user=person_of(user, organization, auth0_user_id))
    return effect


def person_of(user: User, organization: Organization, auth0_user_id: str) -> Person:
    """Who it is, by both sources."""
    profile = profile_of(user, organization)
    return Person(
        user_name=(user.resource or {}).get("userName") or worker_attribute(user, "user_name"),
        email=user.identifier,
        given_name=profile.given_name,
        family_name=profile.family_name,
        name=profile.name,
        external_id=user.external_id,
        worker_id=user.worker_id,
        auth0_user_id=auth0_user_id,
    )


def flag_doubtful_mails(transaction: Transaction, account: Account, now: datetime) -> None:
    """A mail that may or may not have gone out is not repeated: an operator is told."""
    for organization, user_id, way in ledger.doubt(transaction, account.id, now):
        doubtful = InvitationSent(by=way, delivery="doubtful")
        subject = Subject(organization=organization, user_id=user_id)
        _emit(transaction, subject, account, doubtful, now)


def tell_expired(
    transaction: Transaction, account: Account, invitations: Sequence[Sent], now: datetime
) -> None:
    """Invitations that nobody accepted in time, each told of once."""
    expired = [each for each in invitations if each.open_until <= now]
    ledger.end(transaction, {each.id: "expired" for each in expired}, now)
    for each in expired:
        subject = Subject(organization=each.organization, user_id=each.user_id)
        _emit(transaction, subject, account, InvitationExpired(), now)
