"""Carries out one operation against Auth0, and nothing else: names to ids, arguments, the call."""

from __future__ import annotations

import asyncio
import secrets
import smtplib
import string
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, Final, Protocol

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.memberships import Memberships
from service.mail import Mailer, NotTaken, invitation
from service.provisioning import operations as op
from service.provisioning.observed import MARKER
from service.provisioning.turn import Step

_ALPHABET: Final = string.ascii_letters + string.digits + "-_.!*"


def unknowable_password() -> str:
    """A password for the moment of creation: 64 random characters, kept by nobody."""
    # One of each class, since connections may insist on them.
    fixed = "aA1!"
    return fixed + "".join(secrets.choice(_ALPHABET) for _ in range(60))


class Names:
    """Organization and role names of one tenant to their ids, looked up once and remembered.

    Whoever asks while the answer is on its way waits for that one.
    """

    def __init__(self, client: Auth0Client) -> None:
        self._client = client
        self._organizations: dict[str, str] = {}
        self._roles: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Task[Answer]] = {}

    async def organization(self, name: str, *, leaver: bool) -> str | Answer:
        """The id, or the answer that says why there is none."""
        if name not in self._organizations:
            # A leaver does not wait for a call that has a joiner's rank.
            look = self._look_up(name, leaver=leaver)
            answer = await (look if leaver else self._together(f"organization {name}", look))
            if answer.verdict != "ok":
                return answer
            self._organizations[name] = answer.data["id"]
        return self._organizations[name]

    def forget_organization(self, name: str) -> None:
        self._organizations.pop(name, None)

    async def roles(self, names: tuple[str, ...]) -> list[str] | Answer:
        """The ids of all of them, or the answer that says why not."""
        if not set(names) <= set(self._roles):
            answer = await self._together("roles", self._list_roles())
            if answer.verdict != "ok":
                return answer
        missing = [name for name in names if name not in self._roles]
        if missing:
            return Answer(verdict="not-found", status=404, message=f"no role named {missing[0]}")
        return [self._roles[name] for name in names]

    async def give_up(self) -> None:
        """Ends what is still being looked up: nobody waits for it any more."""
        asked = list(self._under_way.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    async def _look_up(self, name: str, *, leaver: bool) -> Answer:
        return await self._client.organization_by_name(name, leaver=leaver)

    async def _list_roles(self) -> Answer:
        answer = Answer(verdict="ok")
        for page in range(10):
            answer = await self._client.roles(page)
            if answer.verdict != "ok":
                break
            self._roles |= {role["name"]: role["id"] for role in answer.data}
            if len(answer.data) < 100:
                break
        return answer

    async def _together(self, what: str, ask: Coroutine[Any, Any, Answer]) -> Answer:
        task = self._under_way.get(what)
        if task is not None:
            ask.close()
        else:
            task = self._under_way[what] = asyncio.create_task(ask)
            task.add_done_callback(lambda _: self._under_way.pop(what, None))
            if (asker := asyncio.current_task()) is not None:
                self._client.stand_for(task, asker)
        return await asyncio.shield(task)


class MailRecord(Protocol):
    """Keeps durably that a mail is about to go out."""

    async def intend(self) -> bool:
        """False: it was intended before, do not send it."""
        ...

    async def withdraw(self) -> None:
        """It has certainly not gone out."""
        ...


class Performer:
    """Carries out operations in one tenant."""

    def __init__(self, client: Auth0Client, *, mailer: Mailer, sender: str) -> None:
        self.client = client
        self._names = Names(client)
        self._memberships = Memberships(client)
        self._mailer = mailer
        self._sender = sender

    def crowd(self, crowded: bool, *, at_work: int) -> None:
        """Says whether more accounts wait than are worked: then requests wait to be full.

        ``at_work``: how many accounts are; where all of them wait for requests, nobody joins them.
        """
        self._memberships.crowded = crowded and at_work > self._memberships.gathered

    def recall(self, task: asyncio.Task[Any]) -> None:
        """Withholds the call for which this task waits, and all that it would make later."""
        self.client.recall(task)
        self._memberships.recall(task)

    async def give_up(self) -> None:
        """Ends requests for which nobody waits any more."""
        await self._memberships.close()
        await self._names.give_up()

    async def perform(self, step: Step, record: MailRecord, *, leaver: bool) -> Answer:
        """Makes the call. ``record``: where a mail is written down before it goes out."""
        operation, user_id = step.operation, step.account.user_id
        client = self.client
        match operation:
            case op.ReadUser():
                return await client.get_user(user_id, leaver=leaver)
            case op.FindByEmail():
                return await client.users_by_email(operation.email, leaver=leaver)
            case op.ReadMemberships():
                return await client.organizations_of(user_id, leaver=leaver)
            case op.CreateUser():
                return await client.create_user(**self._new_user(step, operation))
            case op.MarkAccount():
                marker = {MARKER: {"account": step.account.id}}
                return await client.update_user(user_id, app_metadata=marker)
            case op.UpdateProfile():
                changes: dict[str, Any] = dict(operation.changes)
                return await client.update_user(user_id, **changes)
            case op.ChangeEmail():
                return await client.update_user(
                    user_id,
                    email=operation.email,
                    email_verified=operation.email_verified,
                    verify_email=False,
                    connection=step.account.connection,
                )
            case op.Block():
                return await client.update_user(user_id, blocked=True, leaver=leaver)
            case op.Unblock():
                return await client.update_user(user_id, blocked=False)
            case op.RevokeAccess():
                return await client.revoke_access(user_id, leaver=leaver)
            case op.DeleteUser():
                return await client.delete_user(user_id, leaver=leaver)
            case op.SendTicket():
                return await self._send_ticket(step, operation, record)
            case op.AddMember() | op.RemoveMember() | op.AddRoles() | op.RemoveRoles():
                return await self._membership(operation, user_id, leaver=leaver)

    def _new_user(self, step: Step, operation: op.CreateUser) -> dict[str, Any]:
        named = {name: value for name, value in asdict(operation.profile).items() if value}
        return named | {
            "connection": step.account.connection,
            "user_id": step.account.user_id.removeprefix("auth0|"),
            "email": operation.email,
            "email_verified": operation.email_verified,
            "verify_email": False,  # else Auth0 mails the person, and we do too
            "password": unknowable_password(),
            "app_metadata": {MARKER: {"account": step.account.id}},
        }

    async def _membership(
        self,
        operation: op.AddMember | op.RemoveMember | op.AddRoles | op.RemoveRoles,
        user_id: str,
        *,
        leaver: bool,
    ) -> Answer:
        organization = await self._names.organization(operation.organization, leaver=leaver)
        if isinstance(organization, Answer):
            return organization
        match operation:
            case op.AddMember():
                answer = await self._memberships.add(organization, user_id, leaver=leaver)
            case op.RemoveMember():
                answer = await self._memberships.remove(organization, user_id, leaver=leaver)
            case op.AddRoles() | op.RemoveRoles():
                ids = await self._names.roles(operation.roles)
                if isinstance(ids, Answer):
                    return ids
                call = (
                    self.client.add_roles
                    if isinstance(operation, op.AddRoles)
                    else self.client.remove_roles
                )
                answer = await call(organization, user_id, ids)
        if answer.verdict == "not-found":
            # The Organization may have been made anew under its name.
            self._names.forget_organization(operation.organization)
        return answer

    async def _send_ticket(
        self, step: Step, operation: op.SendTicket, record: MailRecord
    ) -> Answer:
        """Gets the link, records that a mail is about to go out, hands it over.

        A ticket that nobody mails harms nobody, so everything before the record may be repeated.
        """
        answer = await self.client.password_ticket(step.account.user_id)
        if answer.verdict != "ok":
            return answer
        message = invitation(
            sender=self._sender,
            to=operation.email,
            organization=step.organization,
            link=answer.data["ticket"],
        )
        if not await record.intend():
            return Answer(verdict="doubtful", message="this mail was intended before")
        try:
            await self._mailer.send(message)
        except NotTaken as error:
            await record.withdraw()
            if error.for_good:
                return Answer(verdict="refused", code="mail_refused", message=str(error))
            return Answer(verdict="unreachable", message=f"mail server: {error}")
        except (OSError, smtplib.SMTPException) as error:
            # Recorded as intended: the next turn flags it and never repeats it.
            return Answer(verdict="doubtful", message=f"mail server: {type(error).__name__}")
        return Answer(verdict="ok", status=201)
