"""Effects as outcomes: each under the user whose wish it fulfils, caused by that user's newest event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from service.directory import inbox, ledger, outbox, people
from service.directory.accounts import Account
from service.directory.database import Transaction
from service.provisioning.effects import Told
from service.provisioning.operations import Subject


def tell(transaction: Transaction, subject: Subject, told: Sequence[Told], now: datetime) -> None:
    for outcome in told:
        _emit(transaction, subject, outcome, now)


def _emit(transaction: Transaction, subject: Subject, told: Told, now: datetime) -> None:
    """An effect, caused by the newest event of the user whose wish it fulfils."""
    user = people.get(transaction, subject.user_id)
    cause = user.last_event_id if user is not None else None
    event = inbox.get(transaction, cause) if cause is not None else None
    outbox.emit(
        transaction,
        told.outcome,
        now=now,
        organization=subject.organization,
        user_id=subject.user_id,
        event_id=cause,
        correlation_id=event.correlation_id if event is not None else None,
        traceparent=event.traceparent if event is not None else None,
        data=told.data,
    )


def flag_doubtful_mails(transaction: Transaction, account: Account, now: datetime) -> None:
    """A mail that may or may not have gone out is not repeated: an operator is told."""
    for organization, user_id in ledger.doubt(transaction, account.id, now):
        told = Told(
            outcome="invitation.sent",
            data={"auth0UserId": account.user_id, "by": "ticket", "delivery": "doubtful"},
        )
        _emit(transaction, Subject(organization=organization, user_id=user_id), told, now)
