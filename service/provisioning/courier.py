"""Sends what must not go out twice: records that it is about to, hands it over, and takes the record
back where it has certainly not gone out.
"""

from __future__ import annotations

import smtplib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.mail import Mail, Mailer, NotTaken
from service.organizations import MARKER
from service.provisioning import operations as op
from service.provisioning.names import Names
from service.provisioning.turn import Step


class MailRecord(Protocol):
    """Keeps durably that a mail is about to go out."""

    async def intend(self) -> bool:
        """False: it was intended before, do not send it."""
        ...

    async def withdraw(self) -> None:
        """It has certainly not gone out."""
        ...


class Courier:
    """Sends in one tenant's name. ``sender``: the ``From`` of our own mails."""

    def __init__(self, client: Auth0Client, names: Names, *, mailer: Mailer, sender: str) -> None:
        self._client = client
        self._names = names
        self._mailer = mailer
        self._sender = sender

    async def send(self, step: Step, operation: op.Sending, record: MailRecord) -> Answer:
        match operation:
            case op.SendTicket():
                return await self._ticket(step, operation, record)
            case op.SendResetMail():
                return await self._reset_mail(step, operation, record)
            case op.SendInvitation():
                return await self._invitation(step, operation, record)

    async def _ticket(self, step: Step, operation: op.SendTicket, record: MailRecord) -> Answer:
        """A ticket that nobody mails harms nobody, so everything before the record may be repeated."""
        client = self._client.branded(step.desired.custom_domain)
        answer = await client.password_ticket(
            step.account.user_id, seconds=int(operation.lifetime.total_seconds())
        )
        if answer.verdict != "ok":
            return answer
        mail = Mail(
            id=step.intent().id,
            sender=self._sender,
            to=operation.email,
            organization=step.organization,
            link=answer.data["ticket"],
            expires_at=step.at + operation.lifetime,
        )
        if not await record.intend():
            return _BEFORE
        try:
            await self._mailer.send(mail)
        except NotTaken as error:
            await record.withdraw()
            if error.for_good:
                return Answer(verdict="refused", code="mail_refused", message=str(error))
            return Answer(verdict="unreachable", message=f"mail server: {error}")
        except (OSError, smtplib.SMTPException) as error:
            # Recorded as intended: the next turn flags it and never repeats it.
            return Answer(verdict="doubtful", message=f"mail server: {type(error).__name__}")
        return Answer(verdict="ok", status=201)

    async def _reset_mail(
        self, step: Step, operation: op.SendResetMail, record: MailRecord
    ) -> Answer:
        organization = await self._names.organization(operation.organization, leaver=False)
        if isinstance(organization, Answer):
            return organization
        client = self._client.branded(step.desired.custom_domain)
        answer = await _recorded(
            record,
            lambda before: client.reset_mail(
                application=operation.application,
                email=operation.email,
                connection=step.account.connection,
                organization_id=organization,
                before=before,
            ),
        )
        if answer.verdict == "refused":
            self._names.doubt([organization])
        return answer

    async def _invitation(
        self, step: Step, operation: op.SendInvitation, record: MailRecord
    ) -> Answer:
        organization = await self._names.organization(
            operation.organization, entering=operation.subject.organization
        )
        if isinstance(organization, Answer):
            return organization
        connection = await self._names.connection(step.account.connection)
        if isinstance(connection, Answer):
            return connection
        roles = await self._names.roles(operation.roles)
        if isinstance(roles, Answer):
            return roles
        marker = {
            "account": step.account.id,
            "invitation": step.intent().id,
            "organization": operation.organization,
            "roles": list(operation.roles),
        }
        fields: dict[str, Any] = {
            "inviter": {"name": operation.inviter},
            "invitee": {"email": operation.email},
            "client_id": operation.application,
            "connection_id": connection,
            "ttl_sec": int(operation.lifetime.total_seconds()),
            "app_metadata": {MARKER: marker},
        }
        client = self._client.branded(step.desired.custom_domain)
        answer = await _recorded(
            record,
            lambda before: client.create_invitation(
                organization, before=before, **fields, **({"roles": roles} if roles else {})
            ),
        )
        if answer.verdict in ("not-found", "refused"):
            self._names.doubt([organization, connection, *roles])
        return answer


_BEFORE = Answer(verdict="doubtful", message="this mail was intended before")


async def _recorded(
    record: MailRecord, call: Callable[[Callable[[], Awaitable[bool]]], Awaitable[Answer]]
) -> Answer:
    """Makes a call that mails. Its intent is recorded once, when its turn among the calls has come."""
    intended: bool | None = None

    async def before() -> bool:
        nonlocal intended
        if intended is None:
            intended = await record.intend()
        return intended

    answer = await call(before)
    if intended and answer.verdict not in ("ok", "doubtful"):
        await record.withdraw()
    return answer
