"""Carries out one operation against Auth0, and nothing else: names to ids, arguments, the call."""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from service.auth0.answers import Answer
from service.auth0.client import Auth0Client
from service.auth0.memberships import Memberships
from service.mail import Mailer
from service.organizations import LISTED, MARKER
from service.provisioning import operations as op
from service.provisioning.courier import Courier, MailRecord
from service.provisioning.names import Names
from service.provisioning.turn import Step

_Membership = op.AddMember | op.RemoveMember | op.ReadRoles | op.AddRoles | op.RemoveRoles
_ALPHABET: Final = string.ascii_letters + string.digits + "-_.!*"


def unknowable_password() -> str:
    """A password for the moment of creation: 64 random characters, kept by nobody."""
    # One of each class, since connections may insist on them.
    fixed = "aA1!"
    return fixed + "".join(secrets.choice(_ALPHABET) for _ in range(60))


class Performer:
    """Carries out operations in one tenant."""

    def __init__(
        self, client: Auth0Client, *, mailer: Mailer, sender: str, full_again: float = 15.0
    ) -> None:
        """``full_again``: seconds until an Organization that was full is asked again."""
        self.client = client
        self._names = Names(client)
        self._memberships = Memberships(client, full_again=full_again)
        self._courier = Courier(client, self._names, mailer=mailer, sender=sender)

    def crowd(self, crowded: bool, *, at_work: int) -> None:
        """Says whether more accounts wait than are worked: then requests wait to be full.

        ``at_work``: how many accounts are; where all of them wait for requests, nobody joins them.
        """
        self._memberships.crowded = crowded and at_work > self._memberships.gathered

    def recall(self, task: asyncio.Task[Any]) -> None:
        """Withholds the call for which this task waits, and all that it would make later."""
        self.client.recall(task)
        self._memberships.recall(task)
        self._names.recall(task)

    async def give_up(self) -> None:
        """Ends requests for which nobody waits any more."""
        await self._memberships.close()
        await self._names.give_up()

    async def perform(self, step: Step, record: MailRecord, *, leaver: bool) -> Answer:
        """Makes the call. ``record``: where a mail is written down before it goes out."""
        operation, user_id = step.operation, step.account.user_id
        client = self.client.branded(step.desired.custom_domain)
        match operation:
            case op.ReadUser():
                return await client.get_user(user_id, leaver=leaver)
            case op.FindByEmail():
                return await self._find(client, step, operation, leaver=leaver)
            case op.ReadAppeared():
                return await client.get_user(operation.user_id, leaver=leaver)
            case op.FindIdentity():
                identity = user_id.partition("|")[2]
                return await client.users_with_identity([identity], leaver=leaver)
            case op.ReadMemberships():
                return await client.organizations_of(user_id, leaver=leaver)
            case op.CreateUser():
                return await client.create_user(**self._new_user(step, operation))
            case op.MarkAccount():
                marker: dict[str, Any] = {MARKER: {"account": step.account.id}}
                if operation.listed is not None:
                    marker[LISTED] = list(operation.listed)
                return await client.update_user(user_id, app_metadata=marker)
            case op.ListOrganizations():
                listed = {LISTED: list(operation.listed)}
                return await client.update_user(user_id, app_metadata=listed, leaver=leaver)
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
            case op.SendTicket() | op.SendResetMail() | op.SendInvitation():
                return await self._courier.send(step, operation, record)
            case op.FindInvitations() | op.WithdrawInvitation():
                return await self._invitations(operation, leaver=leaver)
            case (
                op.AddMember()
                | op.RemoveMember()
                | op.ReadRoles()
                | op.AddRoles()
                | op.RemoveRoles()
            ):
                return await self._membership(operation, user_id, leaver=leaver)

    async def _find(
        self, client: Auth0Client, step: Step, operation: op.FindByEmail, *, leaver: bool
    ) -> Answer:
        """By address, as it is in databases and then as the sources write it; at last by identity."""
        answer = await client.users_by_email(operation.email, leaver=leaver)
        connection = step.account.connection
        for address in operation.spellings:
            if answer.verdict != "ok" or _is_among(answer.data, connection):
                return answer
            answer = await client.users_by_email(address, leaver=leaver)
        if (
            answer.verdict != "ok"
            or _is_among(answer.data, connection)
            or not (operation.stable_ids and step.account.looked)
        ):
            return answer
        identities = [each for id in operation.stable_ids for each in (id, f"{connection}|{id}")]
        searched = await client.users_with_identity(identities, leaver=leaver)
        # Some ids are nothing that Auth0 can search for.
        return answer if searched.verdict == "refused" else searched

    def _new_user(self, step: Step, operation: op.CreateUser) -> dict[str, Any]:
        named = {name: value for name, value in asdict(operation.profile).items() if value}
        return named | {
            "connection": step.account.connection,
            "user_id": step.account.user_id.removeprefix("auth0|"),
            "email": operation.email,
            "email_verified": operation.email_verified,
            "verify_email": False,  # else Auth0 mails the person, and we do too
            "password": unknowable_password(),
            "app_metadata": {MARKER: {"account": step.account.id}}
            | ({LISTED: list(operation.listed)} if operation.listed else {}),
        }

    async def _invitations(
        self, operation: op.FindInvitations | op.WithdrawInvitation, *, leaver: bool
    ) -> Answer:
        organization = await self._names.organization(operation.organization, leaver=leaver)
        if isinstance(organization, Answer):
            return organization
        if isinstance(operation, op.FindInvitations):
            return await self.client.invitations(organization, leaver=leaver)
        return await self.client.delete_invitation(organization, operation.reference, leaver=leaver)

    async def _membership(
        self,
        operation: _Membership,
        user_id: str,
        *,
        leaver: bool,
    ) -> Answer:
        named = await self._ids(operation, leaver=leaver)
        if isinstance(named, Answer):
            return named
        answer = await self._ask(operation, named, user_id, leaver=leaver)
        if answer.verdict == "refused":
            self._names.doubt(named)
        if answer.verdict != "not-found" or answer.code == "inexistent_user":
            return answer
        # What was made anew under its name has another id; its members and roles are still there.
        self._names.forget(named)
        again = await self._ids(operation, leaver=leaver)
        if isinstance(again, Answer):
            return again
        return (
            answer if again == named else await self._ask(operation, again, user_id, leaver=leaver)
        )

    async def _ids(self, operation: _Membership, *, leaver: bool) -> list[str] | Answer:
        """Of the Organization, and of the roles; or the answer that says why there are none."""
        enters = isinstance(operation, op.AddMember | op.AddRoles)
        entering = operation.subject.organization if enters else ""
        organization = await self._names.organization(
            operation.organization, leaver=leaver, entering=entering
        )
        if isinstance(organization, Answer):
            return organization
        if isinstance(operation, op.AddMember | op.RemoveMember | op.ReadRoles):
            return [organization]
        roles = await self._names.roles(operation.roles)
        return roles if isinstance(roles, Answer) else [organization, *roles]

    async def _ask(
        self, operation: _Membership, named: list[str], user_id: str, *, leaver: bool
    ) -> Answer:
        organization, *roles = named
        match operation:
            case op.AddMember():
                return await self._memberships.add(organization, user_id, leaver=leaver)
            case op.RemoveMember():
                return await self._memberships.remove(organization, user_id, leaver=leaver)
            case op.ReadRoles():
                return await self.client.member_roles(organization, user_id)
            case op.AddRoles():
                return await self.client.add_roles(organization, user_id, roles)
            case op.RemoveRoles():
                return await self.client.remove_roles(organization, user_id, roles, leaver=leaver)


def _is_among(users: Sequence[Mapping[str, Any]], connection: str) -> bool:
    """Whether one of these users is in the connection."""
    identities = (each for user in users for each in user.get("identities") or ())
    return any(each.get("connection") == connection for each in identities)
